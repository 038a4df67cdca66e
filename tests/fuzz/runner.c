#include "tests/fuzz/runner.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "tests/unit/sample.h"

#define INPUT_MAX 4096u
#define SEED 2026u
#define SECONDS_MAX 10 /* for one input, with sanitizers */

struct file {
    uint8_t *bytes; /* owned */
    size_t size;
    char *name; /* owned */
};

static struct {
    const char *name;
    struct file *corpus; /* owned */
    size_t count, capacity;
    uint64_t messages;
    bool shows;
    uint8_t bytes[INPUT_MAX]; /* the input under way */
    size_t size;
} runner;

void fuzz_count(void)
{
    runner.messages++;
}

void fuzz_show(const char *format, ...)
{
    if (runner.shows) {
        va_list args;
        va_start(args, format);
        (void)vfprintf(stderr, format, args);
        va_end(args);
        (void)fputc('\n', stderr);
    }
}

/* ——— a finding ——— */

static void keep_input(void)
{
    char path[256];
    int length = snprintf(path, sizeof path, "/tmp/%s-%ld.input", runner.name, (long)getpid());
    FILE *file = fopen(path, "wb");
    if (length > 0 && file != NULL && fwrite(runner.bytes, 1, runner.size, file) == runner.size && fclose(file) == 0) {
        fprintf(stderr, "%s: the input of this finding is kept in %s\n", runner.name, path);
    }
}

static void on_signal(int number)
{
    (void)signal(number, SIG_DFL);
    keep_input();
    (void)raise(number);
}

/* A sanitizer's report ends the program without a signal. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void watch_for_findings(void)
{
    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGSEGV, on_signal);
    (void)signal(SIGFPE, on_signal);
    (void)signal(SIGVTALRM, on_signal); /* an input takes too long */
    if (__sanitizer_set_death_callback != NULL) {
        __sanitizer_set_death_callback(keep_input);
    }
}

/* ——— the corpus ——— */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static bool read_file(const char *path, const char *name)
{
    struct file read = {.bytes = tessi_alloc(INPUT_MAX), .name = tessi_strdup(name)};
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        tessi_free(read.bytes);
        tessi_free(read.name);
        return false;
    }
    read.size = fread(read.bytes, 1, INPUT_MAX, file);
    fclose(file);
    tessi_grow(&runner.corpus, &runner.capacity, runner.count + 1, sizeof *runner.corpus);
    runner.corpus[runner.count++] = read;
    return true;
}

static bool read_corpus(const char *folder)
{
    struct stat is;
    if (stat(folder, &is) == 0 && !S_ISDIR(is.st_mode)) {
        return read_file(folder, folder);
    }
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        fprintf(stderr, "%s: no corpus there; run from the project's root or name its folder\n", folder);
        return false;
    }
    bool good = true;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL && good;) {
        char path[1024];
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            good = read_file(path, entry->d_name);
        }
    }
    closedir(dir);
    qsort(runner.corpus, runner.count, sizeof *runner.corpus, by_name); /* the same random inputs everywhere */
    return good;
}

static void free_corpus(void)
{
    for (size_t i = 0; i < runner.count; i++) {
        tessi_free(runner.corpus[i].bytes);
        tessi_free(runner.corpus[i].name);
    }
    tessi_free(runner.corpus);
}

/* Of processor time, so that a busy machine is no finding. */
static void run(void)
{
    const struct itimerval limit = {.it_value.tv_sec = SECONDS_MAX};
    (void)setitimer(ITIMER_VIRTUAL, &limit, NULL);
    (void)LLVMFuzzerTestOneInput(runner.bytes, runner.size);
}

static void run_file(const struct file *file)
{
    memcpy(runner.bytes, file->bytes, file->size);
    runner.size = file->size;
    run();
}

/* ——— random inputs ——— */

static size_t below(struct sample *sample, size_t count)
{
    return count == 0 ? 0 : (size_t)(sample_next(sample) % count);
}

static void append(const uint8_t *bytes, size_t size)
{
    size = size < INPUT_MAX - runner.size ? size : INPUT_MAX - runner.size;
    memcpy(runner.bytes + runner.size, bytes, size);
    runner.size += size;
}

static void append_random(struct sample *sample, size_t size)
{
    for (size_t i = 0; i < size && runner.size < INPUT_MAX; i++) {
        runner.bytes[runner.size++] = (uint8_t)sample_next(sample);
    }
}

/* Pieces of the corpus one after the other, some bytes of them damaged. */
static void splice(struct sample *sample)
{
    for (size_t pieces = 1 + below(sample, 3); pieces > 0; pieces--) {
        const struct file *file = &runner.corpus[below(sample, runner.count)];
        size_t from = pieces % 2 == 0 ? below(sample, file->size) : 0;
        append(file->bytes + from, 1 + below(sample, file->size - from));
    }
    for (size_t damages = below(sample, 8); damages > 0 && runner.size > 0; damages--) {
        size_t at = below(sample, runner.size);
        for (size_t n = 1 + below(sample, 4); n > 0 && at < runner.size; n--) {
            runner.bytes[at++] = (uint8_t)sample_next(sample);
        }
    }
    append_random(sample, below(sample, 64));
}

static uint64_t run_random(struct sample *sample, uint64_t messages)
{
    uint64_t inputs = 0, until = runner.messages + messages;
    for (; runner.messages < until; inputs++) {
        runner.size = 0;
        if (runner.count > 0 && below(sample, 2) == 0) {
            splice(sample);
        } else {
            append_random(sample, 1 + below(sample, below(sample, 4) == 0 ? INPUT_MAX : 512));
        }
        run();
    }
    return inputs;
}

int fuzz_main(int argc, char **argv, const char *name, uint64_t messages)
{
    struct sample sample = {SEED};
    const char *corpus = NULL;
    bool asked = false;
    runner.name = name;
    for (int i = 1; i < argc; i++) {
        bool number = i + 1 < argc && (strcmp(argv[i], "--messages") == 0 || strcmp(argv[i], "--seed") == 0);
        if (number && argv[i][2] == 'm') {
            messages = strtoull(argv[++i], NULL, 10);
            asked = true;
        } else if (number) {
            sample.state = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--show") == 0) {
            runner.shows = true;
        } else if (argv[i][0] != '-' && corpus == NULL) {
            corpus = argv[i];
        } else {
            fprintf(stderr, "usage: %s [--messages N] [--seed S] [--show] [FOLDER | FILE]\n", name);
            return 2;
        }
    }
    struct stat is;
    bool one = corpus != NULL && stat(corpus, &is) == 0 && !S_ISDIR(is.st_mode);
    watch_for_findings();
    if (corpus != NULL && !read_corpus(corpus)) {
        return 1;
    }
    for (size_t i = 0; i < runner.count; i++) {
        run_file(&runner.corpus[i]);
    }
    uint64_t inputs = one && !asked ? 0 : run_random(&sample, messages);
    printf("%s: %zu inputs of the corpus and %" PRIu64 " random ones, %" PRIu64 " messages\n", name, runner.count,
           inputs, runner.messages);
    free_corpus();
    return 0;
}
