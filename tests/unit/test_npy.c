/* .npy headers against bytes that numpy.lib.format of NumPy 2.4 wrote, and against hostile ones. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/array/npy.h"
#include "tests/unit/sample.h"

#define PAD10 "          "

struct fixture {
    const char *bytes; /* 128 of them, then the elements */
    uint64_t file_bytes;
    struct tessi_npy_header header;
};

static const struct fixture fixtures[] = {
    {"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }" PAD10 PAD10 PAD10 PAD10 PAD10
     "        \n",
     224,
     {TESSI_F64, false, {2, {3, 4}}, 128, false}},
    {"\x93NUMPY\x01\x00v\x00{'descr': '<c8', 'fortran_order': True, 'shape': (2, 5), }" PAD10 PAD10 PAD10 PAD10 PAD10
     "         \n",
     208,
     {TESSI_C64, true, {2, {2, 5}}, 128, false}},
    {"\x93NUMPY\x02\x00t\x00\x00\x00{'descr': '<i2', 'fortran_order': False, 'shape': (7,), }" PAD10 PAD10 PAD10 PAD10
         PAD10 "        \n",
     142,
     {TESSI_I16, false, {1, {7}}, 128, false}},
    {"\x93NUMPY\x03\x00t\x00\x00\x00{'descr': '|b1', 'fortran_order': False, 'shape': (), }" PAD10 PAD10 PAD10 PAD10
         PAD10 PAD10 "\n",
     129,
     {TESSI_BOOL, false, {0, {0}}, 128, false}},
    {"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (0, 3), }" PAD10 PAD10 PAD10 PAD10 PAD10
     "        \n",
     128,
     {TESSI_U8, false, {2, {0, 3}}, 128, false}},
    {"\x93NUMPY\x01\x00v\x00{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2, 1, 2, 1, 2, 1, 2), }" PAD10 PAD10
         PAD10 PAD10 "\n",
     160,
     {TESSI_F16, false, {8, {1, 2, 1, 2, 1, 2, 1, 2}}, 128, false}},
};
#define FIXTURES (sizeof fixtures / sizeof fixtures[0])

/* Parse from a block of exactly `n` bytes, so that a sanitizer sees a read beyond them. */
static enum tessi_status parse_exact(const void *bytes, size_t n, uint64_t file_bytes, struct tessi_npy_header *header,
                                     struct tessi_error *error)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    enum tessi_status status = tessi_npy_parse(copy, n, file_bytes, header, error);
    free(copy);
    return status;
}

static void test_reads_what_numpy_wrote(void **state)
{
    (void)state;
    for (size_t i = 0; i < FIXTURES; i++) {
        const struct fixture *fixture = &fixtures[i];
        const uint8_t *bytes = (const uint8_t *)fixture->bytes;
        struct tessi_npy_header header;
        struct tessi_error error = {TESSI_OK, ""};
        uint64_t needed = 0;
        assert_int_equal(tessi_npy_header_bytes(bytes, TESSI_NPY_PREFIX_BYTES, &needed, &error), TESSI_OK);
        assert_int_equal(needed, 128);
        assert_int_equal(parse_exact(bytes, 128, fixture->file_bytes, &header, &error), TESSI_OK);
        assert_int_equal(header.dtype, fixture->header.dtype);
        assert_int_equal(header.fortran_order, fixture->header.fortran_order);
        assert_true(tessi_shape_equal(&header.shape, &fixture->header.shape));
        assert_int_equal(header.data_offset, 128);
        /* One byte less, in the elements or in the header, is one too few. */
        assert_int_equal(parse_exact(bytes, 128, fixture->file_bytes - 1, &header, &error), TESSI_FORMAT);
        char size[32];
        (void)snprintf(size, sizeof size, "%" PRIu64 " bytes", fixture->file_bytes - 1);
        assert_non_null(strstr(error.text, size));
        (void)snprintf(size, sizeof size, "needs %" PRIu64 " bytes", fixture->file_bytes);
        assert_non_null(strstr(error.text, size));
        for (size_t n = 0; n < 128; n++) {
            assert_int_equal(parse_exact(bytes, n, fixture->file_bytes, &header, &error), TESSI_FORMAT);
        }
    }
}

