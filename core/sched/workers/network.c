/* What it takes to bring blocks from one worker to another: nothing but a message within a host, where blocks are
 * mapped; between hosts a message and the bytes, at the rate at which blocks have been reaching the reader and
 * leaving other hosts. A link's rate is taken to be its reader's: that needs no table of pairs. */
#include <string.h>

#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

#define MESSAGE_NS 100000.0      /* ask and be answered */
#define BYTES_PER_NS 1.0         /* until it has been measured */
#define MEASURE_NS 1000000u /* shorter ones say more about waiting than about the link */

void tessi_network_measure(struct worker *worker, const struct tessi_report *report)
{
    if (report->pulling_ns < worker->pulling_ns || report->pulled_bytes < worker->pulled_bytes) {
        return; /* an old report that came late */
    }
    uint64_t took_ns = report->pulling_ns - worker->pulling_ns;
    if (took_ns < MEASURE_NS) {
        return;
    }
    double rate = (double)(report->pulled_bytes - worker->pulled_bytes) / (double)took_ns;
    worker->pulling_ns = report->pulling_ns;
    worker->pulled_bytes = report->pulled_bytes;
    if (rate > 0) {
        worker->bytes_per_ns = worker->bytes_per_ns > 0 ? 0.75 * worker->bytes_per_ns + 0.25 * rate : rate;
    }
}

double tessi_network_ns(const struct tessi_sched *sched, uint32_t from, uint32_t to, uint64_t bytes)
{
    TESS_ASSERT(from < sched->worker_count && to < sched->worker_count);
    if (from == to) {
        return 0;
    }
    const struct worker *reader = sched->workers[to];
    if (reader->info.host[0] != 0 && strcmp(sched->workers[from]->info.host, reader->info.host) == 0) {
        return MESSAGE_NS;
    }
    return MESSAGE_NS + (double)bytes / (reader->bytes_per_ns > 0 ? reader->bytes_per_ns : BYTES_PER_NS);
}
