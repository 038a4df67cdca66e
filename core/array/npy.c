#include "core/array/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"

static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

#define ALIGNMENT 64u
#define DESCR_MAX 64

/* The dict literal, read strictly forwards; nothing is looked at beyond `end`. */
struct cursor {
    const char *at;
    const char *end;
    struct tessi_error *error;
};

static enum tessi_status damaged(const struct cursor *cursor, const char *what)
{
    return tessi_fail(cursor->error, TESSI_FORMAT, "npy header is damaged: %s; save the array again", what);
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && *cursor->at != '\0' && strchr(" \n\t\r\f", *cursor->at) != NULL) {
        cursor->at++;
    }
}

/* The next character that is no space, not consumed; 0 at the end. */
static char peek(struct cursor *cursor)
{
    skip_space(cursor);
    return cursor->at < cursor->end ? *cursor->at : '\0';
}

static bool take(struct cursor *cursor, char wanted)
{
    if (peek(cursor) != wanted || wanted == '\0') {
        return false;
    }
    cursor->at++;
    return true;
}

static bool take_word(struct cursor *cursor, const char *word)
{
    skip_space(cursor);
    size_t length = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length) != 0) {
        return false;
    }
    cursor->at += length;
    return true;
}

static bool printable(char c)
{
    return c >= 0x20 && c < 0x7f;
}

/* A quoted string without escapes, as every type descriptor is; Python 2 wrote some with a u. */
static enum tessi_status take_string(struct cursor *cursor, char *text, size_t size)
{
    (void)take(cursor, 'u');
    char quote = peek(cursor);
    if (quote != '\'' && quote != '"') {
        return damaged(cursor, "a string in quotes is missing");
    }
    cursor->at++;
    size_t used = 0;
    while (cursor->at < cursor->end && *cursor->at != quote) {
        if (!printable(*cursor->at) || *cursor->at == '\\' || used + 1 >= size) {
            return damaged(cursor, "a string is too long or has escapes");
        }
        text[used++] = *cursor->at++;
    }
    if (cursor->at == cursor->end) {
        return damaged(cursor, "a string has no end");
    }
    cursor->at++;
    text[used] = '\0';
    return TESSI_OK;
}

/* What numpy.dtype takes besides our own descriptors: characters of C's types, sizes as on 64-bit Linux, and names. */
static const struct {
    enum tessi_dtype dtype;
    const char *characters;
    const char *names; /* each with spaces around */
} spellings[] = {
    {TESSI_BOOL, "?", " bool bool_ bool8 "},
    {TESSI_I8, "b", " int8 byte "},
    {TESSI_I16, "h", " int16 short "},
    {TESSI_I32, "i", " int32 intc "},
    {TESSI_I64, "lqpn", " int64 int int_ long longlong intp "},
    {TESSI_U8, "B", " uint8 ubyte "},
    {TESSI_U16, "H", " uint16 ushort "},
    {TESSI_U32, "I", " uint32 uintc "},
    {TESSI_U64, "LQPN", " uint64 uint ulong ulonglong uintp "},
    {TESSI_F16, "e", " float16 half "},
    {TESSI_F32, "f", " float32 single "},
    {TESSI_F64, "d", " float64 float float_ double "},
    {TESSI_C64, "F", " complex64 csingle singlecomplex "},
    {TESSI_C128, "D", " complex128 complex complex_ cdouble cfloat "},
};

static bool find_spelling(const char *descr, const char *code, enum tessi_dtype *dtype)
{
    char name[DESCR_MAX + 2];
    (void)snprintf(name, sizeof name, " %s ", descr); /* a name has no byte order before it */
    bool one = code[0] != '\0' && code[1] == '\0';
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        bool named = strchr(descr, ' ') == NULL && strlen(descr) > 1 && strstr(spellings[i].names, name) != NULL;
        if (named || (one && strchr(spellings[i].characters, code[0]) != NULL)) {
            *dtype = spellings[i].dtype;
            return true;
        }
    }
    return false;
}

