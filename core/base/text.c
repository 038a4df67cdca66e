#include "core/base/text.h"

#include <stdio.h>
#include <string.h>

char *tessi_text_format_list(char *text, size_t size, const char *format, va_list arguments)
{
    if (vsnprintf(text, size, format, arguments) < 0) {
        text[0] = 0;
    }
    return text;
}

char *tessi_text_format(char *text, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)tessi_text_format_list(text, size, format, arguments);
    va_end(arguments);
    return text;
}

struct tessi_lines tessi_lines_over(char *text, size_t size)
{
    text[0] = 0;
    return (struct tessi_lines){text, size, 0};
}

void tessi_lines_say(struct tessi_lines *lines, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    (void)tessi_text_format_list(line, sizeof line, format, arguments);
    va_end(arguments);
    char *end = lines->text + lines->used;
    (void)tessi_text_format(end, lines->size - lines->used, "%s%s", lines->used > 0 ? "\n" : "", line);
    lines->used += strlen(end);
}
