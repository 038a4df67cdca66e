/* Sessions: what is held and freed, waits, cancels, limits of memory, wrong uses, clusters that cannot be reached. */
#include "tests/integration/embedded.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/link.h"
#include "client/session.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/graph/layer.h"

#define DEADLINE_NS (60 * TESSI_NS_PER_S)

/* Sum of a field over the cluster's workers, as its status tells it. */
static double cluster_sum(tess_session *s, const char *field)
{
    struct tessi_error error;
    char *json;
    assert_int_equal(tessi_link_status_document(s->link, &json, &error), TESSI_OK);
    cJSON *document = cJSON_Parse(json);
    double sum = 0;
    const cJSON *worker;
    cJSON_ArrayForEach(worker, cJSON_GetObjectItem(document, "workers"))
    {
        const cJSON *value = cJSON_GetObjectItem(worker, field);
        assert_non_null(value);
        sum += cJSON_GetNumberValue(value);
    }
    cJSON_Delete(document);
    tessi_free(json);
    return sum;
}

/* Ask until the workers' memory is as wanted. A worker tells its gauges with the tasks that it has done, and seldom
 * otherwise: each question follows a small task, whose block may still be counted. Small blocks cost something beside their
 * data. */
static void await_memory(tess_session *s, double least, double most, double small_blocks)
{
    int64_t end = tessi_clock_now() + DEADLINE_NS;
    double used;
    do {
        double ignored;
        ok(s, tess_read_scalar(tess_scalar(s, 1, TESS_F64), &ignored));
        used = cluster_sum(s, "memory_used_bytes");
        if (used >= least && used <= most + 256 + (small_blocks + 1) * TESSI_BLOCK_COST) {
            return;
        }
    } while (tessi_clock_now() < end);
    fail_msg("the workers use %.0f bytes, expected %.0f to %.0f", used, least, most);
}

static void test_scopes_free_the_cluster(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 128 * MIB);
    tess_array *kept = NULL;
    tess_scope *scope = tess_scope_open(s);
    tess_array *big = tess_random_uniform(s, TESS_SHAPE(1024, 1024), TESS_F64, 0, 1, 1, TESS_CHUNKS(256, 256));
    kept = tess_keep(tess_sum(big, TESS_AXIS(0), false));
    ok(s, tess_persist_all((tess_array *[]){big, kept}, 2));
    ok(s, tess_wait(big, 0));
    ok(s, tess_wait(kept, 0));
    await_memory(s, 8 * MIB, 9 * MIB, 0);
    tess_scope_close(scope);
    await_memory(s, 1024 * 8, 1024 * 8, 4); /* the sum alone */
    double first;
    ok(s, tess_read_scalar(tess_slice(kept, TESS_SLICES(TESS_RANGE(0, 1))), &first));
    assert_true(first > 400 && first < 624);
    tess_release(kept);
    await_memory(s, 0, 0, 0);
    tess_session_close(s);
}

/* Devices of a worker that break while the tests run. */
static uint64_t breaking_devices(void)
{
    const char *gpus = getenv("TESSERA_TEST_GPUS");
    const char *count = gpus == NULL ? NULL : strstr(gpus, "count=");
    bool breaking = gpus != NULL && strstr(gpus, "break=") != NULL;
    return !breaking ? 0 : count == NULL ? 1 : strtoull(count + strlen("count="), NULL, 10);
}

static void test_iteration_with_persisted_arrays(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 64 * MIB);
    tess_array *x = tess_ones(s, TESS_SHAPE(300, 300), TESS_F64, TESS_CHUNKS(100, 100));
    for (int i = 0; i < 40; i++) {
        tess_array *next = tess_add_scalar(tess_multiply_scalar(x, 0.5), 1);
        ok(s, tess_persist(next));
        tess_release(x);
        x = next;
    }
    double value;
    ok(s, tess_read_scalar(tess_mean(x, TESS_ALL, false), &value));
    assert_true(fabs(value - 2) < 1e-11);
    ok(s, tess_wait(x, 0));
    await_memory(s, 300 * 300 * 8, 300 * 300 * 8, 0); /* the last one only */
    tess_stats stats;
    ok(s, tess_session_stats(s, &stats));
    assert_int_equal(stats.workers, 1);
    /* What a device alone had when it broke is made again from the beginning, since all before the last array has been
     * let go: no task more than once for each device. */
    assert_true(stats.tasks_rerun <= breaking_devices() * (1 + 40) * 9);
    assert_true(stats.tasks >= 40 * 9);
    assert_true(stats.peak_worker_bytes >= 300 * 300 * 8 && stats.peak_worker_bytes <= 64 * MIB);
    assert_true(stats.seconds > 0);
    tess_session_close(s);
}

