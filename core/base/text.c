#include "core/base/text.h"

#include <stdint.h>
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

/* As UTF-8 has it; 0: these bytes are none. */
static uint32_t decode(const unsigned char *bytes, size_t *count)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* by the number of bytes: shorter ones would do */
    unsigned char first = bytes[0];
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    uint32_t code = length == 1 ? first : (uint32_t)first & (0x7fu >> length);
    *count = 1;
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (bytes[i] & 0x3f);
    }
    if (length == 0 || code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return 0;
    }
    *count = length;
    return code;
}

static bool is_direction(uint32_t code)
{
    return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0x200e || code == 0x200f;
}

size_t tessi_text_character(const char *text, bool *showable)
{
    size_t count;
    uint32_t code = decode((const unsigned char *)text, &count);
    bool is_line = code == 0x2028 || code == 0x2029;
    *showable = code >= 0x20 && (code < 0x7f || code > 0x9f) && !is_direction(code) && !is_line;
    return count;
}

/* One character as it is shown, `bytes` of the text, into at most 16 of `out`. */
static size_t show_character(char *out, const char *text, size_t bytes, bool showable, bool quoted)
{
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    if (showable) {
        if (quoted && (*text == '"' || *text == '\\')) {
            out[used++] = '\\';
        }
        memcpy(out + used, text, bytes);
        return used + bytes;
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        const char shown[4] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        memcpy(out + used, shown, sizeof shown);
        used += sizeof shown;
    }
    return used;
}

static size_t show_text(char *out, size_t size, const char *text, bool quoted)
{
    char shown[4 * 4];
    size_t used = 0;
    bool showable;
    for (size_t count; *text != 0; text += count) {
        count = tessi_text_character(text, &showable);
        size_t bytes = show_character(shown, text, count, showable, quoted);
        if (used + bytes >= size) {
            break;
        }
        memcpy(out + used, shown, bytes);
        used += bytes;
    }
    out[used] = 0;
    return used;
}

char *tessi_text_show(char *out, size_t size, const char *text)
{
    (void)show_text(out, size, text, false);
    return out;
}

char *tessi_text_quote(char *out, size_t size, const char *text)
{
    out[0] = '"';
    size_t used = 1 + show_text(out + 1, size - 2, text, true);
    out[used] = '"';
    out[used + 1] = 0;
    return out;
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
