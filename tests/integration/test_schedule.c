/* Priorities and resources with real processes: a scheduler, workers, and this program as the client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/tessera.h"

extern char **environ;

#define WORDS_MAX 16
#define PROCESSES_MAX 8
#define BLOCK (1 << 19) /* elements: a block of normal numbers takes some milliseconds */

struct cluster {
    char tessera[PATH_MAX];
    char address[256];
    pid_t process[PROCESSES_MAX]; /* the scheduler first */
    size_t count;
    tess_session *session;
};

/* Start `tessera` with the words, up to a NULL; what follows `prefix` in the first line that it prints. */
static void launch(struct cluster *cluster, const char *prefix, char *rest, size_t size, const char *const *words)
{
    char *arguments[WORDS_MAX + 2] = {cluster->tessera};
    int ends[2];
    for (size_t i = 0; i < WORDS_MAX && words[i] != NULL; i++) {
        arguments[i + 1] = (char *)(uintptr_t)words[i];
    }
    assert_int_equal(pipe(ends), 0);
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], 1), 0);
    assert_int_equal(posix_spawn_file_actions_addclose(&actions, ends[0]), 0);
    assert_true(cluster->count < PROCESSES_MAX);
    assert_int_equal(
        posix_spawn(&cluster->process[cluster->count++], cluster->tessera, &actions, NULL, arguments, environ), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
    (void)close(ends[1]);
    char line[512] = "";
    FILE *out = fdopen(ends[0], "r");
    assert_non_null(out);
    assert_non_null(fgets(line, sizeof line, out));
    (void)fclose(out); /* it prints nothing more */
    line[strcspn(line, "\n")] = 0;
    assert_memory_equal(line, prefix, strlen(prefix));
    (void)snprintf(rest, size, "%s", line + strlen(prefix));
}

static void add_worker(struct cluster *cluster, const char *threads, const char *resources)
{
    char told[512];
    const char *const words[] = {"worker",  cluster->address, "--threads",   threads,   "--memory", "1GiB",
                                 "--spill", "none",           "--resources", resources, NULL};
    launch(cluster, "connected to ", told, sizeof told, words);
}

static void start(struct cluster *cluster, const char *wait_workers)
{
    char own[PATH_MAX] = "";
    *cluster = (struct cluster){.count = 0};
    assert_int_equal(setenv("TESSERA_LOG", "warn", 1), 0);
    assert_true(readlink("/proc/self/exe", own, sizeof own - 1) > 0);
    assert_true((size_t)snprintf(cluster->tessera, sizeof cluster->tessera, "%.4000s/../../bin/tessera", dirname(own)) <
                sizeof cluster->tessera);
    const char *const words[] = {"scheduler", "--listen",       "tcp://127.0.0.1:0", "--history",
                                 "none",      "--wait-workers", wait_workers,        NULL};
    launch(cluster, "listening on ", cluster->address, sizeof cluster->address, words);
    cluster->session = tess_session_open(cluster->address, NULL);
    assert_string_equal(tess_session_error(cluster->session), "");
}

