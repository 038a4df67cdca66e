/* A server over real sockets with a poller of its own, and clients that speak to it, for the tests of core/net. Whatever
 * does not come within PATIENCE_NS fails the test. */
#ifndef TESTS_UNIT_NET_STAGE_H
#define TESTS_UNIT_NET_STAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/net/client.h"
#include "core/net/keys.h"
#include "core/net/poller.h"
#include "core/net/server.h"

#define ANY_PORT "tcp://127.0.0.1:0"
#define PATIENCE_NS (20 * TESSI_NS_PER_S) /* ends a test that would hang; nothing waits for it otherwise */

struct stage {
    struct tessi_net *net;
    struct tessi_server *server;
    struct tessi_poller *poller;
    char endpoint[64];
};

/* `keys_dir` and `options` may be NULL. */
void stage_open(struct stage *stage, const char *keys_dir, const char *address,
                const struct tessi_net_options *options);
void stage_close_server(struct stage *stage);
void stage_close(struct stage *stage);

/* The next event; the caller clears it. */
struct tessi_net_event server_event(struct stage *stage);
struct tessi_net_event client_event(struct tessi_client *client);

void expect_text(struct tessi_net_event *event, uint32_t frame, const char *text);

struct tessi_client *connect_to(struct tessi_net *net, const char *endpoint);
void send_text(struct tessi_client *client, const char *text);

/* Look after the server until a counter of tessi_net_counters, told by its offset, has reached `least`. */
void await_count(struct stage *stage, size_t offset, uint64_t least);

/* A release function of frames: `hint` is an atomic_int. */
void count_release(void *data, void *hint);

/* A pair of keys in a folder of its own. */
struct keys_place {
    char dir[64];
    struct tessi_keys keys;
};

void keys_make(struct keys_place *place);
void keys_remove(const struct keys_place *place);

#endif
