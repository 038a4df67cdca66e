/* Every single call of CUDA, cuBLAS and NVRTC failing once, on a cluster inside the program: the product is right, whoever
 * computed it, or there is an error that says why; nothing hangs; and a device that is not broken is in use again afterwards.
 * TESSERA_TEST_CALLS: so many calls from the first on (200); TESSERA_TEST_STRIDE: every so manyth of them. */
#include "tests/integration/embedded.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIDE 48
#define CHUNK 24
#define AGAIN_SECONDS 10

static void (*fail_at)(const char *rule);
static uint64_t (*calls_of)(const char *function);

static void *find(void *handle, const char *name)
{
    void *address = dlsym(handle, name);
    assert_non_null(address);
    return address;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static double seconds_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* (A · B + 1), whose blocks go through every kind of call. Whether it came out; then it is right. */
static bool compute(tess_session *session, const double *a, const double *want)
{
    double got[SIDE * SIDE];
    tess_shape shape = {2, {SIDE, SIDE}};
    tess_scope *scope = tess_scope_open(session);
    tess_session_clear_error(session);
    tess_array *left = tess_from_memory(session, a, shape, TESS_F64, (tess_shape){2, {CHUNK, CHUNK}});
    tess_array *sum = tess_add(tess_matmul(left, tess_transpose(left)), left);
    bool done = tess_read(sum, got, sizeof got) == TESS_OK;
    for (int i = 0; i < SIDE * SIDE && done; i++) {
        if (fabs(got[i] - want[i]) > 1e-9 * (1 + fabs(want[i]))) {
            fail_msg("element %d is %.17g, not %.17g", i, got[i], want[i]);
        }
    }
    if (!done && tess_session_error(session)[0] == 0) {
        fail_msg("an error without a word");
    }
    tess_scope_close(scope);
    return done;
}

static void expected(const double *a, double *want)
{
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            double sum = a[i * SIDE + j];
            for (int k = 0; k < SIDE; k++) {
                sum += a[i * SIDE + k] * a[j * SIDE + k];
            }
            want[i * SIDE + j] = sum;
        }
    }
}

/* With the rule's failure; false: the work has fewer calls than that. */
static bool run_with(const char *rule, bool breaks, const double *a, const double *want, uint32_t *errors)
{
    fail_at(rule);
    tess_session *session =
        tess_session_open(NULL, &(tess_session_options){.workers = 1, .memory_bytes = 64 * MIB, .gpus = "auto"});
    if (tess_session_status(session) != TESS_OK) {
        fail_msg("%s: a worker does not start: %s", rule, tess_session_error(session));
    }
    if (!compute(session, a, want)) {
        print_message("# %s: %s\n", rule, tess_session_error(session));
        ++*errors;
    }
    bool failed = calls_of("failed") > 0;
    bool opened = calls_of("cublasCreate") > 0;
    uint64_t products = calls_of("cublasGemmEx");
    double until = seconds_now() + AGAIN_SECONDS;
    while (!breaks && opened && calls_of("cublasGemmEx") == products) {
        if (!compute(session, a, want) || seconds_now() > until) {
            fail_msg("%s: the device is not in use again: %s", rule, tess_session_error(session));
        }
    }
    tess_session_close(session);
    return failed;
}

static void fail_one_by_one(const char *code, bool breaks)
{
    uint64_t calls = number_of("TESSERA_TEST_CALLS", 200);
    uint64_t stride = number_of("TESSERA_TEST_STRIDE", 1);
    uint32_t errors = 0;
    double want[SIDE * SIDE];
    double *a = samples(SIDE * SIDE);
    expected(a, want);
    uint64_t call = 1;
    for (bool failed = true; call <= calls && failed; call += stride) {
        char rule[64];
        (void)snprintf(rule, sizeof rule, "any@%llu%s", (unsigned long long)call, code);
        failed = run_with(rule, breaks, a, want, &errors);
    }
    print_message("# %llu calls, %u of them with an error for the program\n", (unsigned long long)(call - 1), errors);
    free(a);
}

static void test_usual_failures(void **state)
{
    (void)state;
    fail_one_by_one("", false);
}

static void test_no_memory(void **state)
{
    (void)state;
    fail_one_by_one(":2", false);
}

static void test_broken_device(void **state)
{
    (void)state;
    fail_one_by_one(":719", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual_failures),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_broken_device),
    };
    void *host = dlopen("libcuda_host.so", RTLD_NOW | RTLD_LOCAL);
    if (host == NULL) {
        print_message("skipped: the CUDA plugin for processors is not built (cuda=host)\n");
        return 77;
    }
    (void)setenv("TESSERA_CUDA_SMALL", "1", 1);
    void *addresses[] = {find(host, "cuda_host_fail"), find(host, "cuda_host_calls")};
    memcpy(&fail_at, &addresses[0], sizeof fail_at);
    memcpy(&calls_of, &addresses[1], sizeof calls_of);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
