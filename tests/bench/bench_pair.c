/* What a plain ZeroMQ pair moves between two processes: the floor of block transfer.
 *
 * The side that listens owns the bytes and sends them, without a copy, in frames; the side that connects asks for
 * them and receives every frame into memory that ZeroMQ makes (`--copy` also gathers them into one buffer). Timed by
 * the receiver from its request to its last frame, after a warm-up. Without `--listen` or `--connect` the program
 * forks and is both. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "core/net/keys.h"
#include "tests/bench/options.h"

#define FRAMES_QUEUED 64
#define TIMEOUT_MS 60000
#define ENDPOINT_MAX 256

struct request { /* receiver to sender; 0 bytes: the end */
    int64_t bytes;
    int64_t frame_bytes;
};

struct settings {
    int64_t bytes;
    int64_t frame_bytes;
    int64_t repeats;
    const char *transport; /* of the fork mode */
    const char *listen;
    const char *connect;
    const char *keys_dir;
    bool is_encrypted;
    bool copies;
    struct tessi_keys keys;
};

static void check_zmq(int result, const char *what)
{
    if (result < 0) {
        bench_die("%s: %s", what, zmq_strerror(zmq_errno()));
    }
}

static void set_int(void *socket, int option, int value)
{
    check_zmq(zmq_setsockopt(socket, option, &value, sizeof value), "zmq_setsockopt");
}

/* Both sides of a run use one pair of keys, as the members of a cluster do. */
static void load_keys(struct settings *settings)
{
    struct tessi_error error;
    if (settings->keys_dir != NULL) {
        if (tessi_keys_load(settings->keys_dir, &settings->keys, &error) != TESSI_OK) {
            bench_die("%s", error.text);
        }
        settings->is_encrypted = true;
    } else if (settings->is_encrypted) {
        if (settings->listen != NULL || settings->connect != NULL) {
            bench_die("--curve makes its own keys, which two commands cannot share: use --keys DIR");
        }
        check_zmq(zmq_curve_keypair(settings->keys.public_key, settings->keys.secret_key), "zmq_curve_keypair");
    }
}

static void *socket_open(void *context, const struct settings *settings, bool is_server)
{
    void *socket = zmq_socket(context, ZMQ_PAIR);
    if (socket == NULL) {
        bench_die("zmq_socket: %s", zmq_strerror(zmq_errno()));
    }
    set_int(socket, ZMQ_SNDHWM, FRAMES_QUEUED);
    set_int(socket, ZMQ_RCVHWM, FRAMES_QUEUED);
    set_int(socket, ZMQ_SNDTIMEO, TIMEOUT_MS);
    set_int(socket, ZMQ_RCVTIMEO, TIMEOUT_MS);
    if (settings->is_encrypted) {
        const char *public_key = settings->keys.public_key, *secret_key = settings->keys.secret_key;
        if (is_server) {
            set_int(socket, ZMQ_CURVE_SERVER, 1);
        } else {
            check_zmq(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, public_key, strlen(public_key)), "server key");
        }
        check_zmq(zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, public_key, strlen(public_key)), "public key");
        check_zmq(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret_key, strlen(secret_key)), "secret key");
    }
    return socket;
}

static void keep_buffer(void *data, void *hint)
{
    (void)data;
    (void)hint;
}

static void send_all(void *socket, unsigned char *bytes, const struct request *request)
{
    for (int64_t at = 0; at < request->bytes; at += request->frame_bytes) {
        int64_t left = request->bytes - at;
        zmq_msg_t frame;
        check_zmq(zmq_msg_init_data(&frame, bytes + at,
                                    (size_t)(left < request->frame_bytes ? left : request->frame_bytes), keep_buffer,
                                    NULL),
                  "zmq_msg_init_data");
        check_zmq(zmq_msg_send(&frame, socket, 0), "sending");
    }
}

/* Serve one receiver. `report` gets the endpoint's text: a pipe in the fork mode, standard output otherwise. */
static void serve(const struct settings *settings, const char *endpoint, FILE *report)
{
    void *context = zmq_ctx_new();
    void *socket = socket_open(context, settings, true);
    check_zmq(zmq_bind(socket, endpoint), endpoint);
    char bound[ENDPOINT_MAX];
    size_t size = sizeof bound;
    check_zmq(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &size), "ZMQ_LAST_ENDPOINT");
    fprintf(report, "listening on %s\n", bound);
    (void)fflush(report);
    unsigned char *bytes = NULL;
    int64_t capacity = 0;
    for (;;) {
        struct request request;
        check_zmq(zmq_recv(socket, &request, sizeof request, 0), "waiting for a request");
        if (request.bytes == 0) {
            break;
        }
        if (request.bytes > capacity) { /* the first request is the largest and is not timed */
            free(bytes);
            bytes = malloc((size_t)request.bytes);
            if (bytes == NULL) {
                bench_die("%lld MB of memory", (long long)(request.bytes >> 20));
            }
            memset(bytes, 0x5a, (size_t)request.bytes);
            capacity = request.bytes;
        }
        send_all(socket, bytes, &request);
    }
    check_zmq(zmq_close(socket), "zmq_close");
    check_zmq(zmq_ctx_term(context), "zmq_ctx_term");
    free(bytes);
}

