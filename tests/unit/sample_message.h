/* Seeded random messages and layers for the tests and fuzzers of the wire. */
#ifndef TESTS_UNIT_SAMPLE_MESSAGE_H
#define TESTS_UNIT_SAMPLE_MESSAGE_H

#include "core/wire/message.h"
#include "tests/unit/sample.h"

/* A valid layer of the given operation, owned by the caller. */
struct tessi_layer *sample_layer(struct sample *sample, enum tessi_op op);

/* Fill every field of a message; owned like an unpacked one: end it with tessi_message_fini. */
void sample_message(struct sample *sample, enum tessi_msg_type type, struct tessi_message *message);

#endif
