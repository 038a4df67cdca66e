#include "tests/bench/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/link.h"
#include "client/session.h"
#include "core/base/alloc.h"
#include "tests/bench/options.h"
#include "worker/kernel/kernel.h"

#define JOIN_SECONDS 30

static void demand(enum tessi_status status, const struct tessi_error *error)
{
    if (status != TESSI_OK) {
        bench_die("%s", error->text);
    }
}

static uint32_t worker_count(tess_session *session)
{
    tess_stats stats;
    if (tess_session_stats(session, &stats) != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
    return stats.workers;
}

tess_session *bench_session_open(const char *scheduler, int64_t threads, uint32_t workers)
{
    tess_session *session = tess_session_open(scheduler, &(tess_session_options){.workers = (uint32_t)threads});
    if (tess_session_status(session) != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
    double end = bench_seconds_now() + JOIN_SECONDS;
    while (scheduler != NULL && worker_count(session) < workers) {
        if (bench_seconds_now() > end) {
            bench_die("not %u workers within %d s", workers, JOIN_SECONDS);
        }
        struct timespec pause = {.tv_nsec = 10000000};
        (void)nanosleep(&pause, NULL);
    }
    return session;
}

struct tessi_layer *bench_layer(tess_session *session, enum tessi_op op, uint32_t ndim, const int64_t *blocks)
{
    struct tessi_shape shape = {.ndim = ndim};
    int64_t chunk[TESSI_NDIM_MAX] = {0};
    for (uint32_t d = 0; d < ndim; d++) {
        shape.dim[d] = blocks[d];
        chunk[d] = 1;
    }
    struct tessi_layer *layer = tessi_layer_create(tessi_link_id(session->link), ++session->next_layer, op, TESSI_F64);
    tessi_grid_regular(&layer->grid, &shape, chunk);
    return layer;
}

struct tessi_input *bench_input(struct tessi_layer *layer, const struct tessi_layer *from)
{
    struct tessi_input *input = tessi_layer_add_input(layer, from->id);
    input->dtype = from->dtype;
    tessi_grid_copy(&input->grid, &from->grid);
    input->rules.ndim = from->grid.ndim;
    for (uint32_t d = 0; d < from->grid.ndim; d++) {
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    return input;
}

double bench_run(tess_session *session, struct tessi_layer *const *layers, size_t count, size_t wanted)
{
    struct tessi_error error = {0};
    uint32_t *ids = tessi_alloc(wanted * sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        demand(tessi_layer_check(layers[i], &error), &error);
    }
    for (size_t i = 0; i < wanted; i++) {
        ids[i] = layers[count - wanted + i]->id;
    }
    double started = bench_seconds_now();
    demand(tessi_link_submit(session->link, layers, count, ids, wanted, &error), &error);
    for (size_t i = 0; i < wanted; i++) {
        int64_t elapsed_ns;
        demand(tessi_link_wait(session->link, ids[i], INT64_MAX, NULL, NULL, &elapsed_ns, &error), &error);
    }
    double seconds = bench_seconds_now() - started;
    tessi_free(ids);
    return seconds;
}

double *bench_oracle(const struct tessi_layer *layer, const double *const *inputs)
{
    struct tessi_error error = {0};
    uint64_t tasks = tessi_layer_tasks(layer);
    double *values = tessi_zalloc(tasks * sizeof *values);
    struct tessi_layer *quick = tessi_layer_copy(layer);
    quick->as.synthetic.nanoseconds = quick->as.synthetic.iterations = 0;
    for (uint64_t i = 0; i < tasks; i++) {
        struct tessi_kernel_call call = {.layer = quick, .index = i, .steps = 1, .out = &values[i]};
        struct tessi_step step;
        tessi_task_step(quick, i, 0, &step);
        for (uint32_t r = 0; r < step.count; r++) {
            const double *from = inputs == NULL ? NULL : inputs[step.ref[r].input];
            call.in[r] = &(from == NULL ? values : from)[step.ref[r].index];
        }
        demand(tessi_kernel_run(&call, &error), &error);
    }
    tessi_layer_destroy(quick);
    return values;
}

struct comparison {
    const double *values;
    uint64_t seen;
};

static enum tessi_status compare_block(void *context, uint64_t index, uint64_t offset, const void *data, uint64_t size,
                                       struct tessi_error *error)
{
    struct comparison *comparison = context;
    comparison->seen++;
    if (offset != 0 || size != sizeof(double) || memcmp(data, &comparison->values[index], sizeof(double)) != 0) {
        return tessi_fail(error, TESSI_INVALID, "block %llu does not hold what it should", (unsigned long long)index);
    }
    return TESSI_OK;
}

void bench_check(tess_session *session, const struct tessi_layer *layer, const double *values)
{
    struct tessi_error error = {0};
    struct comparison comparison = {.values = values};
    demand(tessi_link_fetch(session->link, layer->id, &layer->grid, sizeof(double), compare_block, &comparison, &error),
           &error);
    if (comparison.seen != tessi_layer_tasks(layer)) {
        bench_die("%llu blocks came, not all", (unsigned long long)comparison.seen);
    }
}

double bench_run_checked(tess_session *session, struct tessi_layer *layer)
{
    double seconds = bench_run(session, &layer, 1, 1);
    double *values = bench_oracle(layer, NULL);
    bench_check(session, layer, values);
    tessi_free(values);
    bench_release(session, &layer, 1);
    return seconds;
}

void bench_release(tess_session *session, struct tessi_layer **layers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tessi_link_release(session->link, &layers[i]->id, 1);
        tessi_layer_destroy(layers[i]);
        layers[i] = NULL;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double bench_quantile(const double *values, size_t count, double share)
{
    double *sorted = tessi_memdup(values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, compare_doubles);
    size_t place = (size_t)(share * (double)count);
    double value = sorted[place < count ? place : count - 1];
    tessi_free(sorted);
    return value;
}

void bench_print_seconds(const char *head, const double *seconds, size_t count)
{
    printf("{%s\"seconds\": %.9f, \"all_seconds\": [", head, bench_quantile(seconds, count, 0.5));
    for (size_t i = 0; i < count; i++) {
        printf("%s%.9f", i > 0 ? ", " : "", seconds[i]);
    }
    printf("]}\n");
    (void)fflush(stdout);
}
