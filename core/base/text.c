#include "core/base/text.h"

#include <stdio.h>

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
