/* Formatting into memory, for code that must not see <stdio.h>: the pure machines write
 * messages but no streams. */
#ifndef TESSI_BASE_TEXT_H
#define TESSI_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Always ends the text with a 0, cut short when it does not fit. Returns `text`. */
char *tessi_text_format(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
char *tessi_text_format_list(char *text, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* What a text is for a terminal or a log: bytes that are no characters, control characters and those that turn the direction
 * of what follows are written as \xNN, everything else as it is; cut short when it does not fit, between characters. So
 * nobody who names a worker, a file or an array writes to somebody's terminal. Showing it again changes nothing. */
char *tessi_text_show(char *out, size_t size, const char *text);

/* The same in double quotes, its own quotes and backslashes each behind a backslash, so that nobody who names something ends
 * the quotation. They are closed also where the text is cut short; `size` is 3 at least. */
char *tessi_text_quote(char *out, size_t size, const char *text);

/* The character that a text begins with: its bytes (1 for what is none), and whether it is one that can be shown. */
size_t tessi_text_character(const char *text, bool *showable);

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
