/* The session behind tessera.h: errors, scopes, the way to a cluster. */
#ifndef TESSI_CLIENT_SESSION_H
#define TESSI_CLIENT_SESSION_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/tessera.h"
#include "core/base/map.h"
#include "core/base/status.h"
#include "core/graph/task_options.h"

#define TESSI_CHUNK_BYTES (UINT64_C(128) << 20)

struct tessi_link;
struct tessi_node;
struct tessi_embedded;
struct tessi_net;

struct tess_scope {
    struct tess_session *session;
    struct tess_scope *outer;  /* NULL: the session's own */
    struct tess_scope *inner;  /* opened inside this one, NULL when innermost */
    struct tess_array *arrays; /* a list through next and prev */
};

#define SECONDS_UNKNOWN (-1.0)

struct tess_session {
    struct tessi_error kept;  /* see tess_session_error; status OK: none */
    struct tessi_error fatal; /* why it could not be opened; status OK: it was */
    uint64_t chunk_bytes;
    struct tessi_task_options task_options; /* of what is computed without any of its own */
    struct tess_scope root;
    struct tess_scope *innermost;
    struct tessi_net *net;           /* NULL in a session that is not connected */
    struct tessi_embedded *embedded; /* NULL: the cluster is elsewhere */
    char *address;                   /* of the scheduler, owned; NULL: not connected */
    struct tessi_link *link;         /* NULL: not connected, arrays can be built only */
    struct tessi_node **named;       /* those that a layer was held for, each under its last id, owned array */
    size_t named_count, named_capacity;
    struct tessi_map named_by_id; /* layer → position in named */
    uint32_t next_layer;          /* ids on the cluster, never used twice */
    pid_t owner;                  /* the process that opened it: a child of fork has none of its threads */
    uint32_t mark;                /* of the last walk over the graph */
    tess_progress_fn *progress;
    void *progress_context;
    double seconds;       /* of the last computation waited for; SECONDS_UNKNOWN: the link knows */
    pthread_mutex_t lock; /* guards the `held` and `pending` fields of nodes, which tess_cancel reads */
};

/* A session without a cluster: arrays can be built and looked at. For tess_session_open and for tests. */
struct tess_session *tessi_session_create(void);

/* An operator was refused: the session keeps the error if it has none. */
void tessi_session_note(struct tess_session *session, const struct tessi_error *error);
/* A call returns an error, in place of whatever the session kept: returns its status. NULL session is allowed. */
tess_status tessi_session_fail(struct tess_session *session, const struct tessi_error *error);

/* Why nothing can be computed with the session; OK when it is connected. */
enum tessi_status tessi_session_check(const struct tess_session *session, struct tessi_error *error);

/* Release the handles of a scope. */
void tessi_scope_clear(struct tess_scope *scope);

#endif
