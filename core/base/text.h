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

/* A text that is said line by line, cut short when it is full. */
struct tessi_lines {
    char *text; /* borrowed */
    size_t size, used;
};

/* Empties the text. */
struct tessi_lines tessi_lines_over(char *text, size_t size);

/* One more line, of at most 255 bytes. */
void tessi_lines_say(struct tessi_lines *lines, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
