/* From nodes to layers: which ones a result needs, fused where only one of them reads another. */
#ifndef TESSI_CLIENT_SUBMIT_H
#define TESSI_CLIENT_SUBMIT_H

#include "client/array.h"

/* One layer to be. Entries are in topological order: inputs come before who reads them. */
struct tessi_plan_entry {
    struct tessi_node *node;          /* borrowed; of a fused chain the last */
    struct tessi_layer *layer;        /* owned; NULL: the cluster holds it under `id` */
    uint32_t input[TESSI_INPUTS_MAX]; /* entries */
    uint32_t consumers;               /* entries that read this one */
    uint32_t id;
    bool wanted;
    bool gone; /* fused into its reader */
};

struct tessi_plan {
    struct tessi_plan_entry *entries;
    size_t count;
    size_t capacity;
    struct tessi_error lost; /* an array that cannot be computed again, and is needed; status OK: none */
};

/* Collect what `nodes` need beyond what the cluster holds, fuse, and give ids. A node that is held is no longer
 * wanted. NOMEM: the plan is empty. */
TESSI_MUST_USE enum tessi_status tessi_plan_make(struct tess_session *session, struct tessi_node *const *nodes,
                                                 size_t count, struct tessi_plan *plan, struct tessi_error *error);
/* NOMEM, with its text. */
enum tessi_status tessi_plan_starved(struct tessi_error *error);
void tessi_plan_fini(struct tessi_plan *plan);

/* Collapse elementwise chains whose links are read by one layer only; called by tessi_plan_make. */
void tessi_plan_fuse(struct tessi_plan *plan);

/* Send the plan: its layers become the cluster's and its client data are served. `error` says why it could not be
 * sent; whether the scheduler takes it is known when its wanted layers are waited for. */
enum tessi_status tessi_plan_submit(struct tess_session *session, struct tessi_plan *plan, struct tessi_error *error);

/* The id of a wanted or held node in a plan. */
uint32_t tessi_plan_id(const struct tessi_plan *plan, const struct tessi_node *node);

#endif
