/* A lock that orders nothing for the race detector, and what is told to it instead. */
#include "host.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

/* The detector's, where the process has one. */
extern "C" {
void __tsan_acquire(void *) __attribute__((weak));
void __tsan_release(void *) __attribute__((weak));
void AnnotateIgnoreReadsAndWritesBegin(const char *file, int line) __attribute__((weak));
void AnnotateIgnoreReadsAndWritesEnd(const char *file, int line) __attribute__((weak));
}

namespace cuda_host {

#define WAIT_NS 20000000 /* a wait looks again by itself */

static std::atomic<int> held{0}, notices{0};

static void sleep_on(std::atomic<int> *word, int seen)
{
    timespec most = {0, WAIT_NS};
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &most, nullptr, 0);
}

static void wake(std::atomic<int> *word, int count)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

/* 0: free, 1: held, 2: held and somebody may sleep. */
void lock_take()
{
    int free = 0;
    if (held.compare_exchange_strong(free, 1)) {
        return;
    }
    while (held.exchange(2) != 0) {
        sleep_on(&held, 2);
    }
}

void lock_give()
{
    if (held.exchange(0) == 2) {
        wake(&held, 1);
    }
}

void lock_wait()
{
    int seen = notices;
    lock_give();
    sleep_on(&notices, seen);
    lock_take();
}

void lock_notify()
{
    notices++;
    wake(&notices, INT32_MAX);
}

guard::guard()
{
    if (AnnotateIgnoreReadsAndWritesBegin != nullptr) {
        AnnotateIgnoreReadsAndWritesBegin(__FILE__, __LINE__);
    }
    lock_take();
}

guard::~guard()
{
    lock_give();
    if (AnnotateIgnoreReadsAndWritesEnd != nullptr) {
        AnnotateIgnoreReadsAndWritesEnd(__FILE__, __LINE__);
    }
}

void order_release(void *at)
{
    if (__tsan_release != nullptr) {
        __tsan_release(at);
    }
}

void order_acquire(void *at)
{
    if (__tsan_acquire != nullptr) {
        __tsan_acquire(at);
    }
}

} // namespace cuda_host
