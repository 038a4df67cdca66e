/* Loading OpenBLAS. A process can load one family, so each case runs in a child of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/digest.h"
#include "core/base/philox.h"
#include "worker/kernel/blas.h"

enum { SIDE = 150 };

struct report {
    enum tessi_status status;
    char family[32];
    uint64_t digest; /* of a product */
    bool environment_kept;
};

/* Open a family with a hostile environment, and multiply. */
static void child_main(const char *family, struct report *report)
{
    static double a[SIDE * SIDE], b[SIDE * SIDE], c[SIDE * SIDE];
    (void)setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    (void)setenv("OPENBLAS_L2_SIZE", "512", 1);
    (void)unsetenv("OPENBLAS_NUM_THREADS");
    report->status = tessi_blas_open(family, NULL);
    report->environment_kept = strcmp(getenv("OPENBLAS_CORETYPE"), "Prescott") == 0 &&
                               strcmp(getenv("OPENBLAS_L2_SIZE"), "512") == 0 && getenv("OPENBLAS_NUM_THREADS") == NULL;
    if (report->status != TESSI_OK) {
        return;
    }
    (void)strncpy(report->family, tessi_blas_family(), sizeof report->family - 1);
    for (uint64_t i = 0; i < SIDE * SIDE; i++) {
        a[i] = tessi_philox_uniform_f64(1, i);
        b[i] = tessi_philox_uniform_f64(2, i);
    }
    struct tessi_gemm gemm = {.dtype = TESSI_F64, .m = SIDE, .n = SIDE, .k = SIDE, .a = a, .lda = SIDE, .b = b, .ldb = SIDE,
                              .c = c, .ldc = SIDE};
    if (tessi_blas_gemm(&gemm)) {
        report->digest = tessi_digest_bytes(c, sizeof c);
    }
}

static struct report run_child(const char *family)
{
    struct report report = {.status = TESSI_FAILED};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct report own = {.status = TESSI_FAILED};
        child_main(family, &own);
        _exit(write(ends[1], &own, sizeof own) == (ssize_t)sizeof own ? 0 : 1);
    }
    int state = 0;
    (void)close(ends[1]);
    ssize_t n = read(ends[0], &report, sizeof report);
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &state, 0), child);
    assert_true(WIFEXITED(state) && WEXITSTATUS(state) == 0);
    assert_int_equal(n, sizeof report);
    return report;
}

static bool have_library(void)
{
    return run_child(NULL).status == TESSI_OK;
}

/* The best family is taken whatever the environment says, and the environment is put back. */
static void test_best(void **state)
{
    const char *list[TESSI_BLAS_FAMILIES_MAX];
    struct report report = run_child(NULL);
    (void)state;
    if (report.status == TESSI_NOT_FOUND) {
        print_message("OpenBLAS was not found: skipped\n");
        skip();
    }
    assert_int_equal(report.status, TESSI_OK);
    assert_true(report.environment_kept);
    assert_true(tessi_blas_families(list) >= 1);
    assert_string_not_equal(report.family, "prescott");
    assert_int_not_equal(report.digest, 0);
}

/* Each family that opens runs under its name; those of one numerics name give the same bits. */
static void test_families(void **state)
{
    const char *list[TESSI_BLAS_FAMILIES_MAX];
    struct report reports[TESSI_BLAS_FAMILIES_MAX];
    uint32_t count = tessi_blas_families(list);
    uint32_t opened = 0;
    (void)state;
    if (!have_library()) {
        skip();
    }
    for (uint32_t i = 0; i < count; i++) {
        reports[i] = run_child(list[i]);
        assert_true(reports[i].environment_kept);
        if (reports[i].status != TESSI_OK) {
            assert_int_equal(reports[i].status, TESSI_UNSUPPORTED); /* not in this build of the library */
            continue;
        }
        opened++;
        assert_string_equal(reports[i].family, list[i]);
        for (uint32_t j = 0; j < i; j++) {
            if (reports[j].status == TESSI_OK &&
                strcmp(tessi_blas_numerics_of(list[i]), tessi_blas_numerics_of(list[j])) == 0) {
                assert_true(reports[i].digest == reports[j].digest);
            }
        }
    }
    assert_true(opened >= 1);
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(run_child("no-such-family").status, TESSI_INVALID);
    assert_int_equal(run_child("plain").status, TESSI_OK);
}

static void test_second_open(void **state)
{
    struct tessi_error error = {.text = ""};
    (void)state;
    assert_int_equal(tessi_blas_open("plain", &error), TESSI_OK);
    assert_int_equal(tessi_blas_open("plain", &error), TESSI_OK);
    assert_int_equal(tessi_blas_open(NULL, &error), TESSI_OK);
    assert_int_equal(tessi_blas_open("haswell", &error), TESSI_BUSY);
    assert_non_null(strstr(error.text, "plain"));
    assert_string_equal(tessi_blas_family(), "plain");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_second_open), /* last: it chooses this process's own family */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