/* The SigBlk of a thread, as /proc says it; UINT64_MAX when it has gone. */
static uint64_t blocked_signals(const char *thread)
{
    char path[300], line[256];
    uint64_t mask = UINT64_MAX;
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "SigBlk: %" SCNx64, &mask);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return mask;
}

static void test_signals_are_the_programs(void **state)
{
    (void)state;
    DIR *before = opendir("/proc/self/task");
    uint64_t wanted = UINT64_C(1) << (SIGINT - 1) | UINT64_C(1) << (SIGTERM - 1) | UINT64_C(1) << (SIGUSR1 - 1) |
                      UINT64_C(1) << (SIGALRM - 1);
    char known[4096] = " ";
    for (struct dirent *entry; (entry = readdir(before)) != NULL;) {
        assert_true(strlen(known) + strlen(entry->d_name) + 2 < sizeof known);
        strcat(strcat(known, entry->d_name), " ");
    }
    (void)closedir(before);
    tess_session *s = tess_session_open(NULL, &(tess_session_options){.workers = 2});
    double value;
    ok(s, tess_read_scalar(tess_sum(tess_ones(s, TESS_SHAPE(64), TESS_F64, TESS_CHUNKS(8)), TESS_ALL, false), &value));
    int seen = 0;
    DIR *now = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(now)) != NULL;) {
        char word[300];
        (void)snprintf(word, sizeof word, " %s ", entry->d_name);
        if (strstr(known, word) == NULL) {
            assert_true((blocked_signals(entry->d_name) & wanted) == wanted);
            seen++;
        }
    }
    (void)closedir(now);
    assert_true(seen >= 5);
    sigset_t mine;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
    assert_false(sigismember(&mine, SIGINT));
    tess_session_close(s);
}

static void test_a_forked_child_is_told(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO);
    ok(s, tess_persist(a));
    ok(s, tess_wait(a, 0));
    pid_t child = fork();
    if (child == 0) {
        double data[4];
        bool told = tess_read(a, data, sizeof data) == TESS_INVALID && strstr(tess_session_error(s), "forked") != NULL;
        tess_session_close(s);
        _exit(told ? 0 : 1);
    }
    int outcome = 1;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_true(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
    double data[4] = {0};
    ok(s, tess_read(a, data, sizeof data));
    assert_true(data[3] == 1.0);
}

static void test_wrong_uses(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO);
    double data[8];
    double value = 0;
    assert_int_equal(tess_wait(a, 0), TESS_INVALID);
    assert_non_null(strstr(tess_session_error(s), "tess_persist"));
    assert_int_equal(tess_read(a, data, sizeof data), TESS_INVALID);
    assert_int_equal(tess_read(a, NULL, 32), TESS_INVALID);
    assert_int_equal(tess_read_scalar(a, &value), TESS_INVALID);
    assert_true(isnan(value));
    assert_int_equal(tess_read(NULL, data, 32), TESS_INVALID);
    assert_int_equal(tess_persist(NULL), TESS_INVALID);
    assert_int_equal(tess_write_npy(a, ""), TESS_INVALID);
    tess_cancel(a);
    tess_cancel(NULL);
    ok(s, tess_read(a, data, 32));
    assert_true(data[3] == 1.0);
}

