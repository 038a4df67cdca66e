/* Which tasks need a block: for each block three pairing heaps of links, one for each class that
 * matters now, so that the next use of a block is at hand whatever the number of its users. */
#include "worker/flow/internal.h"

static struct flow_link *meld(struct flow_link *a, struct flow_link *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (flow_after(a->at, b->at)) {
        struct flow_link *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL) {
        a->child->prev = b;
    }
    a->child = b;
    a->next = a->prev = NULL;
    return a;
}

/* Siblings are paired from left to right, and the pairs joined from right to left. */
static struct flow_link *combine(struct flow_link *first)
{
    struct flow_link *pairs = NULL;
    while (first != NULL) {
        struct flow_link *a = first;
        struct flow_link *b = a->next;
        first = b == NULL ? NULL : b->next;
        a->next = a->prev = NULL;
        if (b != NULL) {
            b->next = b->prev = NULL;
        }
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct flow_link *root = NULL;
    while (pairs != NULL) {
        struct flow_link *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = meld(root, pair);
    }
    return root;
}

static void heap_remove(struct flow_link **root, struct flow_link *link)
{
    struct flow_link *children = combine(link->child);
    if (*root == link) {
        *root = children;
    } else {
        if (link->prev->child == link) {
            link->prev->child = link->next;
        } else {
            link->prev->next = link->next;
        }
        if (link->next != NULL) {
            link->next->prev = link->prev;
        }
        *root = meld(*root, children);
    }
    link->child = link->next = link->prev = NULL;
}

void tessi_flow_link_walk(const struct flow_link *root, void (*visit)(void *context, const struct flow_link *link),
                          void *context)
{
    const struct flow_link *link = root;
    while (link != NULL) {
        visit(context, link);
        if (link->child != NULL) {
            link = link->child;
            continue;
        }
        while (link != root && link->next == NULL) {
            while (link->prev->child != link) {
                link = link->prev;
            }
            link = link->prev;
        }
        link = link == root ? NULL : link->next;
    }
}

void tessi_flow_link_set(struct tessi_flow *flow, struct flow_link *link, enum flow_class class)
{
    if (link->class == class) {
        return;
    }
    struct flow_block *block = flow_block(flow, link->block);
    if (link->class < FLOW_CLASSES) {
        heap_remove(&block->root[link->class], link);
    } else if (link->class == FLOW_GONE) {
        block->users++;
        if (block->mapped) {
            tessi_flow_lease_wake(flow, link->block);
        }
    }
    link->class = class;
    if (class < FLOW_CLASSES) {
        block->root[class] = meld(block->root[class], link);
    } else if (class == FLOW_GONE) {
        block->users--;
        if (block->users == 0 && !(block->owned && block->state == FLOW_LOCAL)) {
            tessi_flow_check(flow, link->block);
        }
    }
    if (flow_block_bringable(block)) {
        tessi_flow_block_file(flow, link->block);
    }
    tessi_flow_block_touch(flow, link->block);
}

static void wake(void *context, const struct flow_link *link)
{
    struct tessi_flow *flow = context;
    struct flow_task *task = flow_task(flow, link->task);
    TESS_ASSERT(task->missing > 0);
    if (--task->missing == 0) {
        tessi_flow_task_ready(flow, link->task);
    }
}

static void unwake(void *context, const struct flow_link *link)
{
    struct tessi_flow *flow = context;
    struct flow_task *task = flow_task(flow, link->task);
    if (task->missing++ == 0) {
        tessi_flow_task_unready(flow, link->task);
    }
}

/* Links of these two classes are those of their tasks' next steps. */
void tessi_flow_users_wake(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_link_walk(block->root[FLOW_STARTED], wake, flow);
    tessi_flow_link_walk(block->root[FLOW_WAITING], wake, flow);
}

void tessi_flow_users_unwake(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_link_walk(block->root[FLOW_STARTED], unwake, flow);
    tessi_flow_link_walk(block->root[FLOW_WAITING], unwake, flow);
}

void tessi_flow_task_aim(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_task *task = flow_task(flow, handle);
    enum flow_class demand = task->started ? FLOW_STARTED : FLOW_WAITING;
    uint32_t i = task->demand_at;
    task->missing = 0;
    for (; i < task->link_count && task->links[i].step == task->next_step; i++) {
        tessi_flow_link_set(flow, &task->links[i], demand);
        task->missing += flow_block(flow, task->links[i].block)->readable ? 0 : 1;
    }
    if (i < task->ahead_at) {
        i = task->ahead_at;
    }
    uint64_t horizon = (uint64_t)task->next_step + flow->config.window;
    for (; i < task->link_count && task->links[i].step < horizon; i++) {
        tessi_flow_link_set(flow, &task->links[i], FLOW_AHEAD);
    }
    task->ahead_at = i;
}
