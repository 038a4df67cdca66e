/* Work by the clock: the task of benches and tests. It takes its time, then writes a function
 * of its inputs and its index, so that a wrong or stale input shows in the result. */
#include "worker/kernel/operations.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "worker/kernel/busy.h"
#include "worker/kernel/convert.h"

static void take_time(uint64_t nanoseconds, bool spin)
{
    if (nanoseconds == 0) {
        return;
    }
    if (spin) {
        int64_t end = tessi_clock_now() + (int64_t)nanoseconds;
        while (tessi_clock_now() < end) {
        }
        return;
    }
    struct timespec left = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

/* The finaliser of MurmurHash3; public domain, Austin Appleby. */
static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

/* Bits that every non-negative integer of so many bits has exactly in the type. */
static unsigned exact_bits(enum tessi_dtype dtype)
{
    static const unsigned char bits[TESSI_DTYPE_COUNT] = {
        [TESSI_BOOL] = 1, [TESSI_I8] = 7,   [TESSI_I16] = 15, [TESSI_I32] = 31, [TESSI_I64] = 63,
        [TESSI_U8] = 8,   [TESSI_U16] = 16, [TESSI_U32] = 32, [TESSI_U64] = 63, [TESSI_F16] = 11,
        [TESSI_BF16] = 8, [TESSI_F32] = 24, [TESSI_F64] = 53, [TESSI_C64] = 24, [TESSI_C128] = 53,
    };
    return bits[dtype];
}

enum tessi_status tessi_kernel_synthetic(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    enum { PASS = 256 };
    int64_t values[PASS];
    unsigned char *out = step->call->out;
    size_t size = tessi_dtype_size(layer->dtype);
    (void)error;
    take_time(tessi_synthetic_nanoseconds(layer, step->call->index), layer->as.synthetic.spin);
    uint64_t digest = mix(step->call->index + 1);
    if (layer->as.synthetic.iterations > 0) {
        volatile double computed = tessi_busy_compute(layer->as.synthetic.iterations);
        (void)computed; /* not in the block: its bits would depend on the length of the work */
    }
    for (uint32_t r = 0; r < step->step.count; r++) {
        const struct tessi_block_ref *ref = &step->step.ref[r];
        size_t bytes = (size_t)tessi_input_block_bytes(&layer->input[ref->input], ref->index);
        digest = mix(digest ^ tessi_digest_bytes(step->call->in[r], bytes)) + r + 1;
    }
    for (int64_t e = 0; e < step->elements; e += PASS) {
        int64_t n = step->elements - e < PASS ? step->elements - e : PASS;
        for (int64_t i = 0; i < n; i++) {
            values[i] = (int64_t)(mix(digest + (uint64_t)(e + i)) >> (64 - exact_bits(layer->dtype)));
        }
        tessi_convert(layer->dtype, out + (size_t)e * size, TESSI_I64, values, (size_t)n);
    }
    return TESSI_OK;
}
