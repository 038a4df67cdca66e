/* Blocks of threads on one thread of the host. A thread of a block runs until it waits for others at a barrier or in a shuffle;
 * then the next begins, on a stack of its own. What never waits costs a loop.
 *
 * In which order threads and blocks come is a setting; their bits must not depend on it. With races=on and a race detector
 * the threads of a block are ordered by nothing but barriers. */
#include "host.h"

#include <sys/mman.h>

#include <algorithm>

extern "C" {
void *__tsan_get_current_fiber() __attribute__((weak));
void *__tsan_create_fiber(unsigned) __attribute__((weak));
void __tsan_destroy_fiber(void *) __attribute__((weak));
void __tsan_switch_to_fiber(void *, unsigned) __attribute__((weak));
void __sanitizer_start_switch_fiber(void **, const void *, size_t) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *, const void **, size_t *) __attribute__((weak));

__attribute__((visibility("default"))) CUDA_HOST_THREAD cuda_host_place cuda_host_here;

/* Keeps the registers that a call must keep on the stack, leaves the stack's place in *from, and goes on at `to`. */
void cuda_host_switch(void **from, void *to) __attribute__((visibility("hidden")));
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl cuda_host_switch\n"
        ".hidden cuda_host_switch\n"
        ".type cuda_host_switch, @function\n"
        "cuda_host_switch:\n"
        "    push %rbx\n"
        "    push %rbp\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbp\n"
        "    pop %rbx\n"
        "    ret\n"
        ".size cuda_host_switch, .-cuda_host_switch\n");
enum { RETURN_WORD = 6, FRAME_WORDS = 8 }; /* at the first return the stack stands as after a call */
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl cuda_host_switch\n"
        ".hidden cuda_host_switch\n"
        ".type cuda_host_switch, %function\n"
        "cuda_host_switch:\n"
        "    stp x29, x30, [sp, #-160]!\n"
        "    stp x19, x20, [sp, #16]\n"
        "    stp x21, x22, [sp, #32]\n"
        "    stp x23, x24, [sp, #48]\n"
        "    stp x25, x26, [sp, #64]\n"
        "    stp x27, x28, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x2, sp\n"
        "    str x2, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #16]\n"
        "    ldp x21, x22, [sp, #32]\n"
        "    ldp x23, x24, [sp, #48]\n"
        "    ldp x25, x26, [sp, #64]\n"
        "    ldp x27, x28, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    ldp x29, x30, [sp], #160\n"
        "    ret\n"
        ".size cuda_host_switch, .-cuda_host_switch\n");
enum { RETURN_WORD = 1, FRAME_WORDS = 20 };
#else
#error "threads of a block need a switch of stacks for this processor"
#endif

namespace cuda_host {

enum { THREADS_MAX = 1024, LANES = 32, STACK_BYTES = 256 << 10 };

struct strand { /* a stack, and the thread of the block that runs on it */
    void *at;    /* where it goes on */
    char *stack;
    void *fake_stack; /* AddressSanitizer's */
    void *fiber;      /* the race detector's, with races=on */
    int thread;
    const char *file; /* of the barrier that it waits at */
    int line;
};

struct warp {
    uint64_t given[2][LANES]; /* in this turn and the last, which some may still be reading */
    int turn;
    uint32_t arrived;
    std::vector<strand *> waiting;
};

/* Of strands, each in it once at most. */
struct queue {
    strand *items[THREADS_MAX];
    size_t first, count;

