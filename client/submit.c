#include "client/submit.h"

#include <stdio.h>
#include <string.h>

#include "client/link.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

#define PACKING 3       /* times the bytes of what is packed, while the message grows */
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
            tessi_layer_set_task_options(entry->layer, &session->task_options);
        }
        if (entry->layer->op == TESSI_OP_RECEIVE && entry->layer->task_options->demand.count > 0) {
            tessi_layer_own_task_options(entry->layer)->demand =
                (struct tessi_resources){0}; /* nothing runs: the data come from here */
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
            entry->layer->reads[input] = plan->entries[entry->input[input]].id;
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
    if (node->served_count >=
        node->served_limit) { /* those that are not asked for any more are forgotten now and then */
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

/* A long plan goes in parts, so that no message is too long and the scheduler never has to take in very many layers at
 * once. What a later part reads of an earlier one is asked for with that and released after its last reader. */
#define PART_LAYERS 4096
#define PART_BYTES                                                                                                     \
    ((uint64_t)8 << 20) /* of descriptions in memory, which are longer than on the wire; but one layer at least */

struct part_of {                /* of an entry of the plan */
    uint32_t part, last_reader; /* parts */
};

struct sending {
    struct tess_session *session;
    struct tessi_plan *plan;
    struct part_of *of; /* by entry, owned */
    uint32_t parts;
    uint32_t request;            /* of the first part */
    struct tessi_layer **layers; /* of the part at hand, as the following; owned */
    uint32_t *wanted;
    size_t layer_count, wanted_count;
    uint32_t *lent; /* entries of parts that have gone, asked for because later ones read them; owned */
    size_t lent_count, lent_capacity;
};

static bool goes(const struct tessi_plan_entry *entry)
{
    return !entry->gone && entry->layer != NULL;
}

/* Returns the bytes of the largest. */
static uint64_t cut_into_parts(struct sending *sending)
{
    const struct tessi_plan *plan = sending->plan;
    uint64_t layers = 0, bytes = 0, most = 0;
    for (size_t e = 0; e < plan->count; e++) {
        const struct tessi_plan_entry *entry = &plan->entries[e];
        if (!goes(entry)) {
            continue;
        }
        uint64_t more = tessi_layer_memory(entry->layer);
        if (layers > 0 && (layers == PART_LAYERS || bytes + more > PART_BYTES)) {
            sending->parts++;
            layers = bytes = 0;
        }
        layers++;
        bytes += more;
        most = bytes > most ? bytes : most;
        sending->of[e] = (struct part_of){sending->parts, sending->parts};
        for (uint32_t i = 0; i < entry->layer->ninputs; i++) {
            sending->of[entry->input[i]].last_reader = sending->parts; /* the latest: parts follow each other */
        }
    }
    sending->parts++;
    return most;
}

/* The layers of a part, from entry `*e` on, and those of them that are asked for. */
static void gather_part(struct sending *sending, uint32_t part, size_t *e)
{
    sending->layer_count = sending->wanted_count = 0;
    for (; *e < sending->plan->count; ++*e) {
        struct tessi_plan_entry *entry = &sending->plan->entries[*e];
        if (!goes(entry)) {
            continue;
        }
        if (sending->of[*e].part > part) {
            return;
        }
        bool lent = !entry->wanted && sending->of[*e].last_reader > part;
        entry->layer->session = tessi_link_id(sending->session->link);
        sending->layers[sending->layer_count++] = entry->layer;
        if (entry->wanted || lent) {
            sending->wanted[sending->wanted_count++] = entry->id;
        }
        if (lent) {
            tessi_grow(&sending->lent, &sending->lent_capacity, sending->lent_count + 1, sizeof *sending->lent);
            sending->lent[sending->lent_count++] = (uint32_t)*e;
        }
        if (entry->layer->op == TESSI_OP_RECEIVE) {
            serve(sending->session, entry->node, entry->id);
        }
    }
}

/* What nobody reads in a later part. */
static void release_lent(struct sending *sending, uint32_t part)
{
    size_t kept = 0, count = 0;
    uint32_t *ids = tessi_alloc((sending->lent_count + 1) * sizeof *ids);
    for (size_t i = 0; i < sending->lent_count; i++) {
        uint32_t e = sending->lent[i];
        if (sending->of[e].last_reader > part) {
            sending->lent[kept++] = e;
        } else {
            ids[count++] = sending->plan->entries[e].id;
        }
    }
    sending->lent_count = kept;
    tessi_link_release(sending->session->link, ids, count);
    tessi_free(ids);
}

/* Nothing of a plan that could not be sent as a whole stays. */
static void take_back(struct sending *sending, size_t end)
{
    release_lent(sending, UINT32_MAX);
    for (size_t e = 0; e < end; e++) {
        const struct tessi_plan_entry *entry = &sending->plan->entries[e];
        if (goes(entry) && entry->wanted) {
            tessi_link_release(sending->session->link, &entry->id, 1);
        }
    }
}

enum tessi_status tessi_plan_submit(struct tess_session *session, struct tessi_plan *plan, struct tessi_error *error)
{
    struct sending sending = {.session = session, .plan = plan};
    bool any = false;
    if (plan->lost.status != TESSI_OK) {
        return tessi_fail(error, plan->lost.status, "%s", plan->lost.text);
    }
    for (size_t e = 0; e < plan->count; e++) {
        any = any || (goes(&plan->entries[e]) && plan->entries[e].wanted);
    }
    if (!any) {
        return TESSI_OK;
    }
    sending.of = tessi_try_alloc((plan->count + 1) * sizeof *sending.of);
    sending.layers = tessi_try_alloc((plan->count + 1) * sizeof *sending.layers);
    sending.wanted = tessi_try_alloc((plan->count + 1) * sizeof *sending.wanted);
    uint64_t largest = 0;
    if (sending.of != NULL && sending.layers != NULL && sending.wanted != NULL) {
        memset(sending.of, 0, (plan->count + 1) * sizeof *sending.of);
        largest = cut_into_parts(&sending);
    }
    if (sending.parts == 0 || !tessi_memory_ready(PACKING * largest)) {
        tessi_free(sending.of);
        tessi_free(sending.layers);
        tessi_free(sending.wanted);
        return tessi_plan_starved(error);
    }
    sending.request = tessi_link_requests(session->link, sending.parts);
    enum tessi_status status = TESSI_OK;
    size_t next = 0;
    for (uint32_t part = 0; part < sending.parts && status == TESSI_OK; part++) {
        size_t first = next;
        gather_part(&sending, part, &next);
        struct tessi_link_part now = {sending.request,     part,           sending.layers,
                                      sending.layer_count, sending.wanted, sending.wanted_count};
        status = tessi_link_submit_part(session->link, &now, error);
        if (status == TESSI_OK) {
            release_lent(&sending, part);
        } else {
            take_back(&sending, first);
        }
    }
    tessi_free(sending.of);
    tessi_free(sending.layers);
    tessi_free(sending.wanted);
    tessi_free(sending.lent);
    return status;
}
