/* Formatting into memory, for code that must not see <stdio.h>: the pure machines write
 * messages but no streams. */
#ifndef TESSI_BASE_TEXT_H
#define TESSI_BASE_TEXT_H

#include <stdarg.h>
#include <stddef.h>

/* Always ends the text with a 0, cut short when it does not fit. Returns `text`. */
char *tessi_text_format(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
char *tessi_text_format_list(char *text, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

#endif
