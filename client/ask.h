/* A connection for questions to a scheduler that need no session: status, trace, why a task waits. */
#ifndef TESSI_CLIENT_ASK_H
#define TESSI_CLIENT_ASK_H

#include <stdint.h>

#include "core/base/status.h"
#include "core/wire/message.h"

struct tessi_ask;
struct tessi_net;

/* Connect. The net is borrowed and outlives the connection. Statuses of tessi_client_connect. */
TESSI_MUST_USE enum tessi_status tessi_ask_open(struct tessi_net *net, const char *address, struct tessi_ask **ask,
                                                struct tessi_error *error);
void tessi_ask_close(struct tessi_ask *ask); /* NULL is allowed */

TESSI_MUST_USE enum tessi_status tessi_ask_send(struct tessi_ask *ask, const struct tessi_message *message,
                                                struct tessi_error *error);
/* The next message, to be given to tessi_message_fini. TIMEOUT: none within `wait_ns`; LOST; a REJECT as its status. */
TESSI_MUST_USE enum tessi_status tessi_ask_receive(struct tessi_ask *ask, int64_t wait_ns,
                                                   struct tessi_message *message, struct tessi_error *error);
/* Send, and wait for an answer of that type; others are dropped. */
TESSI_MUST_USE enum tessi_status tessi_ask_one(struct tessi_ask *ask, const struct tessi_message *question,
                                               enum tessi_msg_type type, struct tessi_message *answer,
                                               struct tessi_error *error);

#endif
