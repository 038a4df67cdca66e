/* Ends that are not errors: leaving in good order, and joining again after the scheduler has given this
 * worker up.
 *
 *     WORKING ──stop──▶ leaving ──LEFT──▶ left ──neighbours have given back what was lent──▶ goodbye
 *     WORKING ──BYE, stopped for long, connection lost──▶ OVER ──a while──▶ JOINING, as a new worker
 *
 * While it leaves, the worker goes on as before: it finishes what runs and serves its blocks. What happens to
 * them is the scheduler's business, also when the time is over. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "worker/internal.h"

#define GRACE_NS TESSI_NS_PER_S /* for the scheduler to say LEFT when the time is over */
#define LOOK_NS (10 * TESSI_NS_PER_MS)
#define REJOIN_NS (60 * TESSI_NS_PER_S)
#define PAUSE_FIRST_NS (100 * TESSI_NS_PER_MS)
#define PAUSE_MAX_NS (5 * TESSI_NS_PER_S)
#define SETTLED_NS (10 * TESSI_NS_PER_S) /* who stayed for so long begins again with the shortest pause */

/* ——— leaving ——— */

static void go(struct tessi_worker *worker, const char *why)
{
    tessi_worker_say_goodbye(worker);
    tessi_worker_end(worker, TESSI_OK, "%s", why);
}

void tessi_worker_leave(struct tessi_worker *worker)
{
    uint64_t presses = 0;
    (void)!read(worker->stop_fd, &presses, sizeof presses);
    bool drains = worker->phase == WORKER_WORKING && worker->config.drain_timeout_ms > 0 && !worker->leaving;
    if (!drains || presses > 1) {
        worker->stopped = true;
        if (worker->phase == WORKER_WORKING) {
            tessi_worker_say_goodbye(worker);
        }
        tessi_worker_end(worker, TESSI_OK, "stopped");
        return;
    }
    worker->leaving = worker->leave_unsent = worker->stopped = true;
    worker->leave_limit_ns = worker->now_ns + worker->config.drain_timeout_ms * TESSI_NS_PER_MS + GRACE_NS;
    tessi_log_event(TESSI_LOG_INFO, "leaving", "worker=%" PRIu32 " drain_timeout_ms=%" PRIu32, worker->id,
                    worker->config.drain_timeout_ms);
}

void tessi_worker_on_left(struct tessi_worker *worker, const struct tessi_msg_left *left)
{
    if (!worker->leaving || worker->left) {
        worker->dropped_messages++;
        return;
    }
    worker->left = true;
    tessi_log_event(TESSI_LOG_INFO, "left",
                    "handed_over_blocks=%" PRIu64 " handed_over_bytes=%" PRIu64 " to_recompute_blocks=%" PRIu64
                    " of_them_from_file_or_generator=%" PRIu64,
                    left->handed_blocks, left->handed_bytes, left->lost_blocks + left->remade_blocks,
                    left->remade_blocks);
}

void tessi_worker_go_when_free(struct tessi_worker *worker)
{
    if (!worker->leaving || worker->phase != WORKER_WORKING) {
        return;
    }
    struct tessi_flow_stats stats;
    tessi_flow_stats(worker->flow, &stats);
    if (worker->left && stats.leases == 0 && tessi_peers_idle(worker->peers)) {
        go(worker, "left");
    } else if (worker->now_ns >= worker->leave_limit_ns) {
        tessi_log_event(TESSI_LOG_WARN, "left_in_haste", "reason=" TESSI_LOG_TEXT,
                        worker->left ? "neighbours still read its blocks" : "the scheduler did not answer in time");
        go(worker, "the time for leaving is over");
    }
}

int64_t tessi_worker_leave_deadline(const struct tessi_worker *worker)
{
    if (!worker->left) {
        return worker->leaving ? worker->leave_limit_ns : INT64_MAX;
    }
    /* Nobody says when the last bytes have been taken from us. */
    int64_t look_ns = worker->now_ns + LOOK_NS;
    return look_ns < worker->leave_limit_ns ? look_ns : worker->leave_limit_ns;
}

/* ——— joining again ——— */

void tessi_worker_give_up_membership(struct tessi_worker *worker, enum tessi_status status, const char *format, ...)
{
    char text[sizeof worker->error.text];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bool member = worker->phase == WORKER_WORKING;
    bool alone = worker->scheduler.scheme == TESSI_SCHEME_INPROC; /* ends with its scheduler */
    if (worker->phase == WORKER_OVER) {
        return;
    }
    if (worker->leaving) { /* nobody is left to wait for */
        tessi_worker_end(worker, TESSI_OK, "%s", text);
        return;
    }
    if (member && worker->now_ns - worker->joined_ns > SETTLED_NS) {
        worker->rejoin_pause_ns = 0;
    }
    if (member) {
        worker->rejoin_limit_ns = worker->now_ns + REJOIN_NS;
    }
    worker->again = !alone && (member || worker->rejoin_limit_ns > worker->now_ns);
    tessi_worker_end(worker, status, "%s", text);
}

bool tessi_worker_pause_to_rejoin(struct tessi_worker *worker)
{
    if (!worker->again || worker->stopped) {
        return false;
    }
    worker->rejoin_pause_ns = worker->rejoin_pause_ns == 0 ? PAUSE_FIRST_NS : 2 * worker->rejoin_pause_ns;
    worker->rejoin_pause_ns = worker->rejoin_pause_ns < PAUSE_MAX_NS ? worker->rejoin_pause_ns : PAUSE_MAX_NS;
    tessi_log_event(TESSI_LOG_WARN, "joining_again", "was=%" PRIu32 " after_ms=%" PRId64 " reason=" TESSI_LOG_TEXT,
                    worker->id, worker->rejoin_pause_ns / TESSI_NS_PER_MS, worker->error.text);
    struct pollfd stop = {.fd = worker->stop_fd, .events = POLLIN};
    int64_t until_ns = tessi_clock_now() + worker->rejoin_pause_ns, left_ns;
    while ((left_ns = until_ns - tessi_clock_now()) > 0) {
        int ready = poll(&stop, 1, (int)(left_ns / TESSI_NS_PER_MS) + 1);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            worker->stopped = true;
            return false;
        }
    }
    return true;
}
