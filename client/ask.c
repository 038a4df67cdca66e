#include "client/ask.h"

#include <inttypes.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/net/client.h"

#define ANSWER_WAIT_NS (5 * TESSI_NS_PER_S)

struct tessi_ask {
    struct tessi_client *client;
};

enum tessi_status tessi_ask_open(struct tessi_net *net, const char *address, struct tessi_ask **ask,
                                 struct tessi_error *error)
{
    struct tessi_net_options options = {.frame_bytes_max = TESSI_MESSAGE_MAX};
    struct tessi_client *client;
    *ask = NULL;
    enum tessi_status status = tessi_client_connect(net, address, &options, &client, error);
    if (status == TESSI_OK) {
        *ask = tessi_zalloc(sizeof **ask);
        (*ask)->client = client;
    }
    return status;
}

void tessi_ask_close(struct tessi_ask *ask)
{
    if (ask != NULL) {
        tessi_client_close(ask->client);
        tessi_free(ask);
    }
}

enum tessi_status tessi_ask_send(struct tessi_ask *ask, const struct tessi_message *message, struct tessi_error *error)
{
    struct tessi_buffer buffer = {0};
    enum tessi_status status = tessi_message_pack(&buffer, message, error);
    if (status == TESSI_OK && tessi_client_send(ask->client, buffer.data, buffer.size, NULL, 0) != TESSI_OK) {
        status =
            tessi_fail(error, TESSI_LOST, "%s: the connection ended; try again", tessi_client_endpoint(ask->client));
    }
    tessi_buffer_fini(&buffer);
    return status;
}

static enum tessi_status read_message(struct tessi_ask *ask, const struct tessi_net_event *event,
                                      struct tessi_message *message, struct tessi_error *error)
{
    enum tessi_status status = tessi_message_unpack(event->frames[0].data, event->frames[0].size, message, error);
    if (status != TESSI_OK) {
        tessi_error_prefix(error, "%s", tessi_client_endpoint(ask->client));
    } else if (message->type == TESSI_MSG_REJECT) {
        status = message->as.reject.status != 0 ? (enum tessi_status)message->as.reject.status : TESSI_PROTOCOL;
        (void)tessi_fail(error, status, "%s refused: %s", tessi_client_endpoint(ask->client), message->as.reject.text);
        tessi_message_fini(message);
    }
    return status;
}

enum tessi_status tessi_ask_receive(struct tessi_ask *ask, int64_t wait_ns, struct tessi_message *message,
                                    struct tessi_error *error)
{
    int64_t deadline_ns = tessi_clock_now() + wait_ns;
    for (;;) {
        struct tessi_net_event event;
        enum tessi_status status = tessi_client_receive(ask->client, &event);
        if (status == TESSI_BUSY) {
            int64_t left_ns = deadline_ns - tessi_clock_now();
            if (left_ns <= 0 || tessi_client_wait(ask->client, left_ns) != TESSI_OK) {
                return tessi_fail(error, TESSI_TIMEOUT,
                                  "%s: connected, but no answer within %" PRIi64 " s; is it a scheduler?",
                                  tessi_client_endpoint(ask->client), wait_ns / TESSI_NS_PER_S);
            }
            continue;
        }
        if (status != TESSI_OK || event.kind == TESSI_NET_GONE) {
            const struct tessi_error *why = tessi_client_error(ask->client);
            return tessi_fail(error, TESSI_LOST, "%s",
                              why->text[0] != 0 ? why->text : "the connection ended; try again");
        }
        if (event.kind == TESSI_NET_MESSAGE) {
            status = read_message(ask, &event, message, error);
            tessi_net_event_clear(&event);
            return status;
        }
    }
}

enum tessi_status tessi_ask_one(struct tessi_ask *ask, const struct tessi_message *question, enum tessi_msg_type type,
                                struct tessi_message *answer, struct tessi_error *error)
{
    enum tessi_status status = tessi_ask_send(ask, question, error);
    while (status == TESSI_OK) {
        status = tessi_ask_receive(ask, ANSWER_WAIT_NS, answer, error);
        if (status == TESSI_OK && answer->type == type) {
            return TESSI_OK;
        }
        if (status == TESSI_OK) {
            tessi_message_fini(answer);
        }
    }
    return status;
}