static void test_too_big(void **state)
{
    (void)state;
    tess_session *s = tess_session_open(
        NULL, &(tess_session_options){.workers = 1, .memory_bytes = 8 * MIB, .spill_bytes = UINT64_MAX});
    ok(s, tess_session_status(s));
    tess_array *block = tess_ones(s, TESS_SHAPE(2048, 2048), TESS_F64, TESS_CHUNKS(2048, 2048));
    ok(s, tess_persist(block));
    assert_int_equal(tess_wait(block, 0), TESS_TOO_BIG);
    assert_non_null(strstr(tess_session_error(s), "chunk"));
    assert_non_null(strstr(tess_session_error(s), "memory_bytes"));
    tess_session_clear_error(s);
    double value;
    ok(s, tess_read_scalar(
              tess_sum(tess_ones(s, TESS_SHAPE(2048, 2048), TESS_F64, TESS_CHUNKS(128, 128)), TESS_ALL, false),
              &value)); /* 32 MiB through 8 */
    assert_true(value == 2048.0 * 2048.0);
    /* Chunks that the library chooses are of the cluster's size: 128 MiB would not fit. */
    tess_array *x = tess_arange(s, 0, 3000, 1, TESS_F64, TESS_AUTO);
    tess_array *column = tess_from_memory(s, (const double[1]){1}, TESS_SHAPE(1, 1), TESS_F64, TESS_AUTO);
    tess_array *ones = tess_ones(s, TESS_SHAPE(3000, 1), TESS_F64, TESS_AUTO);
    ok(s, tess_read_scalar(tess_sum(tess_add(tess_multiply(x, column), ones), TESS_ALL, false), &value)); /* 72 MB */
    assert_true(value == 3000.0 * (2999.0 * 3000.0 / 2 + 3000.0));
    ok(s, tess_read_scalar(tess_max(tess_ones(s, TESS_SHAPE(4000, 4000), TESS_F64, TESS_AUTO), TESS_ALL, false), &value));
    assert_true(value == 1.0);
    tess_session_close(s);
}

/* Very many blocks without elements: what can be told of all at once is, and to hold them is refused at once. */
static void test_blocks_without_elements(void **state)
{
    (void)state;
    double value = 1;
    tess_session *s = tess_session_open(NULL, &(tess_session_options){.workers = 1});
    tess_array *x = tess_zeros(s, TESS_SHAPE(1000000000, 0), TESS_F64, TESS_CHUNKS(1, 1));
    ok(s, tess_read_scalar(tess_sum(x, TESS_ALL, false), &value));
    assert_true(value == 0);
    tess_array *y = tess_add(x, x);
    assert_int_equal(tess_persist(y) == TESS_OK ? tess_wait(y, 0) : TESS_TOO_BIG, TESS_TOO_BIG);
    assert_non_null(strstr(tess_session_error(s), "(1000000000, 0)"));
    tess_session_clear_error(s);
    ok(s, tess_read_scalar(tess_sum(tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_CHUNKS(2)), TESS_ALL, false), &value));
    assert_true(value == 4);
    tess_session_close(s);
}

static void test_more_than_memory(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 16 * MIB);
    enum { N = 2048 };
    tess_array *r = tess_random_uniform(s, TESS_SHAPE(N, N), TESS_F64, 0, 1, 4, TESS_CHUNKS(256, 256));
    tess_array *squares = tess_multiply(r, r);
    ok(s, tess_persist(squares)); /* 32 MiB: half of it goes to disk */
    ok(s, tess_wait(squares, 0));
    double *data = malloc((size_t)N * N * 8);
    double *again = malloc((size_t)N * N * 8);
    ok(s, tess_read(squares, data, (uint64_t)N * N * 8));
    ok(s, tess_read(tess_multiply(r, r), again, (uint64_t)N * N * 8));
    assert_memory_equal(data, again, (size_t)N * N * 8);
    free(data);
    free(again);
    tess_session_close(s);
}

struct canceller {
    tess_array *array;
    int calls;
};

static void cancel_at_once(const tess_progress *progress, void *context)
{
    struct canceller *canceller = context;
    canceller->calls++;
    if (!progress->finished) {
        tess_cancel(canceller->array);
    }
}

static void *cancel_from_thread(void *argument)
{
    tess_cancel(argument);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    tess_session *s = open_cluster(1, 128 * MIB);
    /* Thousands of blocks: it cannot be complete when the first news of it arrives. */
    tess_array *r = tess_random_normal(s, TESS_SHAPE(4096, 1024), TESS_F64, 0, 1, 4, TESS_CHUNKS(16, 64));
    tess_array *work = tess_exp(tess_sqrt(tess_abs(r)));
    struct canceller canceller = {work, 0};
    tess_session_on_progress(s, cancel_at_once, &canceller);
    ok(s, tess_persist(work));
    assert_int_equal(tess_wait(work, 0), TESS_CANCELLED);
    assert_true(canceller.calls >= 2);
    tess_session_on_progress(s, NULL, NULL);
    assert_int_equal(tess_wait(work, 0), TESS_CANCELLED);
    tess_session_clear_error(s);

    ok(s, tess_persist(work)); /* anew */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_from_thread, work), 0);
    tess_status status = tess_wait(work, 0);
    assert_true(status == TESS_CANCELLED || status == TESS_OK); /* who is first decides */
    pthread_join(thread, NULL);
    tess_session_clear_error(s);
    tess_release(work);
    await_memory(s, 0, 0, 0);
    double value;
    ok(s, tess_read_scalar(tess_sum(tess_ones(s, TESS_SHAPE(100), TESS_F64, TESS_CHUNKS(7)), TESS_ALL, false), &value));
    assert_true(value == 100);
    tess_session_close(s);
}

