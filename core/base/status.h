/* Statuses and error texts.
 *
 * Every function that can fail for a reason outside our own code returns an
 * `enum tess_status` that must be used; the text that explains it travels in a
 * `struct tessi_error` given by the caller (may be NULL). The codes go over the
 * wire, so they are never renumbered or reused; client/tessera.h repeats them for
 * users and asserts at build time that both lists agree. */
#ifndef TESSI_BASE_STATUS_H
#define TESSI_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#define TESSI_STATUS_TABLE(ROW)                                              \
    ROW(OK, 0, "ok")                                                         \
    ROW(INVALID, 1, "invalid argument")                                      \
    ROW(NOMEM, 2, "out of memory")                                           \
    ROW(IO, 3, "input/output error")                                         \
    ROW(FORMAT, 4, "malformed data")                                         \
    ROW(NOT_FOUND, 5, "not found")                                           \
    ROW(UNREACHABLE, 6, "peer unreachable")                                  \
    ROW(NO_WORKERS, 7, "no workers")                                         \
    ROW(TOO_BIG, 8, "does not fit")                                          \
    ROW(CANCELLED, 9, "cancelled")                                           \
    ROW(TIMEOUT, 10, "timed out")                                            \
    ROW(AUTH, 11, "not authenticated")                                       \
    ROW(VERSION, 12, "version mismatch")                                     \
    ROW(PROTOCOL, 13, "protocol violation")                                  \
    ROW(LOST, 14, "lost")                                                    \
    ROW(FAILED, 15, "task failed")                                           \
    ROW(CLOSED, 16, "closed")                                                \
    ROW(UNSUPPORTED, 17, "not supported")                                    \
    ROW(BUSY, 18, "in use")

enum tessi_status {
#define TESSI_ROW(name, code, text) TESSI_##name = code,
    TESSI_STATUS_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

#define TESSI_MUST_USE __attribute__((warn_unused_result))

struct tessi_error {
    enum tessi_status status;
    char text[512]; /* Names the thing, the cause and what to do next. */
};

/* False for a code from outside that we do not have. */
bool tessi_status_known(uint32_t code);
/* The fixed English text of a code; "unknown status" for a code we do not have. */
const char *tessi_status_text(enum tessi_status status);

/* Store status and text in `error` (ignored when NULL) and return `status`, so that
 * `return tessi_fail(error, TESSI_IO, "…")` reads as one statement. */
enum tessi_status tessi_fail(struct tessi_error *error, enum tessi_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the text of an error on its way up. */
void tessi_error_prefix(struct tessi_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Run a guarded call; on failure leave through the function's `cleanup` label with
 * the status in its local variable `status`. */
#define TESSI_TRY(call)                \
    do {                               \
        status = (call);               \
        if (status != TESSI_OK) {      \
            goto cleanup;              \
        }                              \
    } while (0)

#endif
