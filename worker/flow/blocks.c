/* What has become of a block's bytes, and all that follows from it: who is woken, what it costs, in which queues it is. */
#include "worker/flow/internal.h"

#define TO(state) (1u << FLOW_##state)

static const uint32_t allowed[FLOW_STATES] = {
    [FLOW_ABSENT] = TO(LOCATING) | TO(AWAITED) | TO(NOWHERE) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_LOCATING] = TO(ABSENT) | TO(AWAITED) | TO(NOWHERE) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_AWAITED] = TO(ABSENT) | TO(NOWHERE) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_NOWHERE] = TO(ABSENT) | TO(AWAITED) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_UNASKED] = TO(ABSENT) | TO(AWAITED) | TO(NOWHERE) | TO(ASKED) | TO(OFFERED) | TO(UNMADE),
    [FLOW_ASKED] = TO(ABSENT) | TO(UNASKED) | TO(OFFERED) | TO(MAPPED) | TO(LOCAL) | TO(UNMADE),
    [FLOW_OFFERED] = TO(ABSENT) | TO(UNASKED) | TO(PULLING) | TO(LOCAL) | TO(UNMADE) | TO(ASKED),
    [FLOW_PULLING] = TO(ABSENT) | TO(UNASKED) | TO(ASKED) | TO(LOCAL) | TO(ABANDONED),
    [FLOW_MAPPED] = TO(ABSENT) | TO(OFFERED) | TO(ABANDONED),
    [FLOW_UNMADE] = TO(ABSENT) | TO(MAKING) | TO(UNASKED) | TO(OFFERED),
    [FLOW_MAKING] = TO(UNMADE) | TO(LOCAL) | TO(ABANDONED),
    [FLOW_LOCAL] = TO(ABSENT) | TO(OFFERED) | TO(SPILLING) | TO(SPILLED) | TO(ABANDONED),
    [FLOW_SPILLING] = TO(LOCAL) | TO(SPILLED) | TO(ABANDONED),
    [FLOW_SPILLED] = TO(LOADING) | TO(ABANDONED),
    [FLOW_LOADING] = TO(LOCAL) | TO(ABANDONED),
    [FLOW_ABANDONED] = TO(ABSENT) | TO(UNMADE),
};

void tessi_flow_block_move(struct tessi_flow *flow, uint32_t handle, enum flow_state state)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(block->state == state || (allowed[block->state] & (1u << state)) != 0);
    flow->spilled_blocks -= block->state == FLOW_SPILLED ? 1 : 0;
    flow->spilled_blocks += state == FLOW_SPILLED ? 1 : 0;
    if (block->asks_later && state != FLOW_UNASKED) {
        tessi_flow_ask_no_more(flow, handle);
    }
    block->state = state;
    tessi_flow_block_update(flow, handle);
}

/* Sticky bytes can leave memory only through a spill file; going ones leave it without further ado. */
static void adjust(uint64_t *sum, uint64_t bytes, bool *was, bool is)
{
    if (is && !*was) {
        *sum += bytes;
    } else if (!is && *was) {
        *sum -= bytes;
    }
    *was = is;
}

/* A name without bytes, and none on their way: nothing is derived from it, and nothing was. */
static bool plain(const struct flow_block *block)
{
    bool named_only = block->state <= FLOW_ASKED || block->state == FLOW_UNMADE;
    return named_only && !block->held && !block->readable && !block->sticky && !block->going &&
           block->fetch == FLOW_FUTURE && block->reclaim == FLOW_KEPT;
}

void tessi_flow_block_update(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (plain(block)) {
        return;
    }
    bool made_here = block->owned || block->state == FLOW_MAKING ||
                     (block->state == FLOW_PULLING && block->task != FLOW_NONE);
    bool tiny = flow_block_tiny(flow, block);
    bool sticky = block->held && made_here && (tiny || (!block->regenerable && !block->file)) &&
                  block->state != FLOW_ABANDONED;
    bool going = block->held &&
                 (block->state == FLOW_SPILLING || block->state == FLOW_ABANDONED || block->revoking);
    bool readable = block->state == FLOW_LOCAL || block->state == FLOW_SPILLING ||
                    (block->state == FLOW_MAPPED && !block->revoked) || flow_block_promised(flow, block);
    bool owned_sticky = sticky && block->owned, tiny_sticky = sticky && tiny;
    if (sticky != block->sticky || owned_sticky != block->owned_sticky || tiny_sticky != block->tiny_sticky ||
        going != block->going) {
        uint64_t charge = flow_charge(flow, block);
        adjust(&flow->sticky_bytes, charge, &block->sticky, sticky);
        adjust(&flow->owned_sticky_bytes, charge, &block->owned_sticky, owned_sticky);
        adjust(&flow->tiny_sticky_bytes, charge, &block->tiny_sticky, tiny_sticky);
        adjust(&flow->going_bytes, charge, &block->going, going);
    }
    if (block->fetch != FLOW_FUTURE || flow_block_bringable(block)) {
        tessi_flow_block_file(flow, handle);
    }
    tessi_flow_block_touch(flow, handle);
    if (readable != block->readable) {
        block->readable = readable;
        if (readable) {
            tessi_flow_users_wake(flow, handle);
        } else {
            tessi_flow_users_unwake(flow, handle);
        }
    }
}

void tessi_flow_block_abandon(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->leases > 0) {
        tessi_flow_revoke(flow, handle);
    }
    tessi_flow_lease_wake(flow, handle);
    block->owned = false;
    block->copy_known = false;
    tessi_flow_block_move(flow, handle, FLOW_ABANDONED);
    tessi_flow_check(flow, handle);
}

void tessi_flow_revoke(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->revoking) {
        return;
    }
    for (uint32_t tie = block->ties; tie != FLOW_NONE; tie = flow_tie(flow, tie)->block_next) {
        if ((flow_tie(flow, tie)->flags & FLOW_TIE_LEASED) != 0) {
            tessi_flow_act(flow, TESSI_FLOW_SEND_REVOKE, handle)->peer = flow_peer(flow, flow_tie(flow, tie)->peer)->id;
        }
    }
    block->revoking = true;
    tessi_flow_block_update(flow, handle);
}
