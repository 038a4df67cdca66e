#include "core/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

void tessi_log_write(enum tessi_log_level level, const char *event, const char *format, ...)
{
    if (level == TESSI_LOG_OFF || !tessi_log_enabled(level)) {
        return;
    }
    int saved_errno = errno;
    char line[LINE_BYTES];
    size_t room = sizeof line - 1; /* One byte stays free for the newline. */
    size_t used = write_head(line, room, level, event);
    if (format != NULL && used + 1 < room) {
        va_list args;
        line[used++] = ' ';
        va_start(args, format);
        int n = vsnprintf(line + used, room - used, format, args);
        va_end(args);
        used += clamp_written(n, room - used);
    }
    char shown[LINE_BYTES];
    line[used] = 0;
    (void)tessi_text_show(shown, sizeof shown - 1, line);
    used = strlen(shown);
    shown[used++] = '\n';
    /* A log line that cannot be written has nowhere to complain to. */
    ssize_t written = write(atomic_load(&current_descriptor), shown, used);
    (void)written;
    errno = saved_errno;
}
