/* Slice and rechunk: copy the piece of one input block, perhaps cut out before, that lies in the output block. */
#include "worker/kernel/geometry.h"
#include "worker/kernel/operations.h"

#include <string.h>

/* Divided and rounded up, for a positive divisor. */
static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b > 0 ? 1 : 0);
}

bool tessi_regrid_piece(struct tessi_piece *piece, const struct tessi_kernel_step *step)
{
    const struct tessi_input *input = &step->layer->input[step->step.ref[0].input];
    struct tessi_shape in;
    int64_t in_lo[TESSI_NDIM_MAX];
    int64_t in_stride = 1;
    int64_t out_stride = 1;
    tessi_kernel_block(&input->grid, step->step.ref[0].index, &in, in_lo);
    *piece = (struct tessi_piece){.ndim = in.ndim};
    for (uint32_t d = in.ndim; d-- > 0;) {
        int64_t start = input->rules.rule[d].start;
        int64_t stride = input->rules.rule[d].step;
        int64_t first = divide_up(in_lo[d] - start, stride);
        int64_t end = divide_up(in_lo[d] + in.dim[d] - start, stride);
        int64_t out_end = step->lo[d] + step->shape.dim[d];
        first = first > step->lo[d] ? first : step->lo[d];
        end = end < out_end ? end : out_end;
        if (first >= end) {
            return false;
        }
        piece->count[d] = end - first;
        piece->from[d] = in_stride * stride;
        piece->to[d] = out_stride;
        piece->from_offset += (start + first * stride - in_lo[d]) * in_stride;
        piece->to_offset += (first - step->lo[d]) * out_stride;
        in_stride *= in.dim[d];
        out_stride *= step->shape.dim[d];
    }
    return true;
}

/* The size is a constant where this is inlined, so that each element is one move. */
static inline void copy_elements(unsigned char *to, size_t to_step, const unsigned char *from, size_t from_step,
                                 size_t size, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        memcpy(to, from, size);
        to += to_step;
        from += from_step;
    }
}

static void copy_strided(unsigned char *to, int64_t to_stride, const unsigned char *from, int64_t from_stride,
                         size_t size, int64_t count)
{
    size_t to_step = (size_t)to_stride * size;
    size_t from_step = (size_t)from_stride * size;
    if (to_stride == 1 && from_stride == 1) {
        memcpy(to, from, (size_t)count * size);
    } else if (size == 8) {
        copy_elements(to, to_step, from, from_step, 8, count);
    } else if (size == 4) {
        copy_elements(to, to_step, from, from_step, 4, count);
    } else {
        copy_elements(to, to_step, from, from_step, size, count);
    }
}

enum tessi_status tessi_kernel_regrid(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    size_t size = tessi_dtype_size(step->layer->dtype);
    struct tessi_piece piece;
    (void)error;
    if (step->step.count == 0 || step->elements == 0 || !tessi_regrid_piece(&piece, step)) {
        return TESSI_OK;
    }
    unsigned char *to = (unsigned char *)step->call->out + (size_t)piece.to_offset * size;
    const unsigned char *from = (const unsigned char *)step->call->in[0] + (size_t)piece.from_offset * size;
    /* Inner dimensions that are dense on both sides are one run. */
    int64_t run = 1;
    uint32_t outer = piece.ndim;
    while (outer > 0 && piece.from[outer - 1] == run && piece.to[outer - 1] == run) {
        run *= piece.count[--outer];
    }
    int64_t from_stride = 1;
    int64_t to_stride = 1;
    if (run == 1 && outer > 0) {
        outer--;
        run = piece.count[outer];
        from_stride = piece.from[outer];
        to_stride = piece.to[outer];
    }
    int64_t coords[TESSI_NDIM_MAX] = {0};
    for (bool more = true; more;) {
        int64_t from_at = 0;
        int64_t to_at = 0;
        for (uint32_t d = 0; d < outer; d++) {
            from_at += coords[d] * piece.from[d];
            to_at += coords[d] * piece.to[d];
        }
        copy_strided(to + (size_t)to_at * size, to_stride, from + (size_t)from_at * size, from_stride, size, run);
        more = false;
        for (uint32_t d = outer; d-- > 0 && !more;) {
            more = ++coords[d] < piece.count[d];
            coords[d] = more ? coords[d] : 0;
        }
    }
    return TESSI_OK;
}
