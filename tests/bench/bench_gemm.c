/* The floor of a blocked product: the block calls of C = A·B with nothing around them.
 *
 * Processes or threads share the blocks, each owns a near-square part of C's blocks, and each computes
 * C(i,j) += A(i,k)·B(k,j) over k from (i + j) mod K, with the kernels that the workers use. Every page that a
 * process will use is touched by it before the clock starts; the time is from a barrier to the last end. `--direct`
 * is one call of the library over the whole matrices with threads of its own. The result is checked at
 * sampled elements. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/options.h"
#include "worker/kernel/blas.h"

#define PARALLEL_MAX 256
#define PAGE_BYTES 4096

struct region { /* of C's blocks: rows [row_lo, row_hi), columns [column_lo, column_hi) */
    int64_t row_lo, row_hi, column_lo, column_hi;
};

/* In shared memory. */
struct control {
    pthread_barrier_t barrier;
    double started[PARALLEL_MAX];
    double ended[PARALLEL_MAX];
};

struct problem {
    int64_t n, chunk, blocks; /* blocks: along one side */
    double *a, *b, *c;        /* block after block, row-major; a block takes chunk² elements whatever its size */
    int64_t parallel;
    struct region region[PARALLEL_MAX];
    struct control *control;
};

struct part {
    const struct problem *problem;
    int64_t number;
};

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t extent_of(const struct problem *problem, int64_t block)
{
    return min_i64(problem->chunk, problem->n - block * problem->chunk);
}

static double *block_at(const struct problem *problem, double *matrix, int64_t row, int64_t column)
{
    return matrix + (row * problem->blocks + column) * problem->chunk * problem->chunk;
}

static double *element_at(const struct problem *problem, double *matrix, int64_t row, int64_t column)
{
    int64_t chunk = problem->chunk;
    double *block = block_at(problem, matrix, row / chunk, column / chunk);
    return block + row % chunk * extent_of(problem, column / chunk) + column % chunk;
}

/* Shared pages for processes, since those are what blocks lie in there; huge pages for threads, the best that a
 * single process can have. */
static void *pages_map(size_t bytes, bool is_shared)
{
    void *pages =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, (is_shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        bench_die("%zu MB of memory: %s", bytes >> 20, strerror(errno));
    }
    if (!is_shared) {
        (void)madvise(pages, bytes, MADV_HUGEPAGE);
    }
    return pages;
}