    strand *&at(size_t i) { return items[(first + i) % THREADS_MAX]; }
    void push(strand *one) { at(count++) = one; }
    strand *take(size_t i)
    {
        strand *one = at(i);
        if (i == count - 1) {
            count--;
            return one;
        }
        at(i) = at(0);
        first = (first + 1) % THREADS_MAX;
        count--;
        return one;
    }
};

struct machine { /* of a host thread */
    void *main, *main_fake_stack;
    const void *main_bottom;
    size_t main_bytes;
    void *main_fiber;
    std::vector<strand *> idle, at_barrier;
    std::vector<strand *> own; /* with races=on: of each thread of a block */
    queue ready;
    std::vector<int> order;
    std::vector<warp> warps;
    const cuda_host_kernel *kernel;
    void *const *arguments;
    dim3 block;
    int count, next, finished;
    bool trapped, races, closing;
    strand *running;
    generator chance;
    unsigned barriers;
    char begin, end, barrier[2]; /* addresses for the race detector */
};

static CUDA_HOST_THREAD machine *self;

static void fiber_switch(void *fiber)
{
    if (self->races) {
        __tsan_switch_to_fiber(fiber, 1);
    }
}

static void run_strand(strand *strand)
{
    machine *m = self;
    m->running = strand;
    if (__sanitizer_start_switch_fiber != nullptr) {
        __sanitizer_start_switch_fiber(&m->main_fake_stack, strand->stack, STACK_BYTES);
    }
    fiber_switch(strand->fiber);
    cuda_host_switch(&m->main, strand->at);
    if (__sanitizer_finish_switch_fiber != nullptr) {
        __sanitizer_finish_switch_fiber(m->main_fake_stack, nullptr, nullptr);
    }
}

/* Where AddressSanitizer's part of the stack is kept; nowhere: it will not be gone back to. */
static void leave(strand *strand, void **fake_stack)
{
    machine *m = self;
    fiber_switch(m->main_fiber);
    if (__sanitizer_start_switch_fiber != nullptr) {
        __sanitizer_start_switch_fiber(fake_stack, m->main_bottom, m->main_bytes);
    }
    cuda_host_switch(&strand->at, m->main);
    if (__sanitizer_finish_switch_fiber != nullptr) {
        __sanitizer_finish_switch_fiber(strand->fake_stack, &self->main_bottom, &self->main_bytes);
    }
}

static void set_thread(int thread)
{
    unsigned t = (unsigned)thread;
    const dim3 &block = self->block;
    cuda_host_here.thread = {t % block.x, t / block.x % block.y, t / block.x / block.y};
}

/* One thread of the block from its beginning to its end. */
static void run_thread(strand *strand)
{
    machine *m = self;
    strand->thread = m->order[(size_t)m->next++];
    set_thread(strand->thread);
    if (m->races) {
        order_acquire(&m->begin);
    }
    m->kernel->call(m->kernel->function, m->arguments);
    if (m->races) {
        order_release(&m->end);
    }
    m->finished++;
}

static void strand_main()
{
    strand *strand = self->running;
    if (__sanitizer_finish_switch_fiber != nullptr) {
        __sanitizer_finish_switch_fiber(nullptr, &self->main_bottom, &self->main_bytes);
    }
    for (;;) {
        while (self->next < self->count && !self->closing) {
            run_thread(strand);
            if (self->races) {
                break;
            }
        }
        if (!self->races) {
            self->idle.push_back(strand);
        }
        leave(strand, self->closing ? nullptr : &strand->fake_stack);
    }
}

static strand *strand_create()
{
    strand *made = new strand();
    void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        complain("no memory for the stack of a thread");
    }
    made->stack = (char *)stack;
    made->fiber = self->races ? __tsan_create_fiber(0) : nullptr;
    void **frame = (void **)(made->stack + STACK_BYTES) - FRAME_WORDS;
    frame[RETURN_WORD] = (void *)strand_main;
    made->at = frame;
    return made;
}

/* For the next thread of the block. */
static strand *strand_take()
{
    machine *m = self;
    if (m->races) {
        return m->own[(size_t)m->order[(size_t)m->next]];
    }
    if (m->idle.empty()) {
        return strand_create();
    }
    strand *one = m->idle.back();
    m->idle.pop_back();
    return one;
}

/* Others run, until somebody lets this one go on. */
static void wait_here(strand *strand)
{
    leave(strand, &strand->fake_stack);
    self->running = strand;
    set_thread(strand->thread);
}

static void shuffle_vector(std::vector<int> *order, generator *chance)
{
    for (size_t i = order->size(); i > 1; i--) {
        std::swap((*order)[i - 1], (*order)[chance->roll(i)]);
    }
}

static strand *take_ready(order order)
{
    queue &ready = self->ready;
    return ready.take(order == FORWARD ? 0 : order == REVERSE ? ready.count - 1 : self->chance.roll(ready.count));
}

static void release_barrier()
{
    machine *m = self;
    const strand *first = m->at_barrier[0];
    if (m->finished > 0) {
        complain("%d threads of a block have ended while %zu wait at the barrier %s:%d", m->finished, m->at_barrier.size(),
                 first->file, first->line);
    }
    for (strand *strand : m->at_barrier) {
        if (strand->line != first->line) {
            complain("threads of a block wait at two barriers, %s:%d and line %d", first->file, first->line, strand->line);
        }
        m->ready.push(strand);
    }
    m->at_barrier.clear();
    m->barriers++;
}

