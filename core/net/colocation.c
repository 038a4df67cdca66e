#include "core/net/colocation.h"

/* Of those that are put together, and of those that stay: answers in a period, and the share of a processor. */
#define ANSWERS_MIN 10.0
#define ANSWERS_STAY_MIN 5.0
#define BUSY_MAX 0.6
#define BUSY_STAY_MAX 0.75
#define DELAYED_MAX 0.6              /* of the period; two that only take turns come to 0.4 */
#define PROVEN_NS INT64_C(500000000) /* after which a trial has gone well */

static double answers_in_a_period(const struct tessi_colocation *colocation, int64_t now_ns, uint64_t answers)
{
    double periods = (double)(now_ns - colocation->begin.now_ns) / (double)TESSI_COLOCATION_PERIOD_NS;
    return (double)(answers - colocation->begin_answers) / periods;
}

bool tessi_colocation_wants(struct tessi_colocation *colocation, int64_t now_ns, uint64_t answers)
{
    int64_t length_ns = now_ns - colocation->begin.now_ns;
    if (length_ns < TESSI_COLOCATION_PERIOD_NS || now_ns < colocation->again_ns) {
        return false;
    }
    if (colocation->colocated || answers_in_a_period(colocation, now_ns, answers) >= ANSWERS_MIN) {
        return true;
    }
    colocation->has_begun = false;
    colocation->begin.now_ns = now_ns;
    colocation->begin_answers = answers;
    return false;
}

static void fails(struct tessi_colocation *colocation, int64_t now_ns)
{
    if (colocation->pause_ns == 0 || now_ns - colocation->colocated_ns >= PROVEN_NS) {
        colocation->pause_ns = TESSI_COLOCATION_PAUSE_MIN_NS;
    }
    colocation->again_ns = now_ns + colocation->pause_ns;
    colocation->pause_ns *= colocation->pause_ns < TESSI_COLOCATION_PAUSE_MAX_NS ? 2 : 1;
}

bool tessi_colocation_judge(struct tessi_colocation *colocation, const struct tessi_colocation_sample *sample,
                            uint64_t answers)
{
    bool before = colocation->colocated;
    double length_ns = (double)(sample->now_ns - colocation->begin.now_ns);
    if (colocation->has_begun) {
        double often = answers_in_a_period(colocation, sample->now_ns, answers);
        double busy = (double)(sample->busy_ns - colocation->begin.busy_ns) / length_ns;
        double delayed = (double)(sample->delayed_ns - colocation->begin.delayed_ns) / length_ns;
        if (!before && often >= ANSWERS_MIN && busy <= BUSY_MAX) {
            colocation->colocated = true;
            colocation->colocated_ns = sample->now_ns;
        } else if (before && delayed > DELAYED_MAX) {
            colocation->colocated = false;
            fails(colocation, sample->now_ns);
        } else if (before && (often < ANSWERS_STAY_MIN || busy > BUSY_STAY_MAX)) {
            colocation->colocated = false;
        }
    }
    colocation->begin = *sample;
    colocation->begin_answers = answers;
    colocation->has_begun = colocation->colocated || !before;
    return colocation->colocated != before;
}

void tessi_colocation_part(struct tessi_colocation *colocation, int64_t now_ns)
{
    colocation->colocated = false;
    colocation->has_begun = false;
    colocation->again_ns = now_ns + TESSI_COLOCATION_PAUSE_MIN_NS;
}
