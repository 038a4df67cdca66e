/* Clusters inside the test's process, and arrays on them that are compared with what naive loops gave. */
#ifndef TESTS_INTEGRATION_EMBEDDED_H
#define TESTS_INTEGRATION_EMBEDDED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/tessera.h"

#define MIB (UINT64_C(1) << 20)

/* With the devices that TESSERA_TEST_GPUS names, the same tests run there (tests/integration/test_gpus.py, tests/gpu). */
tess_session *open_cluster(uint32_t workers, uint64_t memory_bytes);

/* For a group of tests that share one cluster: the session is their state. */
int open_group(void **state);
int close_group(void **state);

/* A test of such a group has a scope and a clean error of its own. */
#define TEST(function) cmocka_unit_test_setup_teardown(function, open_scope, close_scope)
int open_scope(void **state);
int close_scope(void **state);

/* Fails with the session's error. */
void ok(tess_session *session, tess_status status);

int64_t elements_of(tess_shape shape);

/* So many numbers that are exact in every dtype that holds them; the caller frees them. */
double *samples(int64_t count);

tess_array *put(tess_session *s, const double *data, tess_shape shape, tess_dtype dtype, tess_shape chunks);

/* Compare with what naive loops gave; takes the expected numbers. */
void check(tess_session *s, tess_array *array, tess_shape shape, double *expected, double tolerance);

#endif
