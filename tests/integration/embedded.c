#include "tests/integration/embedded.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

tess_session *open_cluster(uint32_t workers, uint64_t memory_bytes)
{
    tess_session *session =
        tess_session_open(NULL, &(tess_session_options){.workers = workers,
                                                        .memory_bytes = memory_bytes,
                                                        .gpus = getenv("TESSERA_TEST_GPUS"),
                                                        .gpu_memory = getenv("TESSERA_TEST_GPU_MEMORY")});
    if (tess_session_status(session) != TESS_OK) {
        fail_msg("%s", tess_session_error(session));
    }
    return session;
}

int open_group(void **state)
{
    *state = open_cluster(2, 256 * MIB);
    return 0;
}

int close_group(void **state)
{
    tess_session_close(*state);
    return 0;
}

static tess_scope *scope_of_test;

int open_scope(void **state)
{
    tess_session_clear_error(*state);
    scope_of_test = tess_scope_open(*state);
    return 0;
}

int close_scope(void **state)
{
    (void)state;
    tess_scope_close(scope_of_test);
    return 0;
}

void ok(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        fail_msg("%s: %s", tess_status_text(status), tess_session_error(session));
    }
}

int64_t elements_of(tess_shape shape)
{
    int64_t elements = 1;
    for (uint32_t d = 0; d < shape.ndim; d++) {
        elements *= shape.dim[d];
    }
    return elements;
}

/* Numbers that are exact in every dtype that holds them. */
static double sample(int64_t i)
{
    return (double)((i * 37 + 11) % 101);
}

double *samples(int64_t count)
{
    double *data = malloc((size_t)(count + 1) * sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) {
        data[i] = sample(i);
    }
    return data;
}

tess_array *put(tess_session *s, const double *data, tess_shape shape, tess_dtype dtype, tess_shape chunks)
{
    return tess_astype(tess_from_memory(s, data, shape, TESS_F64, chunks), dtype);
}

void check(tess_session *s, tess_array *array, tess_shape shape, double *expected, double tolerance)
{
    if (tess_array_status(array) != TESS_OK) {
        fail_msg("%s", tess_array_error(array));
    }
    tess_shape got = tess_array_shape(array);
    assert_int_equal(got.ndim, shape.ndim);
    for (uint32_t d = 0; d < shape.ndim; d++) {
        assert_int_equal(got.dim[d], shape.dim[d]);
    }
    int64_t count = elements_of(shape);
    double *data = malloc((size_t)(count + 1) * sizeof *data);
    assert_non_null(data);
    memset(data, 0xff, (size_t)(count + 1) * sizeof *data);
    tess_array *as_f64 = tess_astype(array, TESS_F64);
    ok(s, tess_read(as_f64, data, (uint64_t)count * sizeof *data));
    for (int64_t i = 0; i < count; i++) {
        bool same =
            isnan(expected[i]) ? isnan(data[i]) : fabs(data[i] - expected[i]) <= tolerance * (1 + fabs(expected[i]));
        if (!same) {
            fail_msg("element %lld is %.17g, expected %.17g", (long long)i, data[i], expected[i]);
        }
    }
    free(data);
    free(expected);
}
