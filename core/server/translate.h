/* Between the messages of core/wire and the events and actions of core/sched: pure translation,
 * used by the live scheduler and by replay alike. */
#ifndef TESSI_SERVER_TRANSLATE_H
#define TESSI_SERVER_TRANSLATE_H

#include "core/sched/sched.h"
#include "core/wire/message.h"

/* Who a connection is. */
enum tessi_role {
    TESSI_ROLE_NONE = 0, /* has not said hello */
    TESSI_ROLE_WORKER = 1,
    TESSI_ROLE_CLIENT = 2,
    TESSI_ROLE_ENDED = 3, /* refused, gone or said goodbye; its connection may still be there */
};

/* The event that a message from `peer` means; it borrows from the message, except for layers (see
 * sched.h): after the step the caller forgets those. False when such a peer may not send such a message. */
bool tessi_event_from_message(const struct tessi_message *message, enum tessi_role role, uint32_t peer, int64_t now_ns,
                              struct tessi_sched_event *event);

/* The message that carries out an action; it borrows from the action. Its run id is left to the caller. */
void tessi_message_from_action(const struct tessi_sched_action *action, uint32_t heartbeat_ms,
                               struct tessi_message *message);

#endif
