/* An input of a fuzzer is a program: every choice takes a byte or two of it, and those that follow its end are 0. So a
 * fuzzer that searches by coverage can change one choice and keep the others. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at, *end;
};

static inline bool input_ended(const struct input *input)
{
    return input->at == input->end;
}

static inline uint32_t input_byte(struct input *input)
{
    return input->at < input->end ? *input->at++ : 0;
}

/* 0 … count − 1; 0 when there are none. */
static inline uint32_t input_below(struct input *input, size_t count)
{
    uint32_t value = input_byte(input);
    value = count > 256 ? value << 8 | input_byte(input) : value;
    return count == 0 ? 0 : value % (uint32_t)count;
}

static inline bool input_chance(struct input *input, uint32_t of_256)
{
    return input_byte(input) < of_256;
}

/* Small, or one of those at which arithmetic goes wrong. */
static inline uint64_t input_number(struct input *input)
{
    static const uint64_t odd[] = {0,
                                   1,
                                   UINT32_MAX,
                                   (uint64_t)UINT32_MAX + 1,
                                   UINT64_C(1) << 40,
                                   UINT64_C(1) << 48,
                                   INT64_MAX,
                                   (uint64_t)INT64_MAX + 1,
                                   UINT64_MAX - 1,
                                   UINT64_MAX};
    uint32_t value = input_byte(input);
    return value < 200 ? value : odd[value % (sizeof odd / sizeof *odd)];
}

#endif