/* Seconds from the request to the last byte. */
static double receive_all(void *socket, int64_t bytes, int64_t frame_bytes, unsigned char *gathered)
{
    struct request request = {.bytes = bytes, .frame_bytes = frame_bytes};
    double started = bench_seconds_now();
    check_zmq(zmq_send(socket, &request, sizeof request, 0), "requesting");
    for (int64_t at = 0; at < bytes;) {
        zmq_msg_t frame;
        check_zmq(zmq_msg_init(&frame), "zmq_msg_init");
        check_zmq(zmq_msg_recv(&frame, socket, 0), "receiving");
        if (gathered != NULL) {
            memcpy(gathered + at, zmq_msg_data(&frame), zmq_msg_size(&frame));
        }
        at += (int64_t)zmq_msg_size(&frame);
        check_zmq(zmq_msg_close(&frame), "zmq_msg_close");
    }
    return bench_seconds_now() - started;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void receive(const struct settings *settings, const char *endpoint)
{
    void *context = zmq_ctx_new();
    void *socket = socket_open(context, settings, false);
    check_zmq(zmq_connect(socket, endpoint), endpoint);
    unsigned char *gathered = NULL;
    if (settings->copies) {
        gathered = malloc((size_t)settings->bytes);
        if (gathered == NULL) {
            bench_die("%lld MB of memory", (long long)(settings->bytes >> 20));
        }
        memset(gathered, 0, (size_t)settings->bytes);
    }
    double *seconds = calloc((size_t)settings->repeats, sizeof *seconds);
    if (seconds == NULL) {
        bench_die("no memory");
    }
    (void)receive_all(socket, settings->bytes, settings->frame_bytes, gathered);
    for (int64_t r = 0; r < settings->repeats; r++) {
        seconds[r] = receive_all(socket, settings->bytes, settings->frame_bytes, gathered);
    }
    struct request end = {0};
    check_zmq(zmq_send(socket, &end, sizeof end, 0), "ending");
    check_zmq(zmq_close(socket), "zmq_close");
    check_zmq(zmq_ctx_term(context), "zmq_ctx_term");
    free(gathered);

    qsort(seconds, (size_t)settings->repeats, sizeof *seconds, compare_doubles);
    double median = seconds[settings->repeats / 2];
    printf("{\"program\": \"bench_pair\", \"bytes\": %lld, \"frame\": %lld, \"curve\": %s, \"copy\": %s, "
           "\"repeats\": %lld, \"seconds\": %.6f, \"gb_per_s\": %.3f, \"gb_per_s_best\": %.3f}\n",
           (long long)settings->bytes, (long long)settings->frame_bytes, settings->is_encrypted ? "true" : "false",
           settings->copies ? "true" : "false", (long long)settings->repeats, median,
           (double)settings->bytes / median / 1e9, (double)settings->bytes / seconds[0] / 1e9);
    free(seconds);
}

static void run_both(const struct settings *settings)
{
    int ends[2];
    if (pipe(ends) != 0) {
        bench_die("pipe: %s", strerror(errno));
    }
    pid_t child = fork();
    if (child < 0) {
        bench_die("fork: %s", strerror(errno));
    }
    if (child == 0) {
        (void)close(ends[0]);
        FILE *report = fdopen(ends[1], "w");
        if (report == NULL) {
            bench_die("fdopen: %s", strerror(errno));
        }
        serve(settings, settings->transport, report);
        (void)fclose(report);
        exit(0);
    }
    (void)close(ends[1]);
    FILE *report = fdopen(ends[0], "r");
    char line[ENDPOINT_MAX + 32], endpoint[ENDPOINT_MAX];
    if (report == NULL || fgets(line, sizeof line, report) == NULL ||
        sscanf(line, "listening on %255s", endpoint) != 1) {
        (void)kill(child, SIGKILL);
        bench_die("the sending process did not start");
    }
    receive(settings, endpoint);
    (void)fclose(report);
    (void)waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    struct settings settings = {
        .bytes = INT64_C(1) << 30, .frame_bytes = INT64_C(1) << 20, .repeats = 3, .transport = "tcp://127.0.0.1:*"};
    const struct bench_option options[] = {
        {"--bytes", BENCH_BYTES, &settings.bytes, "to move each time (1GiB)"},
        {"--frame", BENCH_BYTES, &settings.frame_bytes, "of one message (1MiB)"},
        {"--repeats", BENCH_NUMBER, &settings.repeats, "the median of so many (3)"},
        {"--transport", BENCH_TEXT, &settings.transport, "between two processes made here (tcp://127.0.0.1:*)"},
        {"--listen", BENCH_TEXT, &settings.listen, "only send, from this endpoint; prints `listening on …`"},
        {"--connect", BENCH_TEXT, &settings.connect, "only receive, from this endpoint"},
        {"--keys", BENCH_TEXT, &settings.keys_dir, "encrypt with the keys of a cluster"},
        {"--curve", BENCH_FLAG, &settings.is_encrypted, "encrypt with keys made for this run"},
        {"--copy", BENCH_FLAG, &settings.copies, "gather the frames into one buffer"},
    };
    bench_options_parse(argc, argv, "Measures what two ZeroMQ sockets move between two processes.", options,
                        sizeof options / sizeof options[0]);
    load_keys(&settings);
    if (settings.listen != NULL) {
        serve(&settings, settings.listen, stdout);
    } else if (settings.connect != NULL) {
        receive(&settings, settings.connect);
    } else {
        run_both(&settings);
    }
    tessi_keys_wipe(&settings.keys);
    return 0;
}
