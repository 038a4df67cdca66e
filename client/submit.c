#include "client/submit.h"

#include <stdio.h>
#include <string.h>

#include "client/link.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

#define PACKING 3 /* times the bytes of what is packed, while the message grows */
#define SERVED_KEPT 128 /* names of a client's data that are remembered before it is looked which are needed */

/* Whether the cluster has the node's blocks or is making them. */
static bool is_held(const struct tess_session *session, const struct tessi_node *node)
{
    return node->held != 0 && (session->link == NULL || tessi_link_layer_status(session->link, node->held) == TESSI_OK);
}

enum tessi_status tessi_plan_starved(struct tessi_error *error)
{
    return tessi_fail(error, TESSI_NOMEM,
                      "out of memory: nothing was computed; release arrays, or read and persist less at a time");
}

/* What a copy of the layer takes, and about what it takes in a message. */
static size_t layer_bytes(const struct tessi_layer *layer)
{
    size_t bytes = sizeof *layer + layer->ninputs * sizeof *layer->input;
    const struct tessi_grid *grid = &layer->grid;
    for (uint32_t i = 0; i <= layer->ninputs; i++) {
        for (uint32_t d = 0; d < grid->ndim; d++) {
            bytes += grid->axis[d].bounds != NULL ? (size_t)(grid->axis[d].count + 1) * sizeof(int64_t) : 0;
        }
        grid = i < layer->ninputs ? &layer->input[i].grid : grid;
    }
    return bytes;
}

/* False: there is no memory for it. */
static bool add_entry(struct tessi_plan *plan, struct tess_session *session, struct tessi_node *node)
{
    if (!tessi_memory_ready(layer_bytes(node->layer)) ||
        !tessi_try_grow(&plan->entries, &plan->capacity, plan->count + 1, sizeof *plan->entries)) {
        return false;
    }
    struct tessi_plan_entry *entry = &plan->entries[plan->count];
    *entry = (struct tessi_plan_entry){.node = node};
    if (is_held(session, node)) {
        entry->id = node->held;
    } else {
        if (node->detached && plan->lost.status == TESSI_OK) {
            (void)tessi_link_layer_failure(session->link, node->held, &plan->lost);
        }
        entry->layer = tessi_layer_copy(node->layer);
        if (!node->scheduled) {
            entry->layer->wishes = session->wishes;
        }
        if (entry->layer->op == TESSI_OP_RECEIVE) {
            entry->layer->wishes.demand = (struct tessi_resources){0}; /* nothing runs: the data come from here */
        }
        for (uint32_t i = 0; i < node->layer->ninputs; i++) {
            entry->input[i] = node->input[i]->position;
            plan->entries[entry->input[i]].consumers++;
        }
    }
    node->position = (uint32_t)plan->count++;
    return true;
}

struct visit {
    struct tessi_node *node;
    uint32_t next; /* input to look at */
};

/* Inputs before readers, in the order of operands: the order of layers is part of what fixes the schedule. */
static bool collect(struct tess_session *session, struct tessi_node *root, struct tessi_plan *plan)
{
    struct visit *stack = NULL;
    size_t count = 0;
    size_t capacity = 0;
    if (root->mark == session->mark) {
        return true;
    }
    tessi_grow(&stack, &capacity, 1, sizeof *stack);
    stack[count++] = (struct visit){root, 0};
    root->mark = session->mark;
    while (count > 0) {
        struct visit *top = &stack[count - 1];
        struct tessi_node *node = top->node;
        if (top->next < node->layer->ninputs && !is_held(session, node)) {
            struct tessi_node *input = node->input[top->next++];
            if (input->mark != session->mark) {
                input->mark = session->mark;
                if (!tessi_try_grow(&stack, &capacity, count + 1, sizeof *stack)) {
                    break;
                }
                stack[count++] = (struct visit){input, 0};
            }
            continue;
        }
        if (!add_entry(plan, session, node)) {
            break;
        }
        count--;
    }
    tessi_free(stack);
    return count == 0;
}

/* What has no name is called by what it is for: of the layers of an array with a name, people know the last only. */
static void pass_names_on(struct tessi_plan *plan)
{
    static const char prefix[] = "for ";
    for (size_t i = plan->count; i-- > 0;) {
        const struct tessi_plan_entry *entry = &plan->entries[i];
        if (entry->gone || entry->layer == NULL || entry->layer->name == NULL) {
            continue;
        }
        bool passed = strncmp(entry->layer->name, prefix, sizeof prefix - 1) == 0;
        char name[TESSI_LAYER_NAME_MAX + 1];
        (void)snprintf(name, sizeof name, "%s%s", passed ? "" : prefix, entry->layer->name);
        for (uint32_t n = 0; n < entry->layer->ninputs; n++) {
            struct tessi_layer *input = plan->entries[entry->input[n]].layer;
            if (input != NULL && input->name == NULL) {
                tessi_layer_set_name(input, name);
            }
        }
    }
}