/* '<', '=', '|' or nothing: as this machine has it; '>': the other way round, where there is more than a byte. */
static bool read_descr(const char *descr, enum tessi_dtype *dtype, bool *swapped)
{
    const char *code = descr[0] != '\0' && strchr("|<>=", descr[0]) != NULL ? descr + 1 : descr;
    bool found = false;
    for (uint32_t number = 0; number < TESSI_DTYPE_COUNT && !found; number++) {
        const char *ours = tessi_dtype_descr((enum tessi_dtype)number);
        found = ours != NULL && strcmp(code, ours + 1) == 0;
        *dtype = (enum tessi_dtype)number;
    }
    found = found || find_spelling(descr, code, dtype);
    *swapped = found && descr[0] == '>' && tessi_dtype_size(*dtype) > 1;
    return found;
}

static enum tessi_status refuse_descr(const struct cursor *cursor, const char *descr)
{
    static const struct {
        char code;
        const char *kind;
        const char *remedy;
    } kinds[] = {
        {'O', "Python objects", "convert with astype to a numeric type before saving"},
        {'S', "byte strings", "convert to numbers before saving"},
        {'a', "byte strings", "convert to numbers before saving"},
        {'U', "strings", "convert to numbers before saving"},
        {'T', "strings", "convert to numbers before saving"},
        {'V', "raw (void) bytes", "save a numeric view, bfloat16 as astype('f4')"},
        {'M', "dates", "save view('i8') instead"},
        {'m', "time differences", "save view('i8') instead"},
    };
    const char *code = descr[0] != '\0' && strchr("|<>=", descr[0]) != NULL ? descr + 1 : descr;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (code[0] == kinds[i].code) {
            return tessi_fail(cursor->error, TESSI_UNSUPPORTED, "npy elements of type '%s' are %s: %s", descr,
                              kinds[i].kind, kinds[i].remedy);
        }
    }
    return tessi_fail(cursor->error, TESSI_UNSUPPORTED,
                      "npy elements of type '%s' are not supported: convert with astype to bool, an integer, f2, f4, "
                      "f8, c8 or c16",
                      descr);
}

static enum tessi_status parse_descr(struct cursor *cursor, struct tessi_npy_header *header)
{
    char first = peek(cursor);
    if (first == '[' || first == '(') {
        return tessi_fail(cursor->error, TESSI_UNSUPPORTED,
                          "npy elements are structured records: save each field in a file of its own");
    }
    char descr[DESCR_MAX];
    enum tessi_status status = take_string(cursor, descr, sizeof descr);
    if (status != TESSI_OK) {
        return status;
    }
    if (read_descr(descr, &header->dtype, &header->swapped)) {
        return TESSI_OK;
    }
    return refuse_descr(cursor, descr);
}

static enum tessi_status parse_order(struct cursor *cursor, bool *fortran_order)
{
    if (take_word(cursor, "True")) {
        *fortran_order = true;
        return TESSI_OK;
    }
    if (take_word(cursor, "False")) {
        *fortran_order = false;
        return TESSI_OK;
    }
    return damaged(cursor, "fortran_order is neither True nor False");
}

static enum tessi_status parse_dim(struct cursor *cursor, int64_t *dim)
{
    char first = peek(cursor);
    if (first == '-') {
        return damaged(cursor, "the shape has a negative dimension");
    }
    if (first < '0' || first > '9') {
        return damaged(cursor, "the shape is not a tuple of integers");
    }
    int64_t value = 0;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *cursor->at - '0', &value)) {
            return damaged(cursor, "a dimension exceeds 2^63 - 1");
        }
        cursor->at++;
    }
    /* Python 2 wrote long integers with an L. */
    if (cursor->at < cursor->end && *cursor->at == 'L') {
        cursor->at++;
    }
    *dim = value;
    return TESSI_OK;
}

