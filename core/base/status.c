#include "core/base/status.h"

#include <stdio.h>
#include <string.h>

#include "core/base/text.h"

bool tessi_status_known(uint32_t code)
{
    switch (code) {
#define TESSI_ROW(name, number, text) \
    case number:                      \
        return true;
        TESSI_STATUS_TABLE(TESSI_ROW)
#undef TESSI_ROW
    default:
        return false;
    }
}

const char *tessi_status_text(enum tessi_status status)
{
    switch (status) {
#define TESSI_ROW(name, code, text) \
    case TESSI_##name:              \
        return text;
        TESSI_STATUS_TABLE(TESSI_ROW)
#undef TESSI_ROW
    }
    return "unknown status";
}

/* Names of files, of workers and of arrays are in it, and programs print it. */
static void make_showable(struct tessi_error *error)
{
    char text[sizeof error->text];
    (void)tessi_text_show(text, sizeof text, error->text);
    memcpy(error->text, text, strlen(text) + 1);
}

enum tessi_status tessi_fail(struct tessi_error *error, enum tessi_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        error->status = status;
        va_start(args, format);
        (void)vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        make_showable(error);
    }
    return status;
}

void tessi_error_prefix(struct tessi_error *error, const char *format, ...)
{
    if (error == NULL) {
        return;
    }
    char tail[sizeof error->text];
    memcpy(tail, error->text, sizeof tail);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used + 3 < sizeof error->text) {
        memcpy(error->text + used, ": ", 2);
        (void)snprintf(error->text + used + 2, sizeof error->text - used - 2, "%.*s",
                       (int)(sizeof error->text - used - 3), tail);
    }
    make_showable(error);
}
