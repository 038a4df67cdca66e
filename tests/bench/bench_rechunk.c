/* Whole rows to whole columns: x(i, j) = i·n + j in blocks of rows, cut anew into blocks of columns, and the sum of each
 * column, which is known. With --held the columns are held before they are summed; with --symmetric it is x + xᵀ in blocks
 * of rows; with --part eight columns of x are summed, which is held in blocks of rows; with --shifted it is x less itself
 * shifted by a row and a column, every --step of them, and --held holds x; --columns cuts the rows of x. With --tiny the
 * first `chunks` × 8 integers, in blocks of 8, become one block. `--copy FOLDER` instead copies as many bytes once through
 * a file there: the least that memory which is too small asks for. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/graph.h"
#include "tests/bench/options.h"

#define PIECE_BYTES (INT64_C(1) << 20)

static double copy_through(const char *folder, int64_t bytes)
{
    char path[4096];
    char *piece = malloc(PIECE_BYTES);
    (void)snprintf(path, sizeof path, "%s/bench_rechunk.%ld", folder, (long)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (piece == NULL || fd < 0) {
        bench_die("cannot make %s", path);
    }
    (void)unlink(path);
    memset(piece, 1, PIECE_BYTES);
    double started = bench_seconds_now();
    for (int64_t at = 0; at < bytes; at += PIECE_BYTES) {
        if (pwrite(fd, piece, PIECE_BYTES, at) != PIECE_BYTES) {
            bench_die("cannot write %lld bytes below %s", (long long)bytes, folder);
        }
    }
    for (int64_t at = 0; at < bytes; at += PIECE_BYTES) {
        if (pread(fd, piece, PIECE_BYTES, at) != PIECE_BYTES) {
            bench_die("cannot read %lld bytes below %s", (long long)bytes, folder);
        }
    }
    double seconds = bench_seconds_now() - started;
    (void)close(fd);
    free(piece);
    return seconds;
}

static void check_status(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
}

struct job {
    int64_t n, chunk, columns, step;
    bool held, symmetric, part, shifted, tiny;
};

/* x(i, j) = i·n + j in blocks of `chunk` rows: what can be made again only by computing it. */
static tess_array *numbers(tess_session *session, const struct job *job)
{
    int64_t n = job->n;
    double *first = calloc((size_t)n, sizeof *first);
    if (first == NULL) {
        bench_die("no memory for %lld numbers", (long long)n);
    }
    for (int64_t i = 0; i < n; i++) {
        first[i] = (double)(i * n);
    }
    tess_array *column = tess_from_memory(session, first, TESS_SHAPE(n, 1), TESS_F64, TESS_CHUNKS(job->chunk, 1));
    free(first);
    return tess_add(column, tess_arange(session, 0, (double)n, 1, TESS_F64, TESS_CHUNKS(job->columns)));
}

#define PART_FIRST 3 /* columns */
#define PART_COUNT 8

static int64_t columns_of(const struct job *job)
{
    return job->part ? PART_COUNT : job->shifted ? (job->n - 2) / job->step + 1 : job->n;
}

/* Sums of columns: integers below 2^53, so they are exact. */
static void check_sums(const struct job *job, const double *sum)
{
    double n = (double)job->n, half = n * (n - 1) / 2;
    for (int64_t j = 0; j < columns_of(job); j++) {
        double column = (double)(job->part ? PART_FIRST + j : j);
        double right = n * half + n * column + (job->symmetric ? n * column * n + half : 0.0);
        right = job->shifted ? (double)columns_of(job) * (n + 1) : right;
        if (sum[j] != right) {
            bench_die("the sum of column %.0f is %.17g, not %.17g", column, sum[j], right);
        }
    }
}

static void hold(tess_session *session, tess_array *array)
{
    check_status(session, tess_persist(array));
    check_status(session, tess_wait(array, 0));
}

#define TINY 8 /* elements of a block */

