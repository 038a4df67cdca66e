/* The cluster's key pair: one CURVE25519 pair shared by all members of a cluster.
 *
 * A directory holds `cluster.public` and `cluster.secret`, each one line of Z85 text. Who can
 * read the secret is a member: it both names the servers and admits the clients. */
#ifndef TESSI_NET_KEYS_H
#define TESSI_NET_KEYS_H

#include "core/base/status.h"

struct tessi_keys {
    char public_key[41]; /* Z85 text with its end */
    char secret_key[41];
};

/* Write a new pair into `dir` (created with mode 0700 when it is missing). BUSY when either
 * file exists: keys are never overwritten. IO when a file cannot be written; UNSUPPORTED when
 * libzmq was built without CURVE. */
TESSI_MUST_USE enum tessi_status tessi_keys_generate(const char *dir, struct tessi_error *error);

/* Read and check the pair. NOT_FOUND: a file is missing; AUTH: group or others may access the
 * secret, or it belongs to another user; FORMAT: not Z85, or not a pair; IO: unreadable.
 * The caller wipes `keys` after use. */
TESSI_MUST_USE enum tessi_status tessi_keys_load(const char *dir, struct tessi_keys *keys, struct tessi_error *error);

void tessi_keys_wipe(struct tessi_keys *keys);

#endif
