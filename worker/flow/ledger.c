/* The ledger: what the bytes of a block cost while they are here, in memory and in files. */
#include "worker/flow/internal.h"

void tessi_flow_hold(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(!block->held && flow_charge(flow, block) <= flow->config.memory_bytes - flow->used_bytes);
    block->held = true;
    flow->used_bytes += flow_charge(flow, block);
    flow->peak_bytes = flow->used_bytes > flow->peak_bytes ? flow->used_bytes : flow->peak_bytes;
}

void tessi_flow_unhold(struct tessi_flow *flow, struct flow_block *block)
{
    TESS_ASSERT(block->held && flow->used_bytes >= flow_charge(flow, block));
    block->held = false;
    flow->used_bytes -= flow_charge(flow, block);
}

/* A block whose bytes have left memory goes on to cost what it costs beside them. */
void tessi_flow_set_residue(struct tessi_flow *flow, struct flow_block *block, bool residue)
{
    uint64_t bytes = flow_charge(flow, block) - block->bytes;
    if (residue && !block->residue) {
        flow->used_bytes += bytes;
        flow->residue_bytes += bytes;
    } else if (!residue && block->residue) {
        flow->used_bytes -= bytes;
        flow->residue_bytes -= bytes;
    }
    block->residue = residue;
}

/* Files that could not be written may be tried again: the disk has changed. */
void tessi_flow_retry_failed_spills(struct tessi_flow *flow)
{
    flow->spill_rests = false;
    if (flow->failed_spills.count == 0) {
        return;
    }
    flow->spill_generation++;
    for (size_t i = 0; i < flow->failed_spills.count; i++) {
        if (flow_block(flow, flow->failed_spills.items[i])->live) {
            tessi_flow_block_touch(flow, flow->failed_spills.items[i]);
        }
    }
    flow->failed_spills.count = 0;
}

void tessi_flow_drop_file(struct tessi_flow *flow, struct flow_block *block)
{
    if (block->file) {
        block->file = false;
        flow->spilled_bytes -= block->regenerable ? 0 : block->bytes;
        tessi_flow_retry_failed_spills(flow);
    }
}

void tessi_flow_block_empty(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(block->pins == 0 && block->leases == 0 && !block->busy);
    (void)tessi_flow_act(flow, TESSI_FLOW_FREE_BLOCK, handle);
    if (block->held) {
        tessi_flow_unhold(flow, block);
    }
    tessi_flow_set_residue(flow, block, false);
    flow->mapped_blocks -= block->mapped ? 1 : 0;
    tessi_flow_drop_file(flow, block);
    block->owned = block->mapped = block->revoked = block->lost = block->revoking = false;
    block->away = block->resident = block->fresh = false;
    block->spill_failed = 0;
}