static enum tessi_status parse_shape(struct cursor *cursor, struct tessi_shape *shape)
{
    *shape = (struct tessi_shape){0};
    bool comma = true; /* A tuple of one needs a comma after it. */
    if (!take(cursor, '(')) {
        return damaged(cursor, "the shape is not a tuple");
    }
    while (!take(cursor, ')')) {
        if (!comma) {
            return damaged(cursor, "a comma is missing in the shape");
        }
        if (shape->ndim == TESSI_NDIM_MAX) {
            return tessi_fail(cursor->error, TESSI_UNSUPPORTED,
                              "npy array has more than %d dimensions: reshape it before saving", TESSI_NDIM_MAX);
        }
        enum tessi_status status = parse_dim(cursor, &shape->dim[shape->ndim]);
        if (status != TESSI_OK) {
            return status;
        }
        shape->ndim++;
        comma = take(cursor, ',');
    }
    if (shape->ndim == 1 && !comma) {
        return damaged(cursor, "the shape is not a tuple");
    }
    return TESSI_OK;
}

enum { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

static enum tessi_status parse_entry(struct cursor *cursor, struct tessi_npy_header *header, unsigned *seen)
{
    char key[DESCR_MAX];
    enum tessi_status status = take_string(cursor, key, sizeof key);
    if (status != TESSI_OK) {
        return status;
    }
    unsigned bit = strcmp(key, "descr") == 0           ? KEY_DESCR
                   : strcmp(key, "fortran_order") == 0 ? KEY_ORDER
                   : strcmp(key, "shape") == 0         ? KEY_SHAPE
                                                       : 0;
    if (bit == 0 || (*seen & bit) != 0) {
        return damaged(cursor, "a key is unknown or there twice");
    }
    *seen |= bit;
    if (!take(cursor, ':')) {
        return damaged(cursor, "a colon is missing");
    }
    if (bit == KEY_DESCR) {
        return parse_descr(cursor, header);
    }
    return bit == KEY_ORDER ? parse_order(cursor, &header->fortran_order) : parse_shape(cursor, &header->shape);
}

static enum tessi_status parse_dict(struct cursor *cursor, struct tessi_npy_header *header)
{
    unsigned seen = 0;
    bool comma = true;
    if (!take(cursor, '{')) {
        return damaged(cursor, "it does not begin with a brace");
    }
    while (!take(cursor, '}')) {
        if (!comma) {
            return damaged(cursor, "a comma is missing");
        }
        enum tessi_status status = parse_entry(cursor, header, &seen);
        if (status != TESSI_OK) {
            return status;
        }
        comma = take(cursor, ',');
    }
    if (seen != KEY_ALL) {
        return damaged(cursor, "descr, fortran_order or shape is missing");
    }
    skip_space(cursor);
    return cursor->at == cursor->end ? TESSI_OK : damaged(cursor, "something follows the closing brace");
}

void tessi_npy_mark(const uint64_t token[2], uint8_t mark[TESSI_NPY_MARK_BYTES])
{
    memcpy(mark, "tessera writes: ", 16);
    for (size_t i = 0; i < 16; i++) {
        mark[16 + i] = (uint8_t)(token[i / 8] >> 8 * (i % 8));
    }
}

enum tessi_status tessi_npy_header_bytes(const uint8_t *bytes, size_t n, uint64_t *header_bytes,
                                         struct tessi_error *error)
{
    if (n < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0) {
        return tessi_fail(error, TESSI_FORMAT, "not an npy file (its first bytes differ): save with numpy.save");
    }
    uint64_t prefix = n > 6 && bytes[6] == 1 ? 10 : 12;
    if (n < prefix) {
        return tessi_fail(error, TESSI_FORMAT, "npy file of %zu bytes is cut short in its header: save it again", n);
    }
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0) {
        return tessi_fail(error, TESSI_VERSION, "npy format %u.%u is unknown: save with format 1.0, 2.0 or 3.0",
                          bytes[6], bytes[7]);
    }
    uint32_t text = (uint32_t)bytes[8] | (uint32_t)bytes[9] << 8;
    if (prefix == 12) {
        text |= (uint32_t)bytes[10] << 16 | (uint32_t)bytes[11] << 24;
    }
    if (text > TESSI_NPY_TEXT_MAX) {
        return tessi_fail(error, TESSI_FORMAT,
                          "npy header claims %" PRIu32 " bytes, more than %" PRIu32
                          ": the file is damaged, save it again",
                          text, TESSI_NPY_TEXT_MAX);
    }
    *header_bytes = prefix + text;
    return TESSI_OK;
}