static void test_writes_what_numpy_writes(void **state)
{
    (void)state;
    for (size_t i = 0; i < FIXTURES; i++) {
        const struct fixture *fixture = &fixtures[i];
        uint8_t buffer[TESSI_NPY_WRITTEN_MAX];
        if (fixture->bytes[6] != 1) {
            continue;
        }
        assert_int_equal(tessi_npy_format(&fixture->header, buffer, sizeof buffer), 128);
        assert_memory_equal(buffer, fixture->bytes, 128);
        assert_int_equal(tessi_npy_format(&fixture->header, buffer, 128), 128);
        assert_int_equal(tessi_npy_format(&fixture->header, buffer, 127), 0);
    }
    struct tessi_npy_header bf16 = {.dtype = TESSI_BF16};
    uint8_t buffer[TESSI_NPY_WRITTEN_MAX];
    assert_int_equal(tessi_npy_format(&bf16, buffer, sizeof buffer), 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct sample sample = {5};
    for (unsigned round = 0; round < 5000; round++) {
        struct tessi_npy_header header = {.fortran_order = sample_next(&sample) % 2 == 0};
        struct tessi_npy_header back;
        uint8_t buffer[TESSI_NPY_WRITTEN_MAX];
        do {
            header.dtype = (enum tessi_dtype)sample_between(&sample, 0, TESSI_DTYPE_COUNT - 1);
        } while (header.dtype == TESSI_BF16);
        header.shape.ndim = (uint32_t)sample_between(&sample, 0, TESSI_NDIM_MAX);
        for (uint32_t d = 0; d < header.shape.ndim; d++) {
            /* One empty axis lets the others be as long as they can be written. */
            header.shape.dim[d] = d == 0 ? 0 : (int64_t)(sample_next(&sample) >> sample_between(&sample, 1, 63));
        }
        size_t n = tessi_npy_format(&header, buffer, sizeof buffer);
        assert_true(n > 0 && n % 64 == 0);
        assert_int_equal(parse_exact(buffer, n, UINT64_MAX, &back, NULL), TESSI_OK);
        assert_int_equal(back.dtype, header.dtype);
        assert_int_equal(back.fortran_order, header.fortran_order);
        assert_int_equal(back.data_offset, n);
        assert_true(tessi_shape_equal(&back.shape, &header.shape));
    }
}

static enum tessi_status parse_dict(const char *dict, struct tessi_npy_header *header, struct tessi_error *error)
{
    uint8_t bytes[1024];
    size_t length = strlen(dict);
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    bytes[8] = (uint8_t)(length & 0xff);
    bytes[9] = (uint8_t)(length >> 8);
    memcpy(bytes + 10, dict, length);
    return parse_exact(bytes, 10 + length, UINT64_MAX, header, error);
}

static void test_accepts_other_writers(void **state)
{
    (void)state;
    static const char *const dicts[] = {
        "{'descr':'<f8','fortran_order':False,'shape':(2,3)}",
        "{\"shape\": (2, 3), \"fortran_order\": False, \"descr\": \"<f8\"}\n",
        " { 'fortran_order' : False , 'descr' : '<f8' , 'shape' : ( 2 , 3 , ) , } \n",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L), }",
        "{u'descr': u'<f8', u'fortran_order': False, u'shape': (2, 3), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\r\n",
        "{'descr': '<f8',\r\n 'fortran_order': False,\r\n 'shape': (2, 3)}\f\r\n",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        struct tessi_npy_header header;
        assert_int_equal(parse_dict(dicts[i], &header, NULL), TESSI_OK);
        assert_int_equal(header.dtype, TESSI_F64);
        assert_true(tessi_shape_equal(&header.shape, &(struct tessi_shape){2, {2, 3}}));
    }
}

/* Every string that numpy.dtype takes for a type of ours (NumPy 2.4 on 64-bit Linux), and its byte order. */
static void test_reads_every_name_of_a_type(void **state)
{
    static const struct {
        enum tessi_dtype dtype;
        const char *names; /* with '<', '=', '|', '>' or nothing before them */
        const char *alone;
    } types[] = {
        {TESSI_BOOL, "b1 ?", "bool"},
        {TESSI_I8, "i1 b", "int8 byte"},
        {TESSI_I16, "i2 h", "int16 short"},
        {TESSI_I32, "i4 i", "int32 intc"},
        {TESSI_I64, "i8 l q p n", "int64 int long longlong intp"},
        {TESSI_U8, "u1 B", "uint8 ubyte"},
        {TESSI_U16, "u2 H", "uint16 ushort"},
        {TESSI_U32, "u4 I", "uint32 uintc"},
        {TESSI_U64, "u8 L Q P N", "uint64 uint ulong ulonglong uintp"},
        {TESSI_F16, "f2 e", "float16 half"},
        {TESSI_F32, "f4 f", "float32 single"},
        {TESSI_F64, "f8 d", "float64 float double"},
        {TESSI_C64, "c8 F", "complex64 csingle"},
        {TESSI_C128, "c16 D", "complex128 complex cdouble"},
    };
    static const char *const orders[] = {"", "<", "=", "|", ">"};
    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t o = 0; o < 5; o++) {
            char words[128];
            char *rest = words;
            (void)snprintf(words, sizeof words, "%s %s", types[t].names, o == 0 ? types[t].alone : "");
            for (const char *word; (word = strtok_r(rest, " ", &rest)) != NULL;) {
                char dict[256];
                struct tessi_npy_header header;
                (void)snprintf(dict, sizeof dict, "{'descr': '%s%s', 'fortran_order': False, 'shape': (2,), }", orders[o],
                               word);
                assert_int_equal(parse_dict(dict, &header, NULL), TESSI_OK);
                assert_int_equal(header.dtype, types[t].dtype);
                assert_int_equal(header.swapped, o == 4 && tessi_dtype_size(header.dtype) > 1);
            }
        }
    }
    static const char *const others[] = {"i3", "f16", "g", "S", "O", ">float64", "flo", "float64 ", "doubl", "", ">", "F8", "c"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char dict[256];
        struct tessi_npy_header header;
        (void)snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }", others[i]);
        assert_int_equal(parse_dict(dict, &header, NULL), TESSI_UNSUPPORTED);
    }
}

