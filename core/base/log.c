#include "core/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/text.h"

enum { LINE_BYTES = 1024 };
#define REPEAT_NS (10 * TESSI_NS_PER_S)

static atomic_int current_level = TESSI_LOG_ERROR;
static atomic_int current_descriptor = STDERR_FILENO;

static const char *level_name(enum tessi_log_level level)
{
    switch (level) {
    case TESSI_LOG_OFF:
        return "off";
    case TESSI_LOG_ERROR:
        return "error";
    case TESSI_LOG_WARN:
        return "warn";
    case TESSI_LOG_INFO:
        return "info";
    case TESSI_LOG_DEBUG:
        return "debug";
    }
    return "unknown";
}

/* What snprintf really wrote into `room` bytes, given what it would have liked to. */
static size_t clamp_written(int wanted, size_t room)
{
    if (wanted < 0) {
        return 0;
    }
    return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

static size_t write_head(char *line, size_t room, enum tessi_log_level level, const char *event)
{
    int64_t wall = tessi_clock_wall();
    time_t seconds = (time_t)(wall / TESSI_NS_PER_S);
    struct tm date;
    if (gmtime_r(&seconds, &date) == NULL) {
        date = (struct tm){0};
    }
    size_t used = strftime(line, room, "%Y-%m-%dT%H:%M:%S", &date);
    int n = snprintf(line + used, room - used, ".%06dZ level=%s event=%s",
                     (int)(wall % TESSI_NS_PER_S / TESSI_NS_PER_US), level_name(level), event);
    return used + clamp_written(n, room - used);
}

void tessi_log_set_level(enum tessi_log_level level)
{
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

bool tessi_log_enabled(enum tessi_log_level level)
{
    return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

bool tessi_log_parse_level(const char *name, enum tessi_log_level *level)
{
    static const enum tessi_log_level levels[] = {TESSI_LOG_OFF, TESSI_LOG_ERROR, TESSI_LOG_WARN, TESSI_LOG_INFO,
                                                  TESSI_LOG_DEBUG};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(name, level_name(levels[i])) == 0) {
            *level = levels[i];
            return true;
        }
    }
    return false;
}

void tessi_log_set_descriptor(int descriptor)
{
    atomic_store(&current_descriptor, descriptor);
}

bool tessi_log_due(struct tessi_log_repeat *repeat, int64_t now_ns, uint64_t *left_out)
{
    *left_out = repeat->left_out;
    if (repeat->next_ns != 0 && now_ns < repeat->next_ns) {
        repeat->left_out++;
        return false;
    }
    repeat->next_ns = now_ns + REPEAT_NS;
    repeat->left_out = 0;
    return true;
}

/* A line under way. */
struct line {
    char bytes[LINE_BYTES];
    size_t used;
    bool full; /* nothing more is added */
};

/* All of it or nothing; one byte stays free for the newline. */
static void add(struct line *line, const char *text, size_t length)
{
    line->full = line->full || line->used + length >= sizeof line->bytes - 1;
    if (!line->full) {
        memcpy(line->bytes + line->used, text, length);
        line->used += length;
    }
}

static bool is_word(const char *text)
{
    bool word = *text != 0;
    for (size_t count; word && *text != 0; text += count) {
        count = tessi_text_character(text, &word);
        word = word && strchr(" \"\\=", *text) == NULL;
    }
    return word;
}

/* What follows of the format up to a conversion: " key=" or less. */
static const char *add_literal(struct line *line, const char *format, bool *quoted)
{
    size_t length = strcspn(format, "%");
    *quoted = length > 0 && format[length] != 0 && format[length - 1] == '"';
    /* The key comes with its value or not at all: room for an empty one, in quotes. */
    line->full = line->full || line->used + length + 3 >= sizeof line->bytes - 1;
    add(line, format, length - (*quoted ? 1 : 0));
    return format + length;
}

static void add_text(struct line *line, const char *text, bool quoted)
{
    char shown[LINE_BYTES];
    size_t room = sizeof line->bytes - 1 - line->used;
    if (line->full) {
        return;
    }
    if (quoted || !is_word(text) || strlen(text) >= room) {
        text = tessi_text_quote(shown, room, text);
    }
    add(line, text, strlen(text));
}

/* The next value as the conversion says, which ends with `kind` and is of 64 bits or of an int's. */
static void add_integer(struct line *line, char kind, bool is_long, va_list *values)
{
    char text[32];
    int n;
    TESS_ASSERT(kind == 'd' || kind == 'u');
    if (kind == 'd') {
        n = snprintf(text, sizeof text, "%" PRId64, is_long ? va_arg(*values, int64_t) : va_arg(*values, int));
    } else {
        n = snprintf(text, sizeof text, "%" PRIu64, is_long ? va_arg(*values, uint64_t) : va_arg(*values, unsigned));
    }
    add(line, text, clamp_written(n, sizeof text));
}

/* The pairs: each text as a value of its own, whatever is in it. */
static void add_pairs(struct line *line, const char *format, va_list *values)
{
    bool quoted;
    for (format = add_literal(line, format, &quoted); *format != 0; format = add_literal(line, format, &quoted)) {
        size_t size = strspn(format + 1, "lz");
        char kind = format[1 + size];
        if (kind == 's') {
            add_text(line, va_arg(*values, const char *), quoted);
        } else {
            add_integer(line, kind, size > 0, values);
        }
        format += 2 + size + (quoted ? 1 : 0);
    }
}

void tessi_log_write(enum tessi_log_level level, const char *event, const char *format, ...)
{
    if (level == TESSI_LOG_OFF || !tessi_log_enabled(level)) {
        return;
    }
    int saved_errno = errno;
    struct line line = {.used = 0};
    line.used = write_head(line.bytes, sizeof line.bytes - 1, level, event);
    if (format != NULL) {
        va_list values;
        add(&line, " ", 1);
        va_start(values, format);
        add_pairs(&line, format, &values);
        va_end(values);
    }
    line.bytes[line.used++] = '\n';
    /* A log line that cannot be written has nowhere to complain to. */
    ssize_t written = write(atomic_load(&current_descriptor), line.bytes, line.used);
    (void)written;
    errno = saved_errno;
}