static void stop(struct cluster *cluster)
{
    tess_session_close(cluster->session);
    for (size_t i = cluster->count; i-- > 0;) {
        int status = 0;
        assert_int_equal(kill(cluster->process[i], i == 0 ? SIGTERM : SIGKILL), 0);
        assert_int_equal(waitpid(cluster->process[i], &status, 0), cluster->process[i]);
        assert_true(i > 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    }
}

/* What `tessera status --json` says; freed by the caller. */
static cJSON *status_of(const struct cluster *cluster)
{
    static char text[1 << 20];
    char command[PATH_MAX + 512];
    (void)snprintf(command, sizeof command, "'%s' status '%s' --json", cluster->tessera, cluster->address);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    size_t size = fread(text, 1, sizeof text - 1, out);
    text[size] = 0;
    assert_int_equal(pclose(out), 0);
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    return root;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static tess_array *blocks(tess_session *session, int64_t count, uint64_t seed)
{
    return tess_random_normal(session, TESS_SHAPE(count * BLOCK), TESS_F64, 0, 1, seed, TESS_CHUNKS(BLOCK));
}

static void test_only_workers_with_the_resource(void **state)
{
    (void)state;
    struct cluster cluster;
    start(&cluster, "5s");
    add_worker(&cluster, "2", "ssd=1");
    add_worker(&cluster, "2", "license=1");
    tess_array *a = blocks(cluster.session, 12, 7);
    assert_int_equal(tess_schedule(a, &(tess_compute_options){.resources = "ssd"}), TESS_OK);
    assert_int_equal(tess_persist(a), TESS_OK);
    assert_int_equal(tess_wait(a, 0), TESS_OK);
    cJSON *status = status_of(&cluster);
    const cJSON *worker;
    cJSON_ArrayForEach(worker, cJSON_GetObjectItemCaseSensitive(status, "workers"))
    {
        const char *has = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(worker, "resources"));
        assert_non_null(has);
        assert_true(number(worker, "tasks_done") == (strcmp(has, "ssd=1") == 0 ? 12 : 0));
    }
    cJSON_Delete(status);
    double with = 0, without = 0;
    assert_int_equal(tess_read_scalar(tess_sum(a, TESS_ALL, false), &with), TESS_OK);
    assert_int_equal(tess_read_scalar(tess_sum(blocks(cluster.session, 12, 7), TESS_ALL, false), &without), TESS_OK);
    assert_true(with == without);
    stop(&cluster);
}

static void test_nobody_has_the_resource(void **state)
{
    (void)state;
    struct cluster cluster;
    start(&cluster, "1s");
    add_worker(&cluster, "1", "ssd=1");
    tess_array *a = blocks(cluster.session, 2, 7);
    assert_int_equal(tess_schedule(a, &(tess_compute_options){.resources = "tape=2"}), TESS_OK);
    assert_int_equal(tess_persist(a), TESS_OK);
    assert_int_equal(tess_wait(a, 0), TESS_NO_WORKERS);
    assert_non_null(strstr(tess_session_error(cluster.session), "--resources tape=2"));
    stop(&cluster);
}

static void test_a_worker_with_the_resource_joins(void **state)
{
    (void)state;
    struct cluster cluster;
    start(&cluster, "600s");
    add_worker(&cluster, "1", "ssd=1");
    tess_array *a = blocks(cluster.session, 2, 7);
    assert_int_equal(tess_session_schedule(cluster.session, &(tess_compute_options){.resources = "tape=2"}), TESS_OK);
    assert_int_equal(tess_persist(a), TESS_OK);
    add_worker(&cluster, "1", "tape=2");
    assert_int_equal(tess_wait(a, 0), TESS_OK);
    stop(&cluster);
}

struct reading {
    tess_array *array;
    double values[16];
    tess_status status;
};

static void *read_values(void *argument)
{
    struct reading *reading = argument;
    reading->status = tess_read(reading->array, reading->values, sizeof reading->values);
    return NULL;
}

/* Workers send a small result by themselves to a client that is connected to them. One that joins after the client has
 * begun to wait makes it here and cannot: the client must ask for it when the scheduler says that it is done. */
static void test_a_small_result_that_nobody_sends(void **state)
{
    (void)state;
    struct cluster cluster;
    pthread_t thread;
    start(&cluster, "600s");
    add_worker(&cluster, "1", "ssd=1");
    struct reading reading = {.array = tess_full(cluster.session, TESS_SHAPE(16), TESS_F64, 1, TESS_AUTO)};
    (void)read_values(&reading); /* connects the client and the worker */
    assert_int_equal(reading.status, TESS_OK);
    assert_int_equal(tess_session_schedule(cluster.session, &(tess_compute_options){.resources = "tape"}), TESS_OK);
    reading = (struct reading){.array = tess_full(cluster.session, TESS_SHAPE(16), TESS_F64, 7, TESS_AUTO)};
    assert_int_equal(pthread_create(&thread, NULL, read_values, &reading), 0);
    for (bool waits = false; !waits;) { /* what the scheduler knows, the client waits for */
        cJSON *status = status_of(&cluster);
        waits = number(status, "tasks_waiting") > 0;
        cJSON_Delete(status);
    }
    add_worker(&cluster, "1", "tape=1");
    struct timespec deadline;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &deadline), 0);
    deadline.tv_sec += 60; /* ends a test that would hang */
    assert_int_equal(pthread_timedjoin_np(thread, NULL, &deadline), 0);
    assert_int_equal(reading.status, TESS_OK);
    for (int i = 0; i < 16; i++) {
        assert_true(reading.values[i] == 7);
    }
    stop(&cluster);
}

