/* A trace of the cluster inside the process. With arguments it is a client for test_trace.py:
 *
 *     test_trace_run ADDRESS TASKS MILLISECONDS
 *
 * computes two layers of TASKS blocks, the second reading the first; each task of the first sleeps for so long, the
 * first one of all ten times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <unistd.h>

#include "client/link.h"
#include "client/tessera.h"
#include "core/base/alloc.h"
#include "core/net/context.h"

/* ——— the client ——— */

static struct tessi_layer *sleepers(uint32_t session, uint32_t id, int64_t tasks, uint64_t nanoseconds)
{
    struct tessi_layer *layer = tessi_layer_create(session, id, TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {.ndim = 1, .dim = {tasks}};
    int64_t chunk = 1;
    tessi_grid_regular(&layer->grid, &shape, &chunk);
    layer->as.synthetic.nanoseconds = nanoseconds;
    return layer;
}

static void reads(struct tessi_layer *layer, const struct tessi_layer *from, struct tessi_rule rule)
{
    struct tessi_input *input = tessi_layer_add_input(layer, from->id);
    input->dtype = from->dtype;
    tessi_grid_copy(&input->grid, &from->grid);
    input->rules.ndim = 1;
    input->rules.rule[0] = rule;
}

static int fail_with(const struct tessi_error *error)
{
    fprintf(stderr, "test_trace_run: %s\n", error->text);
    return 1;
}

static int client(const char *address, int64_t tasks, uint64_t milliseconds)
{
    struct tessi_net *net;
    struct tessi_link *link;
    struct tessi_error error = {0};
    int64_t elapsed_ns;
    if (tessi_net_create(NULL, &net, &error) != TESSI_OK) {
        return fail_with(&error);
    }
    const struct tessi_link_config config = {.net = net, .address = address, .name = "sleeper", .timeout_ms = 10000};
    if (tessi_link_open(&config, &link, &error) != TESSI_OK) {
        tessi_net_destroy(net);
        return fail_with(&error);
    }
    uint32_t session = tessi_link_id(link), wanted = 3;
    struct tessi_layer *layers[3];
    layers[0] = sleepers(session, 1, 1, 10 * milliseconds * 1000000);
    layers[1] = sleepers(session, 2, tasks, milliseconds * 1000000);
    layers[2] = sleepers(session, 3, tasks, 0);
    reads(layers[2], layers[0], (struct tessi_rule){.kind = TESSI_RULE_ALL});
    reads(layers[2], layers[1], (struct tessi_rule){.kind = TESSI_RULE_SAME});
    enum tessi_status status = tessi_link_submit(link, layers, 3, &wanted, 1, &error);
    if (status == TESSI_OK) {
        printf("submitted by %u\n", session);
        fflush(stdout);
        status = tessi_link_wait(link, wanted, INT64_MAX, NULL, NULL, &elapsed_ns, &error);
    }
    for (size_t i = 0; i < 3; i++) {
        tessi_layer_destroy(layers[i]);
    }
    tessi_link_close(link);
    tessi_net_destroy(net);
    return status == TESSI_OK ? 0 : fail_with(&error);
}

/* ——— the cluster inside the process ——— */

static cJSON *read_json(const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = tessi_alloc(1 << 22);
    size_t size = fread(text, 1, (1 << 22) - 1, file);
    text[size] = 0;
    fclose(file);
    cJSON *document = cJSON_Parse(text);
    tessi_free(text);
    assert_non_null(document);
    return document;
}

static int count(const cJSON *document, const char *category)
{
    const cJSON *event;
    int found = 0;
    cJSON_ArrayForEach(event, cJSON_GetObjectItemCaseSensitive(document, "traceEvents"))
    {
        const char *is = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "cat"));
        found += is != NULL && strcmp(is, category) == 0;
    }
    return found;
}

static void temporary(char *path, size_t size)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/tessera-trace-XXXXXX", folder != NULL ? folder : "/tmp");
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
}

/* The sum of ten blocks of ones: so many events where there is room, and fewer where there is not. */
static void compute_and_trace(uint32_t trace_events, const char *path)
{
    tess_session *session = tess_session_open(
        NULL, &(tess_session_options){.workers = 2, .memory_bytes = 64 << 20, .trace_events = trace_events});
    tess_array *ones = tess_full(session, TESS_SHAPE(1000), TESS_F64, 1, TESS_CHUNKS(100));
    double sum = 0;
    assert_int_equal(tess_read(tess_sum(ones, TESS_AXIS(0), false), &sum, sizeof sum), TESS_OK);
    assert_float_equal(sum, 1000, 0);
    assert_int_equal(tess_session_trace(session, path), TESS_OK);
    assert_int_equal(tess_session_trace(session, "/nowhere/at/all.json"), TESS_IO);
    assert_non_null(strstr(tess_session_error(session), "/nowhere/at/all.json"));
    assert_int_equal(tess_session_trace(session, NULL), TESS_INVALID);
    tess_session_close(session);
}

static void test_embedded_trace(void **state)
{
    (void)state;
    char path[512];
    temporary(path, sizeof path);
    compute_and_trace(0, path);
    cJSON *document = read_json(path);
    assert_true(count(document, "run") >= 11); /* ten sources, and a step for each of them in the sum */
    assert_true(count(document, "layer") >= 2);
    assert_int_equal(count(document, "join"), 1);
    cJSON_Delete(document);
    compute_and_trace(4, path); /* room for three events of each slot */
    document = read_json(path);
    assert_in_range(count(document, "run"), 1, 6);
    const cJSON *other = cJSON_GetObjectItemCaseSensitive(document, "otherData");
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(other, "overwritten")) >= 5);
    cJSON_Delete(document);
    unlink(path);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        return argc < 4 ? 2 : client(argv[1], strtoll(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_embedded_trace)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
