#include "worker/device/cpu/processor.h"

#include <stddef.h>

#define STAY_NS INT64_C(20000000)
#define AGAIN_NS INT64_C(1000000) /* between two moves of a thread that was let go meanwhile */

uint32_t tessi_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 1;
    }
    int count = CPU_COUNT(&set);
    return count > 0 ? (uint32_t)count : 1;
}

bool tessi_processor_leave(struct tessi_processor_stay *stay, int64_t now_ns)
{
    cpu_set_t other;
    int here = sched_getcpu();
    bool early = stay->since_ns != 0 && now_ns - stay->since_ns < (stay->stays ? STAY_NS : AGAIN_NS);
    if (here < 0 || early) {
        return false;
    }
    tessi_processor_let_go(stay, now_ns, true);
    stay->since_ns = now_ns;
    if (sched_getaffinity(0, sizeof stay->allowed, &stay->allowed) != 0 || CPU_COUNT(&stay->allowed) < 2) {
        return false;
    }
    size_t to = (size_t)here;
    do {
        to = (to + 1) % CPU_SETSIZE;
    } while (!CPU_ISSET(to, &stay->allowed));
    CPU_ZERO(&other);
    CPU_SET(to, &other);
    stay->stays = sched_setaffinity(0, sizeof other, &other) == 0;
    return stay->stays;
}

void tessi_processor_let_go(struct tessi_processor_stay *stay, int64_t now_ns, bool at_once)
{
    if (stay->stays && (at_once || now_ns - stay->since_ns >= STAY_NS)) {
        stay->stays = false;
        (void)sched_setaffinity(0, sizeof stay->allowed, &stay->allowed);
    }
}
