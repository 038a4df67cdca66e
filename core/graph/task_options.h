/* How a layer's tasks are to be scheduled: which goes first, under which policy, and what a worker must
 * have for them. None of it changes a result.
 *
 * A resource is a name and a whole number: a worker has so many of it (`--resources ssd=2,license=1`), and a
 * task that demands some of it runs only while they are free there. Memory and slots are no resources: the
 * workers' planner counts those. */
#ifndef TESSI_GRAPH_TASK_OPTIONS_H
#define TESSI_GRAPH_TASK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

#define TESSI_PRIORITY_MAX 8         /* priorities are −8 … 8 */
#define TESSI_RESOURCES_MAX 8        /* kinds that one worker or task may name */
#define TESSI_RESOURCE_NAME_MAX 24   /* bytes with the final 0 */
#define TESSI_RESOURCES_TEXT_MAX 288 /* bytes with the final 0 of all of them as text */

enum tessi_policy {
    TESSI_POLICY_DEFAULT = 0, /* the session's, which is B_LEVEL when that is DEFAULT too */
    TESSI_POLICY_B_LEVEL = 1,
    TESSI_POLICY_FIRST_COME = 2,
    TESSI_POLICY_SHORTEST_FIRST = 3,
    TESSI_POLICIES
};

struct tessi_resource {
    char name[TESSI_RESOURCE_NAME_MAX];
    uint32_t amount; /* ≥ 1 */
};

struct tessi_resources { /* by ascending name, each once; what is not used is zero */
    uint32_t count;
    struct tessi_resource item[TESSI_RESOURCES_MAX];
};

struct tessi_task_options {
    int32_t priority; /* higher goes first */
    enum tessi_policy policy;
    struct tessi_resources demand; /* of each task */
};

extern const struct tessi_task_options tessi_no_task_options;

/* "ssd=2,license=1" (a name alone is one of it; "" is none). INVALID with the text that says what is wrong. */
TESSI_MUST_USE enum tessi_status tessi_resources_parse(const char *text, struct tessi_resources *resources,
                                                       struct tessi_error *error);
/* The same text again, by ascending name; `size` ≥ TESSI_RESOURCES_TEXT_MAX. Returns `text`. */
const char *tessi_resources_text(const struct tessi_resources *resources, char *text, size_t size);

uint32_t tessi_resources_amount(const struct tessi_resources *resources, const char *name); /* 0: none */
/* All that `demand` names is there in full. */
bool tessi_resources_cover(const struct tessi_resources *have, const struct tessi_resources *demand);
bool tessi_resources_equal(const struct tessi_resources *a, const struct tessi_resources *b);
/* The same when nothing of them differs, so that layers may be made one. */
bool tessi_task_options_equal(const struct tessi_task_options *a, const struct tessi_task_options *b);

/* INVALID unless every field is in its range and the demand is in its canonical form. */
TESSI_MUST_USE enum tessi_status tessi_task_options_check(const struct tessi_task_options *task_options,
                                                          struct tessi_error *error);

#endif
