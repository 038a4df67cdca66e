/* A line between two workers of one host, beside their connection: small messages without a socket.
 *
 * It is a memory file with two rings of bytes, one each way, which both ends map, and a bell (eventfd) for each
 * worker. Who puts something into a ring rings only when the other end has said that it sleeps, so an exchange
 * between two that are awake costs no system call. Who finds no room is rung when there is some.
 *
 * A line belongs to one connection. Who connects leaves the line at the other's post (a Unix socket of the same
 * user) before it says PEER_HELLO; who welcomes takes it up from there before it says PEER_WELCOME. So both know
 * without waiting for each other whether there is a line, and the hello and the welcome stand in the order of messages
 * where each direction changes over to it. The connection alone says when a peer is gone.
 *
 * What the other end writes is checked as anything from a peer: an end that does not keep to the rules makes the
 * line broken. One thread uses a post and its lines. */
#ifndef TESSI_PEER_LINE_H
#define TESSI_PEER_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

#define TESSI_LINE_HEADER_MAX ((size_t)16384)
#define TESSI_LINE_PAYLOAD_MAX ((size_t)8192)

struct tessi_line_post;
struct tessi_line;

/* `address` names the post: the worker's endpoint. IO. */
TESSI_MUST_USE enum tessi_status tessi_line_post_open(const char *address, struct tessi_line_post **post,
                                                      struct tessi_error *error);
void tessi_line_post_close(struct tessi_line_post *post); /* after its lines; NULL is allowed */
int tessi_line_post_bell(const struct tessi_line_post *post); /* readable when somebody has rung */
void tessi_line_post_answer_bell(struct tessi_line_post *post); /* it is quiet again */

/* Leave a line at the post of `address`; `id` and `nonce` are those of the hello that follows. NULL: there will be none. */
struct tessi_line *tessi_line_leave(struct tessi_line_post *post, const char *address, uint32_t id, uint64_t nonce);
/* After the welcome: whether the other end has taken it up. If not, close it. */
bool tessi_line_settle(struct tessi_line *line);

/* After a hello: the line that came with it, or NULL. */
struct tessi_line *tessi_line_take(struct tessi_line_post *post, uint32_t id, uint64_t nonce);

void tessi_line_close(struct tessi_line *line); /* NULL is allowed */

struct tessi_line_message {
    const void *header, *payload; /* valid until the next receive; payload NULL: none */
    size_t header_size, payload_size;
};

/* Sizes are within the bounds above. False: no room now. */
bool tessi_line_send(struct tessi_line *line, const struct tessi_line_message *message);
/* The next message; false: none now, or the line is broken. */
bool tessi_line_receive(struct tessi_line *line, struct tessi_line_message *message);
bool tessi_line_broken(const struct tessi_line *line);

/* The other end ran on the calling thread's processor when it sent its latest message: a hint. */
bool tessi_line_shares_processor(const struct tessi_line *line);

/* There is something to receive, or room that was missing. */
bool tessi_line_calls(const struct tessi_line *line);
/* From now on the bell is wanted, until the next receive. Look whether the line calls afterwards. */
void tessi_line_sleep(struct tessi_line *line);

#endif