/* SplitMix64 by Sebastiano Vigna, public domain; uniform in [−1, 1). */
static double sample_at(uint64_t seed, uint64_t index)
{
    uint64_t z = (seed + index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (double)(int64_t)z * 0x1p-63;
}

static void fill(double *matrix, int64_t elements, uint64_t seed)
{
    for (int64_t i = 0; i < elements; i++) {
        matrix[i] = sample_at(seed, (uint64_t)i);
    }
}

/* Cut a region in two across its longest side until there is one for each of `count`. */
static void cut_regions(struct region *regions, int64_t count, struct region whole)
{
    if (count == 1) {
        regions[0] = whole;
        return;
    }
    struct region low = whole, high = whole;
    int64_t half = count / 2;
    int64_t rows = whole.row_hi - whole.row_lo, columns = whole.column_hi - whole.column_lo;
    if (rows >= columns) {
        low.row_hi = high.row_lo = whole.row_lo + (rows * half + count / 2) / count;
    } else {
        low.column_hi = high.column_lo = whole.column_lo + (columns * half + count / 2) / count;
    }
    cut_regions(regions, half, low);
    cut_regions(regions + half, count - half, high);
}

static void multiply_block(const struct problem *problem, int64_t i, int64_t j, int64_t steps)
{
    for (int64_t step = 0; step < steps; step++) {
        int64_t k = (i + j + step) % problem->blocks;
        struct tessi_gemm gemm = {.dtype = TESSI_F64,
                                  .add = step > 0,
                                  .m = extent_of(problem, i),
                                  .n = extent_of(problem, j),
                                  .k = extent_of(problem, k),
                                  .a = block_at(problem, problem->a, i, k),
                                  .lda = extent_of(problem, k),
                                  .b = block_at(problem, problem->b, k, j),
                                  .ldb = extent_of(problem, j),
                                  .c = block_at(problem, problem->c, i, j),
                                  .ldc = extent_of(problem, j)};
        if (!tessi_blas_gemm(&gemm)) {
            bench_die("no OpenBLAS: there is nothing to measure (Debian: libopenblas0-pthread)");
        }
    }
}

/* Shared pages enter a process's page table at its first touch, which is not what is measured here. */
static void touch_pages(const double *matrix, size_t bytes)
{
    const volatile char *page = (const volatile char *)matrix;
    for (size_t at = 0; at < bytes; at += PAGE_BYTES) {
        (void)page[at];
    }
}

static void run_part(const struct problem *problem, int64_t number)
{
    const struct region *region = &problem->region[number];
    size_t bytes = (size_t)(problem->blocks * problem->blocks * problem->chunk * problem->chunk) * sizeof(double);
    touch_pages(problem->a, bytes);
    touch_pages(problem->b, bytes);
    bool has_work = region->row_hi > region->row_lo && region->column_hi > region->column_lo;
    for (int64_t i = region->row_lo; i < region->row_hi; i++) {
        for (int64_t j = region->column_lo; j < region->column_hi; j++) {
            memset(block_at(problem, problem->c, i, j), 0, (size_t)(problem->chunk * problem->chunk) * sizeof(double));
        }
    }
    if (has_work) { /* the library's own buffers */
        multiply_block(problem, region->row_lo, region->column_lo, 1);
    }
    (void)pthread_barrier_wait(&problem->control->barrier);
    problem->control->started[number] = bench_seconds_now();
    for (int64_t i = region->row_lo; i < region->row_hi; i++) {
        for (int64_t j = region->column_lo; j < region->column_hi; j++) {
            multiply_block(problem, i, j, problem->blocks);
        }
    }
    problem->control->ended[number] = bench_seconds_now();
}

static void open_blas(void)
{
    struct tessi_error error;
    if (tessi_blas_open(NULL, &error) != TESSI_OK) {
        bench_die("%s", error.text);
    }
}

static void run_processes(const struct problem *problem)
{
    pid_t children[PARALLEL_MAX];
    for (int64_t p = 0; p < problem->parallel; p++) {
        children[p] = fork();
        if (children[p] < 0) {
            bench_die("fork: %s", strerror(errno));
        }
        if (children[p] == 0) {
            open_blas();
            run_part(problem, p);
            exit(0);
        }
    }
    for (int64_t left = problem->parallel; left > 0; left--) {
        int status;
        pid_t child = wait(&status);
        if (child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            for (int64_t p = 0; p < problem->parallel; p++) { /* the others wait at the barrier */
                (void)kill(children[p], SIGKILL);
            }
            bench_die("a process failed");
        }
    }
}

static void *thread_main(void *context)
{
    const struct part *part = context;
    run_part(part->problem, part->number);
    return NULL;
}

static void run_threads(const struct problem *problem)
{
    pthread_t threads[PARALLEL_MAX];
    struct part parts[PARALLEL_MAX];
    open_blas();
    for (int64_t t = 0; t < problem->parallel; t++) {
        parts[t] = (struct part){.problem = problem, .number = t};
        if (pthread_create(&threads[t], NULL, thread_main, &parts[t]) != 0) {
            bench_die("no thread");
        }
    }
    for (int64_t t = 0; t < problem->parallel; t++) {
        (void)pthread_join(threads[t], NULL);
    }
}

static int note_library(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    if (strstr(info->dlpi_name, "openblas") != NULL) {
        *(const char **)context = info->dlpi_name;
        return 1;
    }
    return 0;
}

/* The wrapper keeps the library at one thread a call, so the number is set behind its back. */
static void set_blas_threads(int threads)
{
    const char *path = NULL;
    (void)dl_iterate_phdr(note_library, &path);
    void *handle = path != NULL ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    void *address = handle != NULL ? dlsym(handle, "openblas_set_num_threads") : NULL;
    if (address == NULL) {
        bench_die("the library that was loaded cannot be told how many threads to use");
    }
    void (*set_threads)(int);
    memcpy(&set_threads, &address, sizeof address);
    set_threads(threads);
}

static void run_direct(const struct problem *problem)
{
    open_blas();
    set_blas_threads((int)problem->parallel);
    struct tessi_gemm gemm = {.dtype = TESSI_F64,
                              .a = problem->a,
                              .b = problem->b,
                              .c = problem->c,
                              .lda = problem->n,
                              .ldb = problem->n,
                              .ldc = problem->n};
    memset(problem->c, 0, (size_t)(problem->n * problem->n) * sizeof(double));
    gemm.m = gemm.n = gemm.k = min_i64(problem->n, 1024); /* starts the library's threads */
    (void)tessi_blas_gemm(&gemm);
    gemm.m = gemm.n = gemm.k = problem->n;
    problem->control->started[0] = bench_seconds_now();
    (void)tessi_blas_gemm(&gemm);
    problem->control->ended[0] = bench_seconds_now();
}

/* The largest difference from sums made element by element, over the bound n·ε·Σ|a·b|; more than 1 is wrong. */
static double check(const struct problem *problem)
{
    double worst = 0;
    for (uint64_t s = 0; s < 32; s++) {
        int64_t row = (int64_t)(fabs(sample_at(7, s)) * (double)problem->n) % problem->n;
        int64_t column = (int64_t)(fabs(sample_at(8, s)) * (double)problem->n) % problem->n;
        double sum = 0, size = 0;
        for (int64_t k = 0; k < problem->n; k++) {
            double product = *element_at(problem, problem->a, row, k) * *element_at(problem, problem->b, k, column);
            sum += product;
            size += fabs(product);
        }
        double bound = (double)problem->n * 0x1p-53 * size;
        worst = fmax(worst, fabs(sum - *element_at(problem, problem->c, row, column)) / bound);
    }
    return worst;
}

struct mode {
    const char *name;
    bool is_shared;
    void (*run)(const struct problem *problem);
};

static const struct mode modes[] = {
    {"processes", true, run_processes}, {"threads", false, run_threads}, {"direct", false, run_direct}};

static void measure(const struct mode *mode, int64_t n, int64_t chunk, int64_t parallel)
{
    struct problem problem = {.n = n, .chunk = mode->run == run_direct ? n : min_i64(chunk, n), .parallel = parallel};
    problem.blocks = (n + problem.chunk - 1) / problem.chunk;
    int64_t elements = problem.blocks * problem.blocks * problem.chunk * problem.chunk;
    size_t bytes = (size_t)elements * sizeof(double);
    problem.a = pages_map(bytes, mode->is_shared);
    problem.b = pages_map(bytes, mode->is_shared);
    problem.c = pages_map(bytes, mode->is_shared);
    problem.control = pages_map(sizeof *problem.control, true);
    fill(problem.a, elements, 1);
    fill(problem.b, elements, UINT64_C(1) << 40);
    cut_regions(problem.region, parallel, (struct region){0, problem.blocks, 0, problem.blocks});
    pthread_barrierattr_t attributes;
    (void)pthread_barrierattr_init(&attributes);
    (void)pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    (void)pthread_barrier_init(&problem.control->barrier, &attributes, (unsigned)parallel);

    mode->run(&problem);

    double started = problem.control->started[0], ended = problem.control->ended[0];
    for (int64_t p = 1; p < parallel && mode->run != run_direct; p++) {
        started = fmin(started, problem.control->started[p]);
        ended = fmax(ended, problem.control->ended[p]);
    }
    double error = check(&problem), seconds = ended - started;
    printf("{\"program\": \"bench_gemm\", \"mode\": \"%s\", \"parallel\": %lld, \"n\": %lld, \"chunk\": %lld, "
           "\"dtype\": \"f64\", \"family\": \"%s\", \"seconds\": %.6f, \"gflops\": %.2f, \"error\": %.3g}\n",
           mode->name, (long long)parallel, (long long)n, (long long)problem.chunk, tessi_blas_family(), seconds,
           2.0 * (double)n * (double)n * (double)n / seconds / 1e9, error);
    (void)fflush(stdout);
    if (!(error <= 1)) {
        bench_die("the product is wrong");
    }
    (void)munmap(problem.a, bytes);
    (void)munmap(problem.b, bytes);
    (void)munmap(problem.c, bytes);
    (void)munmap(problem.control, sizeof *problem.control);
}

int main(int argc, char **argv)
{
    int64_t n = 4096, chunk = 1024, parallel[3] = {0, 0, 0};
    const struct bench_option options[] = {
        {"--n", BENCH_NUMBER, &n, "side of the matrices (4096)"},
        {"--chunk", BENCH_NUMBER, &chunk, "side of the blocks (1024)"},
        {"--processes", BENCH_NUMBER, &parallel[0], "the loop over blocks in so many processes"},
        {"--threads", BENCH_NUMBER, &parallel[1], "the loop over blocks in so many threads"},
        {"--direct", BENCH_NUMBER, &parallel[2], "one call with so many threads of the library"},
    };
    bench_options_parse(argc, argv,
                        "Times a matrix product of f64 without an engine. Without a mode: all three, two wide.",
                        options, sizeof options / sizeof options[0]);
    bool is_all = parallel[0] + parallel[1] + parallel[2] == 0;
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
        int64_t wide = is_all ? 2 : parallel[m];
        if (wide > PARALLEL_MAX) {
            bench_die("--%s is at most %d", modes[m].name, PARALLEL_MAX);
        }
        if (wide > 0) {
            measure(&modes[m], n, chunk, wide);
        }
    }
    return 0;
}
