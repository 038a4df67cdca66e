/* What the files of the worker's shell share.
 *
 *   worker.c     create, run (the loop), stop, destroy
 *   leave.c      leaving in good order, joining again
 *   scheduler.c  the connection to the scheduler: hello, its messages as events, reports
 *   actions.c    events into the flow, its actions carried out
 *   slots.c      steps on CPU slots
 *   gpu/         steps on devices
 *   deferred.c   what waits for bytes that a device has
 *   answers.c    what others want to know: pages of the trace, why a task waits
 *   settings.c   what the machine is like */
#ifndef TESSI_WORKER_INTERNAL_H
#define TESSI_WORKER_INTERNAL_H

#include "core/base/log.h"
#include "core/net/address.h"
#include "core/net/client.h"
#include "core/net/poller.h"
#include "core/wire/message.h"
#include "worker/deferred.h"
#include "worker/device/cpu/processor.h"
#include "worker/flow/flow.h"
#include "worker/gpu/gpus.h"
#include "worker/peer/peer.h"
#include "worker/slots.h"
#include "worker/store/store.h"
#include "worker/trace/trace.h"
#include "worker/worker.h"

enum worker_phase {
    WORKER_JOINING, /* HELLO_WORKER is on its way */
    WORKER_WORKING,
    WORKER_OVER, /* `status` and `error` say why */
};

struct tessi_worker_question { /* that waits for its answer */
    bool why;                  /* why a task waits; else a page of the trace */
    uint32_t number;           /* echoed */
    uint32_t ring;
    uint64_t from;
    struct tessi_task task;
};

struct tessi_worker {
    struct tessi_worker_config config; /* its texts are ours */
    struct tessi_address scheduler;
    char name[TESSI_WIRE_NAME_MAX + 1];
    char host_id[TESSI_WIRE_NAME_MAX + 1];
    char kernels[TESSI_WIRE_NAME_MAX + 1];    /* families of the processor's kernels */
    char families[TESSI_WIRE_NAME_MAX + 1];   /* what is offered: with those of devices */
    char address[TESSI_WIRE_ADDRESS_MAX + 1]; /* where peers reach us */
    char processor[TESSI_WIRE_NAME_MAX + 1];
    struct tessi_resources resources;
    uint32_t threads, processors;
    int64_t vain_until_ns; /* see attend_lines() */
    struct tessi_processor_stay stay;
    uint64_t memory_bytes, spill_bytes;
    const char *spill_dir; /* NULL: none */

    struct tessi_net *own_net;
    struct tessi_net *net;
    struct tessi_poller *poller;
    struct tessi_store *store;
    struct tessi_peers *peers;       /* while it runs */
    struct tessi_trace *trace;       /* since the welcome, as all that follows */
    struct tessi_gpus *gpus;         /* NULL: there are none, or they are not used */
    struct tessi_deferred *deferred; /* with gpus */
    struct tessi_slots *slots;
    struct tessi_flow *flow;

    struct tessi_client *link; /* to the scheduler */
    struct tessi_source link_source;
    bool link_full; /* `unsent` waits for room */
    struct tessi_buffer unsent;
    uint64_t run_id;
    uint32_t id;
    int64_t heartbeat_ns, sent_ns, reported_ns, welcome_limit_ns;
    uint64_t heartbeats;
    struct tessi_report gauges; /* as last reported; lists are empty */
    uint32_t quiet_heartbeats;
    uint64_t quiet_blocks; /* that were there at the last of them */
    uint64_t dropped_messages;
    struct tessi_spans locates;              /* to be asked for with the next flush */
    struct tessi_worker_question *questions; /* not answered yet, oldest first */
    size_t question_count, question_capacity;

    int64_t spill_again_ns, spill_pause_ns; /* after a spill that failed: when the flow may try again; 0: none has */
    struct tessi_log_repeat spill_log, load_log, unreadable_log;

    bool leaving, leave_unsent, left; /* asked to go; LEAVE has yet to be sent; the scheduler has said LEFT */
    bool stopped;                     /* somebody wants the worker to end: it does not join again */
    int64_t leave_limit_ns;
    bool again; /* join again when this membership is over */
    int64_t joined_ns, rejoin_limit_ns, rejoin_pause_ns;

    struct tessi_flow_actions actions;
    const struct tessi_flow_event *event; /* of the step under way, and what came with it */
    const struct tessi_peer_data *data;
    struct tessi_flow_outcome *cancelled; /* steps for devices that cannot be run; to be told to the flow */
    size_t cancelled_count, cancelled_capacity;
    bool no_devices;         /* the flow knows that all are lost */
    uint32_t devices_told;   /* in the round under way */
    int64_t devices_told_ns; /* when the last round ended */
    int64_t now_ns;

    enum worker_phase phase;
    enum tessi_status status;
    struct tessi_error error;
    int stop_fd; /* eventfd */
    struct tessi_source stop_source;
};

/* End the loop; the first reason counts. */
void tessi_worker_end(struct tessi_worker *worker, enum tessi_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* leave.c */
void tessi_worker_leave(struct tessi_worker *worker); /* somebody wants it to; the second time at once */
void tessi_worker_on_left(struct tessi_worker *worker, const struct tessi_msg_left *left);
void tessi_worker_go_when_free(struct tessi_worker *worker);
int64_t tessi_worker_leave_deadline(const struct tessi_worker *worker);
/* As tessi_worker_end, but it may join again. */
void tessi_worker_give_up_membership(struct tessi_worker *worker, enum tessi_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool tessi_worker_pause_to_rejoin(struct tessi_worker *worker); /* false: it is not to be */

/* scheduler.c */
TESSI_MUST_USE enum tessi_status tessi_worker_join(struct tessi_worker *worker, struct tessi_error *error);
/* Send LOCATE, REPORT or a heartbeat, whichever there is to send. */
void tessi_worker_tell(struct tessi_worker *worker);
int64_t tessi_worker_tell_deadline(const struct tessi_worker *worker); /* when there will be something at the latest */
void tessi_worker_say_goodbye(struct tessi_worker *worker);
/* One message at a time: none while `link_full`. */
void tessi_worker_send(struct tessi_worker *worker, struct tessi_message *message);

/* answers.c */
void tessi_worker_take_question(struct tessi_worker *worker, const struct tessi_message *message);
void tessi_worker_answer(struct tessi_worker *worker); /* as many as the link has room for */
void tessi_worker_forget_questions(struct tessi_worker *worker);

/* actions.c */
/* Give the event to the flow and do what it wants. `data`: what came with it, or NULL. */
void tessi_worker_step(struct tessi_worker *worker, struct tessi_flow_event *event, const struct tessi_peer_data *data);
/* A peer was to be sent a block whose spill file cannot be read. */
void tessi_worker_on_unreadable(struct tessi_worker *worker, struct tessi_task task, const char *text);
/* What slots and transfers have finished. */
void tessi_worker_take_outcomes(struct tessi_worker *worker);

#endif