static void run_block(order order)
{
    machine *m = self;
    m->next = m->finished = 0;
    if (order == RANDOM) {
        shuffle_vector(&m->order, &m->chance);
    }
    if (m->races) {
        order_acquire(&m->end); /* blocks share what is __shared__, one after the other */
        order_release(&m->begin);
    }
    while (m->finished < m->count) {
        if (m->next < m->count) {
            run_strand(strand_take());
        } else if (m->ready.count > 0) {
            run_strand(take_ready(order));
        } else if ((int)m->at_barrier.size() == m->count - m->finished) {
            release_barrier();
        } else {
            complain("%d threads of a block wait for others that never come, %zu of them at a barrier", m->count - m->finished,
                     m->at_barrier.size());
        }
    }
}

static void machine_init(const cuda_host_kernel &kernel, dim3 block, void *const *arguments)
{
    const settings &settings = get_settings();
    if (self == nullptr) {
        self = new machine();
        self->chance.state = settings.seed;
        self->races = settings.races && __tsan_create_fiber != nullptr;
        self->main_fiber = self->races ? __tsan_get_current_fiber() : nullptr;
        self->idle.reserve(THREADS_MAX); /* no list grows while threads run: the race detector sees who moves memory */
        self->at_barrier.reserve(THREADS_MAX);
    }
    machine *m = self;
    m->kernel = &kernel;
    m->arguments = arguments;
    m->block = block;
    m->count = (int)(block.x * block.y * block.z);
    m->trapped = false;
    m->order.resize((size_t)m->count);
    for (int i = 0; i < m->count; i++) {
        m->order[(size_t)i] = settings.order == REVERSE ? m->count - 1 - i : i;
    }
    while (m->races && (int)m->own.size() < m->count) {
        m->own.push_back(strand_create());
    }
    m->warps.resize((size_t)(m->count + LANES - 1) / LANES);
    for (warp &warp : m->warps) {
        warp.waiting.reserve(LANES);
    }
}

bool run_grid(const cuda_host_kernel &kernel, dim3 grid, dim3 block, void *const *arguments)
{
    kernel.begin();
    machine_init(kernel, block, arguments);
    order order = get_settings().order;
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    cuda_host_here.threads = {block.x, block.y, block.z};
    cuda_host_here.blocks = {grid.x, grid.y, grid.z};
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = order == REVERSE ? blocks - 1 - i : i;
        cuda_host_here.block = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
        run_block(order);
    }
    if (self->races) {
        order_acquire(&self->end);
    }
    return !self->trapped;
}

void block_fini()
{
    if (self == nullptr) {
        return;
    }
    std::vector<strand *> all = self->races ? self->own : self->idle;
    self->closing = true;
    for (strand *strand : all) {
        run_strand(strand);
        if (self->races) {
            __tsan_destroy_fiber(strand->fiber);
        }
        (void)munmap(strand->stack, STACK_BYTES);
        delete strand;
    }
    delete self;
    self = nullptr;
}

} // namespace cuda_host

using namespace cuda_host;

EXPORT void cuda_host_barrier(const char *file, int line)
{
    machine *m = self;
    strand *strand = m->running;
    char *order = &m->barrier[m->barriers % 2]; /* some may be at the next one already when this one goes on */
    strand->file = file;
    strand->line = line;
    m->at_barrier.push_back(strand);
    if (m->races) {
        order_release(order);
    }
    wait_here(strand);
    if (m->races) {
        order_acquire(order);
    }
}

EXPORT uint64_t cuda_host_shuffle(unsigned int mask, uint64_t bits, int lane, int width)
{
    machine *m = self;
    strand *strand = m->running;
    warp &warp = m->warps[(size_t)strand->thread / LANES];
    int own = strand->thread % LANES;
    if (mask != UINT32_MAX) {
        complain("a shuffle of the lanes %08x: only whole warps are known here", mask);
    }
    int turn = warp.turn;
    warp.given[turn][own] = bits;
    warp.arrived |= 1u << own;
    if (warp.arrived == UINT32_MAX) {
        warp.turn ^= 1;
        warp.arrived = 0;
        for (struct strand *one : warp.waiting) {
            m->ready.push(one);
        }
        warp.waiting.clear();
    } else {
        warp.waiting.push_back(strand);
        wait_here(strand);
    }
    return warp.given[turn][own / width * width + (int)((unsigned)lane % (unsigned)width)];
}

EXPORT void cuda_host_trap(void)
{
    self->trapped = true;
}
