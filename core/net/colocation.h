/* Whether a thread that waits for messages and ZeroMQ's thread, which passes them on, are better kept on one processor.
 *
 * To wake a thread on an idle processor takes several times as long as on one's own. Systems like to spread threads,
 * which is right for those that have much to do at once, and wrong for two that hand small messages to each other and
 * then wait: these are better together. This is the judgement, a pure state machine; `affinity.h` measures and carries
 * it out.
 *
 * Time is cut into periods. Two that often wake up to answer something, and use little of a processor otherwise, are
 * put together. They stay so while this goes on and they get the processor when they want it: two that take turns wait
 * for each other a little, but when others want it too they part, and the next trial comes later each time. */
#ifndef TESSI_NET_COLOCATION_H
#define TESSI_NET_COLOCATION_H

#include <stdbool.h>
#include <stdint.h>

#define TESSI_COLOCATION_PERIOD_NS INT64_C(10000000)
#define TESSI_COLOCATION_PAUSE_MIN_NS INT64_C(20000000)
#define TESSI_COLOCATION_PAUSE_MAX_NS INT64_C(2560000000)

/* Of both threads since they began. */
struct tessi_colocation_sample {
    int64_t now_ns;
    int64_t busy_ns;    /* they have run */
    int64_t delayed_ns; /* they could have run, but others did */
};

/* All zero at first. */
struct tessi_colocation {
    bool colocated;
    bool has_begun; /* a period, at `begin` and `begin_answers` */
    struct tessi_colocation_sample begin;
    uint64_t begin_answers;
    int64_t colocated_ns; /* since when */
    int64_t again_ns;     /* no trial before */
    int64_t pause_ns;     /* after the next that fails */
};

/* Whether the period is over and a sample is wanted to judge it. Those that answer seldom are not measured. `answers`:
 * how often the thread has slept, woken up and sent something, since it began. */
bool tessi_colocation_wants(struct tessi_colocation *colocation, int64_t now_ns, uint64_t answers);
/* Judge the period and begin the next. True: `colocated` has changed. */
bool tessi_colocation_judge(struct tessi_colocation *colocation, const struct tessi_colocation_sample *sample,
                            uint64_t answers);
/* They part, for reasons of their own, and no trial is made for a while. */
void tessi_colocation_part(struct tessi_colocation *colocation, int64_t now_ns);

#endif