/* What feeds a result that was cancelled, or released before it was there, stops with it. */
static void test_cancel_stops_what_feeds_it(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (int way = 0; way < 2; way++) {
            tess_session *s = open_cluster(2, 512 * MIB);
            tess_scope *scope = tess_scope_open(s);
            tess_array *x = tess_random_normal(s, TESS_SHAPE(16384, 4096), TESS_F64, 0, 1, 1, TESS_CHUNKS(256, 256));
            tess_array *wanted = kind == 0   ? tess_sum(x, TESS_ALL, false)
                                 : kind == 1 ? tess_sum(tess_exp(tess_transpose(x)), TESS_AXIS(0), false)
                                             : tess_sum(tess_matmul(tess_transpose(x), x), TESS_ALL, false);
            ok(s, tess_persist(wanted));
            if (way == 0) {
                tess_cancel(wanted);
            }
            tess_scope_close(scope);
            double one;
            ok(s, tess_read_scalar(tess_scalar(s, 1, TESS_F64), &one));
            tess_stats stats;
            ok(s, tess_session_stats(s, &stats));
            assert_true(stats.tasks < 300); /* of 1,024 blocks of x alone */
            tess_session_close(s);
        }
    }
}

/* The past of a long iteration is forgotten in the program too, and what is left of it goes on as before. */
static void test_past_is_forgotten(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 128 * MIB);
    double values[64];
    for (size_t i = 0; i < 64; i++) {
        values[i] = (double)i;
    }
    tess_array *w = tess_from_memory(s, values, TESS_SHAPE(64), TESS_F64, TESS_CHUNKS(16));
    tess_array *lazy = tess_multiply_scalar(w, 2);
    ok(s, tess_persist(w));
    for (int step = 0; step < 400; step++) {
        tess_scope *scope = tess_scope_open(s);
        tess_array *next = tess_add_scalar(w, 1);
        ok(s, tess_persist(next));
        ok(s, tess_wait(next, 0));
        tess_release(w);
        w = tess_keep(next);
        tess_scope_close(scope);
    }
    if (getenv("TESSERA_TEST_GPUS") == NULL) { /* what devices made may be lost without the program */
        assert_true(s->named_count < 200);
    }
    tess_array *later = tess_sum(tess_subtract(w, tess_scalar(s, 400, TESS_F64)), TESS_ALL, false);
    double sum;
    ok(s, tess_read_scalar(later, &sum));
    assert_true(sum == 64 * 63 / 2);
    ok(s, tess_read_scalar(tess_sum(lazy, TESS_ALL, false), &sum)); /* it has been let go by all others */
    assert_true(sum == 64 * 63);
    tess_session_close(s);
}

/* An array that was detached is read, released and computed with as any other; so is one that was released before the
 * answer came. */
static void test_detach(void **state)
{
    (void)state;
    const char *gpus = getenv("TESSERA_TEST_GPUS");
    if (gpus != NULL && strstr(gpus, "break=") != NULL) {
        skip(); /* what a broken device alone had is lost, and nothing remembers how it was made */
    }
    tess_session *s = open_cluster(2, 128 * MIB);
    double values[64] = {1, 2, 3}, sum;
    tess_array *mine = tess_from_memory(s, values, TESS_SHAPE(64), TESS_F64, TESS_CHUNKS(16));
    assert_int_equal(tess_detach(mine), TESS_INVALID);
    assert_non_null(strstr(tess_session_error(s), "tess_persist"));
    tess_array *sums[20];
    for (int i = 0; i < 20; i++) {
        tess_array *held = tess_add_scalar(mine, i);
        sums[i] = tess_sum(held, TESS_ALL, false); /* reads it when it has been released */
        ok(s, tess_persist(held));
        ok(s, tess_detach(held));
        ok(s, i % 2 == 0 ? tess_wait(held, 0) : TESS_OK);
        ok(s, tess_detach(held));
        tess_release(i % 3 == 0 ? held : NULL);
    }
    ok(s, tess_persist(mine));
    ok(s, tess_detach(mine));
    ok(s, tess_wait(mine, 0));
    for (int i = 0; i < 20; i++) {
        ok(s, tess_read_scalar(sums[i], &sum));
        assert_true(sum == 6 + 64 * i);
    }
    memset(values, 0, sizeof values);
    ok(s, tess_read(mine, values, sizeof values));
    assert_true(values[2] == 3 && values[3] == 0);
    ok(s, tess_persist(mine));
    tess_session_close(s);
}

