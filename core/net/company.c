#include "core/net/company.h"

/* Of those that are put together, and of those that stay: answers in a period, and the share of a processor. */
#define ANSWERS_MIN 10.0
#define ANSWERS_STAY_MIN 5.0
#define BUSY_MAX 0.6
#define BUSY_STAY_MAX 0.75
#define DELAYED_MAX 0.6 /* of the period; two that only take turns come to 0.4 */
#define PROVEN_NS INT64_C(500000000) /* after which a trial has gone well */

static double answers_in_a_period(const struct tessi_company *company, int64_t now_ns, uint64_t answers)
{
    double periods = (double)(now_ns - company->begin.now_ns) / (double)TESSI_COMPANY_PERIOD_NS;
    return (double)(answers - company->begin_answers) / periods;
}

bool tessi_company_wants(struct tessi_company *company, int64_t now_ns, uint64_t answers)
{
    int64_t length_ns = now_ns - company->begin.now_ns;
    if (length_ns < TESSI_COMPANY_PERIOD_NS || now_ns < company->again_ns) {
        return false;
    }
    if (company->together || answers_in_a_period(company, now_ns, answers) >= ANSWERS_MIN) {
        return true;
    }
    company->has_begun = false;
    company->begin.now_ns = now_ns;
    company->begin_answers = answers;
    return false;
}

static void fails(struct tessi_company *company, int64_t now_ns)
{
    if (company->pause_ns == 0 || now_ns - company->together_ns >= PROVEN_NS) {
        company->pause_ns = TESSI_COMPANY_PAUSE_MIN_NS;
    }
    company->again_ns = now_ns + company->pause_ns;
    company->pause_ns *= company->pause_ns < TESSI_COMPANY_PAUSE_MAX_NS ? 2 : 1;
}

bool tessi_company_judge(struct tessi_company *company, const struct tessi_company_sample *sample, uint64_t answers)
{
    bool before = company->together;
    double length_ns = (double)(sample->now_ns - company->begin.now_ns);
    if (company->has_begun) {
        double often = answers_in_a_period(company, sample->now_ns, answers);
        double busy = (double)(sample->busy_ns - company->begin.busy_ns) / length_ns;
        double delayed = (double)(sample->delayed_ns - company->begin.delayed_ns) / length_ns;
        if (!before && often >= ANSWERS_MIN && busy <= BUSY_MAX) {
            company->together = true;
            company->together_ns = sample->now_ns;
        } else if (before && delayed > DELAYED_MAX) {
            company->together = false;
            fails(company, sample->now_ns);
        } else if (before && (often < ANSWERS_STAY_MIN || busy > BUSY_STAY_MAX)) {
            company->together = false;
        }
    }
    company->begin = *sample;
    company->begin_answers = answers;
    company->has_begun = company->together || !before;
    return company->together != before;
}

void tessi_company_part(struct tessi_company *company, int64_t now_ns)
{
    company->together = false;
    company->has_begun = false;
    company->again_ns = now_ns + TESSI_COMPANY_PAUSE_MIN_NS;
}
