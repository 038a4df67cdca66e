/* Log lines for people and for grep: one event a line, as key=value pairs.
 *
 *     tessi_log_event(TESSI_LOG_INFO, "worker_joined", "worker=%u host=%s memory_bytes=%" PRIu64, slot, host, bytes);
 *
 * gives
 *
 *     2026-01-31T12:00:00.123456Z level=info event=worker_joined worker=3 host=n17 memory_bytes=8589934592
 *
 * A line goes to the file descriptor of standard error with one write, so lines of several
 * threads and processes do not mix. A value is a word, or stands in double quotes (tessi_text_quote), so that nobody
 * who names something can forge a field or a line: %s puts quotes where the text is no word, TESSI_LOG_TEXT always:
 * `"reason=" TESSI_LOG_TEXT`.
 *
 * The level is one number for the process: it belongs to the program, not to a session.
 * The library is silent (level "error" and above only) until a program asks for more. */
#ifndef TESSI_BASE_LOG_H
#define TESSI_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum tessi_log_level {
    TESSI_LOG_OFF = 0, /* as a level to set: no line at all */
    TESSI_LOG_ERROR = 1,
    TESSI_LOG_WARN = 2,
    TESSI_LOG_INFO = 3,
    TESSI_LOG_DEBUG = 4,
};

#define TESSI_LOG_TEXT "\"%s\""

/* Lines above `level` are dropped from now on; any thread may call it at any time. */
void tessi_log_set_level(enum tessi_log_level level);
bool tessi_log_enabled(enum tessi_log_level level);

/* "off", "error", "warn", "info" or "debug" to a level; false when it is none of them. */
bool tessi_log_parse_level(const char *name, enum tessi_log_level *level);

/* Where lines go; 2 at the start. The caller keeps the descriptor open. */
void tessi_log_set_descriptor(int descriptor);

/* `event` is a snake_case name; `format` gives the pairs that follow it, NULL: none. It has %s and what prints
 * integers, one for each value. A line longer than 1024 bytes is cut, within a text or between pairs. Keeps errno. */
void tessi_log_write(enum tessi_log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Of what may happen again and again: the first line is written, then at most one in ten seconds, which says how many
 * were left out before it. Zeroed at the start. False: leave this one out. */
struct tessi_log_repeat {
    int64_t next_ns;
    uint64_t left_out;
};
bool tessi_log_due(struct tessi_log_repeat *repeat, int64_t now_ns, uint64_t *left_out);

/* The arguments are evaluated only when the line is wanted. */
#define tessi_log_event(level, ...)                                                                                    \
    do {                                                                                                               \
        if (tessi_log_enabled(level)) {                                                                                \
            tessi_log_write(level, __VA_ARGS__);                                                                       \
        }                                                                                                              \
    } while (0)

#endif