static void test_wait_with_a_limit(void **state)
{
    (void)state;
    tess_session *s = open_cluster(1, 64 * MIB);
    tess_array *r = tess_random_normal(s, TESS_SHAPE(4096, 1024), TESS_F64, 0, 1, 4, TESS_CHUNKS(64, 64));
    tess_array *total = tess_sum(tess_exp(r), TESS_ALL, false);
    ok(s, tess_persist(total));
    tess_status status = tess_wait(total, 1);
    assert_true(status == TESS_TIMEOUT || status == TESS_OK);
    assert_int_equal(tess_session_status(s), TESS_OK);
    ok(s, tess_wait(total, 0));
    ok(s, tess_wait(total, 1));
    tess_session_close(s);
}

static void test_sessions_side_by_side(void **state)
{
    (void)state;
    tess_session *sessions[3];
    double value;
    for (int i = 0; i < 3; i++) {
        sessions[i] = open_cluster(1, 32 * MIB);
    }
    for (int i = 0; i < 3; i++) {
        ok(sessions[i], tess_read_scalar(tess_full(sessions[i], TESS_SHAPE_0D, TESS_F64, i, TESS_AUTO), &value));
        assert_true(value == i);
    }
    for (int i = 0; i < 3; i++) {
        tess_session_close(sessions[i]);
    }
}

/* ——— clusters that cannot be reached ——— */

static void test_unreachable(void **state)
{
    (void)state;
    if (getenv("TESSERA_TEST_GPUS") != NULL) {
        skip(); /* there are no workers, and seconds go by: devices make no difference */
    }
    int64_t begin = tessi_clock_now();
    tess_session *s = tess_session_open("tcp://127.0.0.1:1", NULL);
    assert_int_equal(tess_session_status(s), TESS_UNREACHABLE);
    assert_non_null(strstr(tess_session_error(s), "127.0.0.1:1"));
    assert_true(tessi_clock_now() - begin < 10 * TESSI_NS_PER_S);
    tess_session_close(s);
    s = tess_session_open(NULL, &(tess_session_options){.spill_dir = "/no/such/folder", .workers = 1});
    assert_int_not_equal(tess_session_status(s), TESS_OK);
    assert_non_null(strstr(tess_session_error(s), "/no/such/folder"));
    tess_session_close(s);
    s = tess_session_open("tcp://127.0.0.1:1", &(tess_session_options){.keys_dir = "/no/such/keys"});
    assert_int_equal(tess_session_status(s), TESS_NOT_FOUND);
    tess_session_close(s);
}

int main(void)
{
    const struct CMUnitTest shared[] = {
        TEST(test_wrong_uses),
        TEST(test_a_forked_child_is_told),
    };
    const struct CMUnitTest own[] = {
        cmocka_unit_test(test_scopes_free_the_cluster),
        cmocka_unit_test(test_iteration_with_persisted_arrays),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_blocks_without_elements),
        cmocka_unit_test(test_signals_are_the_programs),
        cmocka_unit_test(test_more_than_memory),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_stops_what_feeds_it),
        cmocka_unit_test(test_past_is_forgotten),
        cmocka_unit_test(test_detach),
        cmocka_unit_test(test_wait_with_a_limit),
        cmocka_unit_test(test_sessions_side_by_side),
        cmocka_unit_test(test_unreachable),
    };
    int failures = cmocka_run_group_tests_name("one cluster", shared, open_group, close_group);
    return failures + cmocka_run_group_tests_name("clusters of their own", own, NULL, NULL);
}