static void test_higher_priority_goes_first(void **state)
{
    (void)state;
    struct cluster cluster;
    start(&cluster, "5s");
    add_worker(&cluster, "1", "ssd=1");
    tess_array *bulk[200];
    for (uint64_t i = 0; i < 200; i++) { /* a sum each, so that none of them stays in memory */
        bulk[i] = tess_sum(blocks(cluster.session, 4, i), TESS_ALL, false);
    }
    tess_array *urgent = tess_sum(blocks(cluster.session, 4, 1000), TESS_ALL, false);
    assert_int_equal(tess_persist_all(bulk, 200), TESS_OK);
    assert_int_equal(tess_schedule(urgent, &(tess_compute_options){.priority = 5}), TESS_OK);
    assert_int_equal(tess_persist(urgent), TESS_OK);
    assert_int_equal(tess_wait(urgent, 0), TESS_OK);
    cJSON *status = status_of(&cluster);
    assert_true(number(status, "tasks_waiting") > 400); /* of 1,000 and some */
    cJSON_Delete(status);
    stop(&cluster);
}

static void test_wrong_options(void **state)
{
    (void)state;
    struct cluster cluster;
    start(&cluster, "5s");
    tess_array *a = blocks(cluster.session, 1, 7);
    const tess_compute_options wrong[] = {{.priority = TESS_PRIORITY_MAX + 1}, {.priority = -TESS_PRIORITY_MAX - 1},
                                          {.policy = (tess_policy)77},         {.resources = "ssd=0"},
                                          {.resources = "s s d"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tess_session_clear_error(cluster.session);
        assert_int_equal(tess_schedule(a, &wrong[i]), TESS_INVALID);
        assert_non_null(strstr(tess_session_error(cluster.session), "tess_schedule: "));
        assert_int_equal(tess_session_schedule(cluster.session, &wrong[i]), TESS_INVALID);
    }
    assert_int_equal(tess_schedule(NULL, NULL), TESS_INVALID);
    assert_int_equal(tess_session_schedule(NULL, NULL), TESS_INVALID);
    stop(&cluster);
}

static void test_the_cluster_inside_the_process(void **state)
{
    (void)state;
    tess_session *session = tess_session_open(NULL, &(tess_session_options){.workers = 1, .resources = "ssd=1"});
    assert_string_equal(tess_session_error(session), "");
    tess_array *a = blocks(session, 2, 7);
    double sum;
    assert_int_equal(tess_schedule(a, &(tess_compute_options){.resources = "ssd"}), TESS_OK);
    assert_int_equal(tess_read_scalar(tess_sum(a, TESS_ALL, false), &sum), TESS_OK);
    tess_session_close(session);
    session = tess_session_open(NULL, &(tess_session_options){.workers = 1, .resources = "ssd=x"});
    assert_int_equal(tess_session_status(session), TESS_INVALID);
    tess_session_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_workers_with_the_resource),
        cmocka_unit_test(test_nobody_has_the_resource),
        cmocka_unit_test(test_a_worker_with_the_resource_joins),
        cmocka_unit_test(test_a_small_result_that_nobody_sends),
        cmocka_unit_test(test_higher_priority_goes_first),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_the_cluster_inside_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
