/* What a task costs StarPU in one process: a floor beside the benches of tasks, graphs and chains, no peer, since
 * nothing travels. tests/bench/overhead.py builds it when libstarpu-dev is installed.
 *
 * starpu_overhead tasks|dag|chain COUNT WIDTH: every task has a block of one double of its own; dependences follow from
 * the blocks that it reads. Timed from the first insertion to the end of starpu_task_wait_for_all. */
#include <starpu.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void nothing(void *buffers[], void *argument)
{
    (void)argument;
    double *out = (double *)STARPU_VARIABLE_GET_PTR(buffers[0]);
    *out = 1.5;
}

static struct starpu_codelet codelets[4]; /* by the number of blocks read */

static void init_codelets(void)
{
    for (int reads = 0; reads < 4; reads++) {
        starpu_codelet_init(&codelets[reads]);
        codelets[reads].cpu_funcs[0] = nothing;
        codelets[reads].nbuffers = reads + 1;
        codelets[reads].name = "nothing";
        codelets[reads].modes[0] = STARPU_W;
        for (int i = 1; i <= reads; i++) {
            codelets[reads].modes[i] = STARPU_R;
        }
    }
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void insert(starpu_data_handle_t out, const starpu_data_handle_t *in, int reads)
{
    struct starpu_task *task = starpu_task_create();
    task->cl = &codelets[reads];
    task->handles[0] = out;
    for (int i = 0; i < reads; i++) {
        task->handles[i + 1] = in[i];
    }
    if (starpu_task_submit(task) != 0) {
        fprintf(stderr, "error: starpu_task_submit\n");
        exit(1);
    }
}

static uint64_t state = 1;

static uint32_t draw(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % below;
}

static void insert_dag(const starpu_data_handle_t *handle, int count, int width)
{
    for (int t = 0; t < count; t++) {
        starpu_data_handle_t in[3];
        int reads = 0, wanted = 1 + (int)draw(3), reach = t < width ? t : width;
        for (int n = 0; n < wanted && reach > 0; n++) {
            starpu_data_handle_t drawn = handle[t - 1 - (int)draw((uint32_t)reach)];
            int known = 0;
            for (int i = 0; i < reads; i++) {
                known |= in[i] == drawn;
            }
            if (!known) {
                in[reads++] = drawn;
            }
        }
        insert(handle[t], in, reads);
    }
}

static void insert_layers(const starpu_data_handle_t *handle, int count)
{
    int side = 1;
    while ((side + 1) * (side + 1) <= count / 2) {
        side++;
    }
    for (int i = 0; i < side * side; i++) {
        insert(handle[i], NULL, 0);
    }
    for (int i = 0; i < side * side; i++) {
        insert(handle[side * side + i], &handle[i % side * side + i / side], 1);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: starpu_overhead tasks|dag|chain COUNT WIDTH\n");
        return 2;
    }
    int count = atoi(argv[2]), width = atoi(argv[3]);
    if (starpu_init(NULL) != 0) {
        fprintf(stderr, "error: starpu_init\n");
        return 1;
    }
    init_codelets();
    double *values = calloc((size_t)count, sizeof *values);
    starpu_data_handle_t *handle = calloc((size_t)count, sizeof *handle);
    for (int i = 0; i < count; i++) {
        starpu_variable_data_register(&handle[i], STARPU_MAIN_RAM, (uintptr_t)&values[i], sizeof values[i]);
    }
    double started = now();
    if (strcmp(argv[1], "dag") == 0) {
        insert_dag(handle, count, width);
    } else if (strcmp(argv[1], "chain") == 0) {
        for (int i = 0; i < count; i++) {
            insert(handle[i], i > 0 ? &handle[i - 1] : NULL, i > 0);
        }
    } else {
        insert_layers(handle, count);
    }
    starpu_task_wait_for_all();
    double seconds = now() - started;
    printf("{\"starpu\": \"%d.%d.%d\", \"tasks\": %d, \"seconds\": %.6f, \"workers\": %u}\n", STARPU_MAJOR_VERSION,
           STARPU_MINOR_VERSION, STARPU_RELEASE_VERSION, count, seconds, starpu_cpu_worker_get_count());
    for (int i = 0; i < count; i++) {
        starpu_data_unregister_no_coherency(handle[i]);
    }
    starpu_shutdown();
    free(handle);
    free(values);
    return 0;
}