enum tessi_status tessi_plan_make(struct tess_session *session, struct tessi_node *const *nodes, size_t count,
                                  struct tessi_plan *plan, struct tessi_error *error)
{
    *plan = (struct tessi_plan){0};
    tessi_session_take_detached(session);
    session->mark++;
    for (size_t i = 0; i < count; i++) {
        if (!collect(session, nodes[i], plan)) {
            tessi_plan_fini(plan);
            return tessi_plan_starved(error);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct tessi_plan_entry *entry = &plan->entries[nodes[i]->position];
        entry->wanted = entry->layer != NULL;
    }
    tessi_plan_fuse(plan);
    pass_names_on(plan);
    for (size_t i = 0; i < plan->count; i++) {
        struct tessi_plan_entry *entry = &plan->entries[i];
        if (entry->gone || entry->layer == NULL) {
            continue;
        }
        entry->id = ++session->next_layer;
        entry->layer->id = entry->id;
        for (uint32_t input = 0; input < entry->layer->ninputs; input++) {
            entry->layer->input[input].layer = plan->entries[entry->input[input]].id;
        }
    }
    return TESSI_OK;
}

void tessi_plan_fini(struct tessi_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        tessi_layer_destroy(plan->entries[i].layer);
    }
    tessi_free(plan->entries);
    *plan = (struct tessi_plan){0};
}

uint32_t tessi_plan_id(const struct tessi_plan *plan, const struct tessi_node *node)
{
    TESS_ASSERT(node->position < plan->count && plan->entries[node->position].node == node);
    return plan->entries[node->position].id;
}

static void serve(struct tess_session *session, struct tessi_node *node, uint32_t id)
{
    tessi_link_serve(session->link, id, &node->layer->grid, tessi_dtype_size(node->layer->dtype), node->data);
    if (node->served_count >= node->served_limit) { /* those that are not asked for any more are forgotten now and then */
        uint32_t kept = 0;
        for (size_t i = 0; i < node->served_count; i++) {
            if (tessi_link_serves(session->link, node->served[i])) {
                node->served[kept++] = node->served[i];
            }
        }
        node->served_count = kept;
        node->served_limit = 2 * (size_t)kept + SERVED_KEPT;
    }
    tessi_grow(&node->served, &node->served_capacity, node->served_count + 1, sizeof *node->served);
    node->served[node->served_count++] = id;
}

enum tessi_status tessi_plan_submit(struct tess_session *session, struct tessi_plan *plan, struct tessi_error *error)
{
    if (plan->lost.status != TESSI_OK) {
        return tessi_fail(error, plan->lost.status, "%s", plan->lost.text);
    }
    size_t bytes = 0;
    for (size_t i = 0; i < plan->count; i++) {
        bytes += plan->entries[i].layer != NULL ? layer_bytes(plan->entries[i].layer) : 0;
    }
    struct tessi_layer **layers = tessi_try_alloc((plan->count + 1) * sizeof *layers);
    uint32_t *wanted = tessi_try_alloc((plan->count + 1) * sizeof *wanted);
    if (layers == NULL || wanted == NULL || !tessi_memory_ready(PACKING * bytes)) {
        tessi_free(layers);
        tessi_free(wanted);
        return tessi_plan_starved(error);
    }
    size_t layer_count = 0;
    size_t wanted_count = 0;
    for (size_t i = 0; i < plan->count; i++) {
        struct tessi_plan_entry *entry = &plan->entries[i];
        if (entry->gone || entry->layer == NULL) {
            continue;
        }
        entry->layer->session = tessi_link_id(session->link);
        layers[layer_count++] = entry->layer;
        if (entry->wanted) {
            wanted[wanted_count++] = entry->id;
        }
        if (entry->layer->op == TESSI_OP_RECEIVE) {
            serve(session, entry->node, entry->id);
        }
    }
    enum tessi_status status = wanted_count == 0
                                   ? TESSI_OK
                                   : tessi_link_submit(session->link, layers, layer_count, wanted, wanted_count, error);
    for (size_t i = 0; i < plan->count && status != TESSI_OK; i++) {
        if (plan->entries[i].layer != NULL && plan->entries[i].layer->op == TESSI_OP_RECEIVE) {
            tessi_link_unserve(session->link, plan->entries[i].id);
        }
    }
    tessi_free(layers);
    tessi_free(wanted);
    return status;
}