static double run_tiny(tess_session *session, int64_t chunks)
{
    double sum = 0, n = (double)(chunks * TINY), started = bench_seconds_now();
    tess_array *x = tess_arange(session, 0, n, 1, TESS_F64, TESS_CHUNKS(TINY));
    check_status(session, tess_read_scalar(tess_sum(tess_rechunk(x, TESS_CHUNKS(-1)), TESS_ALL, false), &sum));
    if (sum != n * (n - 1) / 2) {
        bench_die("the sum is %.17g, not %.17g", sum, n * (n - 1) / 2);
    }
    return bench_seconds_now() - started;
}

static double run_once(tess_session *session, const struct job *job, double *sum)
{
    double started = bench_seconds_now();
    tess_scope *scope = tess_scope_open(session);
    tess_array *x = numbers(session, job), *y;
    if (job->part || (job->shifted && job->held)) {
        hold(session, x);
    }
    if (job->shifted) {
        tess_range later = {1, job->n, job->step}, earlier = {0, job->n - 1, job->step};
        y = tess_subtract(tess_slice(x, TESS_SLICES(later, later)), tess_slice(x, TESS_SLICES(earlier, earlier)));
    } else if (job->part) {
        y = tess_slice(x, TESS_SLICES(TESS_WHOLE, TESS_RANGE(PART_FIRST, PART_FIRST + PART_COUNT)));
    } else if (job->symmetric) {
        y = tess_add(x, tess_transpose(x));
    } else {
        y = tess_rechunk(x, TESS_CHUNKS(job->n, job->chunk));
    }
    if (job->held && !job->shifted) {
        hold(session, y);
    }
    uint64_t bytes = (uint64_t)columns_of(job) * sizeof *sum;
    check_status(session, tess_read(tess_sum(y, TESS_AXIS(0), false), sum, bytes));
    double seconds = bench_seconds_now() - started;
    tess_scope_close(scope);
    check_sums(job, sum);
    return seconds;
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *copy = NULL;
    int64_t chunks = 64, workers = 2;
    struct job job = {.n = 16384, .step = 1};
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--n", BENCH_NUMBER, &job.n, "rows and columns (16384)"},
        {"--chunks", BENCH_NUMBER, &chunks, "blocks of rows, and of columns (64)"},
        {"--columns", BENCH_NUMBER, &job.columns, "of a block of x (all)"},
        {"--held", BENCH_FLAG, &job.held, "hold the columns before they are summed, or what is shifted"},
        {"--symmetric", BENCH_FLAG, &job.symmetric, "x + its transpose instead"},
        {"--part", BENCH_FLAG, &job.part, "a few columns of x, held in blocks of rows, instead"},
        {"--shifted", BENCH_FLAG, &job.shifted, "x less itself shifted by a row and a column instead"},
        {"--step", BENCH_NUMBER, &job.step, "between the rows and columns of what is shifted (1)"},
        {"--tiny", BENCH_FLAG, &job.tiny, "so many tiny blocks into one instead"},
        {"--copy", BENCH_TEXT, &copy, "FOLDER: only copy as many bytes through a file there"},
    };
    bench_options_parse(argc, argv, "Times a rechunk of whole rows to whole columns.", options,
                        sizeof options / sizeof options[0]);
    double seconds = 0;
    int64_t bytes = job.n * job.n * (int64_t)sizeof(double);
    job.chunk = (job.n - 1) / chunks + 1;
    job.columns = job.columns > 0 ? job.columns : job.n;
    if (copy != NULL) {
        seconds = copy_through(copy, bytes);
    } else {
        tess_session *session = bench_session_open(scheduler, workers, (uint32_t)workers);
        double *sum = calloc((size_t)job.n + PART_COUNT, sizeof *sum);
        if (sum == NULL) {
            bench_die("no memory for %lld sums", (long long)job.n);
        }
        seconds = job.tiny ? run_tiny(session, chunks) : run_once(session, &job, sum);
        free(sum);
        tess_session_close(session);
    }
    printf("{\"bench\": \"rechunk\", \"bytes\": %lld, \"chunks\": %lld, \"seconds\": %.6f}\n",
           (long long)bytes, (long long)chunks, seconds);
    return 0;
}