static enum tessi_status check_size(const struct tessi_npy_header *header, uint64_t file_bytes,
                                    struct tessi_error *error)
{
    int64_t elements;
    int64_t bytes;
    char shape[256];
    if (!tessi_shape_elements(&header->shape, &elements) ||
        __builtin_mul_overflow(elements, (int64_t)tessi_dtype_size(header->dtype), &bytes)) {
        return tessi_fail(error, TESSI_FORMAT, "npy shape %s exceeds 2^63 - 1 bytes: the header is damaged",
                          tessi_shape_format(&header->shape, shape, sizeof shape));
    }
    /* Both terms are below 2^63 and 2^21, so the sum is exact. */
    uint64_t needed = header->data_offset + (uint64_t)bytes;
    if (file_bytes < needed) {
        return tessi_fail(error, TESSI_FORMAT,
                          "npy file of %" PRIu64 " bytes is cut short: shape %s of %s needs %" PRIu64
                          " bytes; copy or save it again",
                          file_bytes, tessi_shape_format(&header->shape, shape, sizeof shape),
                          tessi_dtype_name(header->dtype), needed);
    }
    return TESSI_OK;
}

enum tessi_status tessi_npy_parse(const uint8_t *bytes, size_t n, uint64_t file_bytes,
                                  struct tessi_npy_header *header, struct tessi_error *error)
{
    struct tessi_npy_header parsed = {0};
    enum tessi_status status = tessi_npy_header_bytes(bytes, n, &parsed.data_offset, error);
    if (status != TESSI_OK) {
        return status;
    }
    if (n < parsed.data_offset) {
        return tessi_fail(error, TESSI_FORMAT,
                          "npy header of %" PRIu64
                          " bytes, but only %zu are there: the file is cut short, save it again",
                          parsed.data_offset, n);
    }
    size_t prefix = bytes[6] == 1 ? 10 : 12;
    struct cursor cursor = {(const char *)bytes + prefix, (const char *)bytes + parsed.data_offset, error};
    status = parse_dict(&cursor, &parsed);
    if (status == TESSI_OK) {
        status = check_size(&parsed, file_bytes, error);
    }
    if (status == TESSI_OK) {
        *header = parsed;
    }
    return status;
}

/* NumPy leaves room for the growing dimension to reach 21 digits, so that a file can be appended to. */
static size_t growth_room(const struct tessi_npy_header *header)
{
    if (header->shape.ndim == 0) {
        return 0;
    }
    int64_t growing = header->shape.dim[header->fortran_order ? header->shape.ndim - 1 : 0];
    int digits = snprintf(NULL, 0, "%" PRId64, growing);
    return digits < 21 ? 21 - (size_t)digits : 0;
}

size_t tessi_npy_format(const struct tessi_npy_header *header, uint8_t *buffer, size_t size)
{
    const char *descr = tessi_dtype_descr(header->dtype);
    if (descr == NULL) {
        return 0;
    }
    char shape[256];
    char text[TESSI_NPY_WRITTEN_MAX];
    int length = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }", descr,
                          header->fortran_order ? "True" : "False",
                          tessi_shape_format(&header->shape, shape, sizeof shape));
    size_t dict = (size_t)length;
    size_t used = 10 + dict + growth_room(header) + 1;
    /* NumPy adds a whole line of padding when nothing is missing. */
    size_t total = used + ALIGNMENT - used % ALIGNMENT;
    TESS_ASSERT(length > 0 && total <= TESSI_NPY_WRITTEN_MAX);
    if (size < total) {
        return 0;
    }
    memcpy(buffer, magic, sizeof magic);
    buffer[6] = 1;
    buffer[7] = 0;
    buffer[8] = (uint8_t)((total - 10) & 0xff);
    buffer[9] = (uint8_t)((total - 10) >> 8);
    memcpy(buffer + 10, text, dict);
    memset(buffer + 10 + dict, ' ', total - 10 - dict - 1);
    buffer[total - 1] = '\n';
    return total;
}
