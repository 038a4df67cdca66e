#include "core/base/text.h"

#include <stdarg.h>
#include <stdio.h>

char *tessi_text_format(char *text, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (vsnprintf(text, size, format, args) < 0) {
        text[0] = 0;
    }
    va_end(args);
    return text;
}
