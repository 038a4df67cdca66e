/* Graphs of explicit layers, submitted as they are: what the benches of the engine's own cost are made of.
 *
 * The public header has no synthetic tasks and fuses nothing here; these functions speak to the link behind a session. */
#ifndef TESTS_BENCH_GRAPH_H
#define TESTS_BENCH_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "client/tessera.h"
#include "core/graph/layer.h"

/* A session with the cluster at `scheduler`, or with one of `threads` slots inside this process when it is NULL.
 * Returns when `workers` workers are there. Ends the program on failure. */
tess_session *bench_session_open(const char *scheduler, int64_t threads, uint32_t workers);

/* A layer with an id of its own over a grid of `blocks` blocks along each of `ndim` dimensions, one f64 in each. */
struct tessi_layer *bench_layer(tess_session *session, enum tessi_op op, uint32_t ndim, const int64_t *blocks);

/* Another input: `from`, which may be the layer itself. Rules are SAME along each dimension; the caller may change
 * them. */
struct tessi_input *bench_input(struct tessi_layer *layer, const struct tessi_layer *from);

/* Check and submit `layers`, hold the last `wanted` of them, wait for those. Returns the seconds from the submission until
 * the client knows that they are complete. */
double bench_run(tess_session *session, struct tessi_layer *const *layers, size_t count, size_t wanted);

/* What the blocks of an SYNTHETIC layer must hold, computed here one after the other, to be freed with tessi_free.
 * `inputs` are the values of each input, NULL for the layer itself. Its tasks take no time here. */
double *bench_oracle(const struct tessi_layer *layer, const double *const *inputs);

/* Fetch a held layer and compare it with `values`; ends the program when a block differs. */
void bench_check(tess_session *session, const struct tessi_layer *layer, const double *values);

/* Run one SYNTHETIC layer that reads nothing but itself, compare its blocks and give it up. Takes the layer; returns the
 * seconds of bench_run. */
double bench_run_checked(tess_session *session, struct tessi_layer *layer);

/* Give up the layers on the cluster, then free them here. */
void bench_release(tess_session *session, struct tessi_layer **layers, size_t count);

/* The value below which that share of the figures lies. */
double bench_quantile(const double *values, size_t count, double share);

/* One line of JSON: median and all seconds of the repeats, after the fields in `head` ("\"bench\": …, "). */
void bench_print_seconds(const char *head, const double *seconds, size_t count);

#endif