static void test_refuses_damaged_dicts(void **state)
{
    (void)state;
    static const char *const dicts[] = {
        "",
        "{}",
        "{",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), 'more': 1}",
        "{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)} x",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': 2}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': [2, 3]}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,,3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-2, 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2.0, 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0x2, 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775808,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999999,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904,)}",
        "{'descr': '<f8', 'fortran_order': false, 'shape': (2, 3)}",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (2, 3)}",
        "{'descr': '<f8' 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr' '<f8', 'fortran_order': False, 'shape': (2, 3)}",
        "{'fortran_order': False, 'shape': (2, 3), 'descr': '<f8\"}",
        "{'descr': '<\\x668', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': <f8, 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        struct tessi_npy_header header;
        struct tessi_error error = {TESSI_OK, ""};
        assert_int_equal(parse_dict(dicts[i], &header, &error), TESSI_FORMAT);
        assert_true(strlen(error.text) > 20);
    }
}

static void test_names_what_is_unsupported(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"'|O'", "objects", "astype"},        {"'|S5'", "strings", "numbers"},
        {"'<U5'", "strings", "numbers"},      {"'|V8'", "void", "numeric"},
        {"'<M8[ns]'", "dates", "view('i8')"}, {"'<m8'", "time", "view('i8')"},
        {"'<f16'", "<f16", "f8"},             {"'<i3'", "<i3", "convert"},
        {"'<'", "'<'", "convert"},            {"''", "''", "convert"},
        {"[('a', '<f4')]", "structured", "each field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dict[256];
        struct tessi_npy_header header;
        struct tessi_error error = {TESSI_OK, ""};
        (void)snprintf(dict, sizeof dict, "{'descr': %s, 'fortran_order': False, 'shape': (2, 3), }", cases[i][0]);
        assert_int_equal(parse_dict(dict, &header, &error), TESSI_UNSUPPORTED);
        assert_non_null(strstr(error.text, cases[i][1]));
        assert_non_null(strstr(error.text, cases[i][2]));
    }
    struct tessi_npy_header header;
    const char *nine = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}";
    assert_int_equal(parse_dict(nine, &header, NULL), TESSI_UNSUPPORTED);
}

static void test_refuses_prefixes(void **state)
{
    (void)state;
    uint64_t needed;
    struct tessi_error error = {TESSI_OK, ""};
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPX\x01\x00v\x00\x00\x00", 12, &needed, &error),
                     TESSI_FORMAT);
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPY\x04\x00v\x00\x00\x00", 12, &needed, &error),
                     TESSI_VERSION);
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPY\x00\x00v\x00\x00\x00", 12, &needed, &error),
                     TESSI_VERSION);
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPY\x01\x01v\x00\x00\x00", 12, &needed, &error),
                     TESSI_VERSION);
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPY\x02\x00\x00\x00\x10\x00", 12, &needed, &error),
                     TESSI_OK);
    assert_int_equal(needed, (1 << 20) + 12);
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPY\x02\x00\x01\x00\x10\x00", 12, &needed, &error),
                     TESSI_FORMAT);
    assert_int_equal(tessi_npy_header_bytes((const uint8_t *)"\x93NUMPY\x03\x00\xff\xff\xff\xff", 12, &needed, &error),
                     TESSI_FORMAT);
    assert_non_null(strstr(error.text, "4294967295"));
}

/* Whatever one changed byte makes of a header, the parser stays within it and answers with a status. */
static void test_survives_changed_bytes(void **state)
{
    (void)state;
    unsigned accepted = 0;
    for (size_t i = 0; i < FIXTURES; i++) {
        for (size_t at = 0; at < 128; at++) {
            for (unsigned value = 0; value < 256; value++) {
                uint8_t bytes[128];
                struct tessi_npy_header header = {.shape.ndim = 99};
                memcpy(bytes, fixtures[i].bytes, sizeof bytes);
                bytes[at] = (uint8_t)value;
                enum tessi_status status = parse_exact(bytes, sizeof bytes, 1 << 20, &header, NULL);
                accepted += status == TESSI_OK;
                assert_true(status == TESSI_OK ? header.shape.ndim <= TESSI_NDIM_MAX && header.data_offset <= 128
                                               : header.shape.ndim == 99);
            }
        }
    }
    assert_true(accepted > 128 * FIXTURES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_numpy_wrote),    cmocka_unit_test(test_writes_what_numpy_writes),
        cmocka_unit_test(test_round_trip),                cmocka_unit_test(test_accepts_other_writers),
        cmocka_unit_test(test_reads_every_name_of_a_type),
        cmocka_unit_test(test_refuses_damaged_dicts),     cmocka_unit_test(test_names_what_is_unsupported),
        cmocka_unit_test(test_refuses_prefixes),          cmocka_unit_test(test_survives_changed_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
