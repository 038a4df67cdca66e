/* For loops that wait for another thread's word for a moment. */
#ifndef TESSI_BASE_RELAX_H
#define TESSI_BASE_RELAX_H

/* Tell the processor that this is such a loop: it saves power and leaves more to the core's other thread. */
static inline void tessi_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
