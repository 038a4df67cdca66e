/* Programs that run out of memory at each point: what fails says so, and the session goes on when there is memory again. */
#include "tests/integration/embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"

enum { N = 48 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POINTS 60 /* of all, at equal distances */
#else
#define POINTS UINT64_MAX
#endif

/* A program as people write them: every way in, some operators, every way out. Its first failure. */
static tess_status program(tess_session *s, const char *path, const double *data, double *sum)
{
    static double back[N * N];
    tess_scope *scope = tess_scope_open(s);
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(N, N), TESS_F64, TESS_CHUNKS(16, 20));
    tess_array *b = tess_random_uniform(s, TESS_SHAPE(N, N), TESS_F64, 0, 1, 7, TESS_CHUNKS(20, 16));
    tess_array *c = tess_add(tess_matmul(a, b), tess_transpose(tess_multiply_scalar(b, 2)));
    tess_name(c, "product");
    tess_array *part = tess_slice(c, TESS_SLICES(TESS_STEP(1, N - 1, 2)));
    tess_array *again = tess_rechunk(part, TESS_CHUNKS(7, 9));
    tess_status status = tess_persist(c);
    status = status == TESS_OK ? tess_write_npy(c, path) : status;
    tess_array *from = tess_from_npy(s, path, TESS_CHUNKS(11, N));
    status = status == TESS_OK ? tess_read(tess_exp(tess_subtract(from, c)), back, sizeof back) : status;
    status = status == TESS_OK ? tess_read_scalar(tess_sum(again, TESS_ALL, false), sum) : status;
    for (int i = 0; i < N * N && status == TESS_OK; i++) {
        assert_true(back[i] == 1);
    }
    tess_scope_close(scope);
    return status;
}

static void at_each_point(tess_session *s)
{
    char path[64];
    double *data = samples(N * N), expected = 0, sum = 0;
    (void)snprintf(path, sizeof path, "/tmp/tessera-starved-%ld.npy", (long)getpid());
    for (int i = 0; i < 3; i++) {
        ok(s, program(s, path, data, &expected));
    }
    (void)tessi_memory_ends_at(UINT64_MAX);
    ok(s, program(s, path, data, &expected));
    uint64_t calls = tessi_memory_ends_at(0), step = calls / POINTS + 1;
    uint64_t points = 0, refused = 0;
    for (uint64_t nth = 1; nth <= calls; nth += step) {
        (void)tessi_memory_ends_at(nth);
        tess_status status = program(s, path, data, &sum);
        (void)tessi_memory_ends_at(0);
        if (status != TESS_OK && status != TESS_NOMEM) {
            fail_msg("at %llu of %llu: %d: %s", (unsigned long long)nth, (unsigned long long)calls, (int)status,
                     tess_session_error(s));
        }
        points++;
        refused += status == TESS_NOMEM;
        tess_session_clear_error(s);
        ok(s, program(s, path, data, &sum));
        assert_true(sum == expected);
    }
    assert_true(refused > points / 4);
    (void)unlink(path);
    free(data);
}

static void test_inside_the_program(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 64 * MIB);
    at_each_point(s);
    tess_session_close(s);
}

/* Nothing is taken for what an operation without memory returns, so that a program may make many of them. */
static void test_operators_without_memory(void **state)
{
    (void)state;
    tess_session *s = open_cluster(1, 64 * MIB);
    tess_array *x = tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO);
    double number[4];
    (void)tessi_memory_ends_at(1);
    for (int i = 0; i < 100000; i++) {
        tess_array *y = tess_name(tess_add(x, tess_exp(x)), "y");
        assert_int_equal(tess_array_status(y), TESS_NOMEM);
        assert_non_null(strstr(tess_array_error(y), "out of memory"));
        tess_release(y);
    }
    assert_int_equal(tess_read(tess_add(x, x), number, sizeof number), TESS_NOMEM);
    assert_int_equal(tess_read(x, number, sizeof number), TESS_NOMEM);
    assert_non_null(strstr(tess_session_error(s), "out of memory"));
    (void)tessi_memory_ends_at(0);
    tess_session_clear_error(s);
    ok(s, tess_read(tess_add(x, x), number, sizeof number));
    assert_true(number[3] == 2);
    tess_session_close(s);
}

static const char *address; /* of a scheduler in another process */

static void test_over_tcp(void **state)
{
    (void)state;
    tess_session *s = tess_session_open(address, NULL);
    ok(s, tess_session_status(s));
    at_each_point(s);
    tess_session_close(s);
}

/* With the address of a scheduler (test_starved_remote.py): on that cluster. */
int main(int argc, char **argv)
{
    const struct CMUnitTest remote[] = {cmocka_unit_test(test_over_tcp)};
    if (argc > 1) {
        address = argv[1];
        return cmocka_run_group_tests_name("programs without memory, over TCP", remote, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operators_without_memory),
        cmocka_unit_test(test_inside_the_program),
    };
    return cmocka_run_group_tests_name("programs without memory", tests, NULL, NULL);
}
