/* Permute the axes of one block, in square tiles so that both sides stay in cache. */
#include "worker/kernel/simd.h"

#include "worker/kernel/geometry.h"
#include "worker/kernel/operations.h"

#include <string.h>

#include "core/base/assert.h"
#include "worker/kernel/complex.h"

void tessi_transpose_view(struct tessi_view *view, const struct tessi_kernel_step *step, const struct tessi_shape *in)
{
    int64_t stride[TESSI_NDIM_MAX];
    int64_t s = 1;
    for (uint32_t d = in->ndim; d-- > 0;) {
        stride[d] = s;
        s *= in->dim[d];
    }
    view->ndim = 0;
    for (uint32_t d = 0; d < in->ndim; d++) {
        uint32_t axis = step->layer->as.transpose.axis[d];
        int64_t extent = step->shape.dim[d];
        TESS_ASSERT(in->dim[axis] == extent);
        if (extent == 1) {
            continue;
        }
        if (view->ndim > 0 && view->from[view->ndim - 1] == extent * stride[axis]) {
            view->dim[view->ndim - 1] *= extent;
            view->from[view->ndim - 1] = stride[axis];
            continue;
        }
        view->dim[view->ndim] = extent;
        view->from[view->ndim++] = stride[axis];
    }
    s = 1;
    for (uint32_t d = view->ndim; d-- > 0;) {
        view->to[d] = s;
        s *= view->dim[d];
    }
}

/* to[i·to_stride + j] = from[i + j·from_stride]; a tile's rows and columns are whole cache lines. */
#define TILES(name, T)                                                                                         \
    static void name(T *restrict to, int64_t to_stride, const T *restrict from, int64_t from_stride,           \
                     int64_t rows, int64_t columns)                                                            \
    {                                                                                                          \
        enum { TILE = 128 / sizeof(T) > 8 ? (128 / sizeof(T) < 32 ? 128 / sizeof(T) : 32) : 8 };               \
        T tile[TILE][TILE];                                                                                    \
        for (int64_t i = 0; i < rows; i += TILE) {                                                             \
            int64_t m = rows - i < TILE ? rows - i : TILE;                                                     \
            for (int64_t j = 0; j < columns; j += TILE) {                                                      \
                int64_t n = columns - j < TILE ? columns - j : TILE;                                           \
                for (int64_t q = 0; q < n; q++) {                                                              \
                    for (int64_t p = 0; p < m; p++) {                                                          \
                        tile[p][q] = from[i + p + (j + q) * from_stride];                                      \
                    }                                                                                          \
                }                                                                                              \
                for (int64_t p = 0; p < m; p++) {                                                              \
                    memcpy(&to[(i + p) * to_stride + j], tile[p], (size_t)n * sizeof(T));                      \
                }                                                                                              \
            }                                                                                                  \
        }                                                                                                      \
    }

TILES(tiles_8, uint8_t)
TILES(tiles_16, uint16_t)
TILES(tiles_32, uint32_t)
TILES(tiles_64, uint64_t)
TILES(tiles_128, struct tessi_c128)

static void plane(size_t size, void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t rows,
                  int64_t columns)
{
    if (size == 1) {
        tiles_8(to, to_stride, from, from_stride, rows, columns);
    } else if (size == 2) {
        tiles_16(to, to_stride, from, from_stride, rows, columns);
    } else if (size == 4) {
        tiles_32(to, to_stride, from, from_stride, rows, columns);
    } else if (size == 8) {
        tiles_64(to, to_stride, from, from_stride, rows, columns);
    } else {
        TESS_ASSERT(size == 16);
        tiles_128(to, to_stride, from, from_stride, rows, columns);
    }
}

enum tessi_status tessi_kernel_transpose(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_input *input = &step->layer->input[0];
    size_t size = tessi_dtype_size(step->layer->dtype);
    struct tessi_shape in;
    struct tessi_view view;
    (void)error;
    TESS_ASSERT(step->step.count == 1);
    tessi_grid_block_shape(&input->grid, step->step.ref[0].index, &in);
    tessi_transpose_view(&view, step, &in);
    if (step->elements == 0) {
        return TESSI_OK;
    }
    if (view.ndim <= 1) {
        memcpy(step->call->out, step->call->in[0], (size_t)step->elements * size);
        return TESSI_OK;
    }
    uint32_t last = view.ndim - 1;
    uint32_t contiguous = last; /* the output dimension along which the input is dense */
    while (view.from[contiguous] != 1) {
        TESS_ASSERT(contiguous > 0);
        contiguous--;
    }
    int64_t coords[TESSI_NDIM_MAX] = {0};
    for (bool more = true; more;) {
        int64_t from = 0;
        int64_t to = 0;
        for (uint32_t d = 0; d < view.ndim; d++) {
            from += coords[d] * view.from[d];
            to += coords[d] * view.to[d];
        }
        unsigned char *target = (unsigned char *)step->call->out + (size_t)to * size;
        const unsigned char *source = (const unsigned char *)step->call->in[0] + (size_t)from * size;
        if (contiguous == last) {
            memcpy(target, source, (size_t)view.dim[last] * size);
        } else {
            plane(size, target, view.to[contiguous], source, view.from[last], view.dim[contiguous], view.dim[last]);
        }
        more = false;
        for (uint32_t d = last; d-- > 0 && !more;) {
            if (d == contiguous) {
                continue;
            }
            more = ++coords[d] < view.dim[d];
            coords[d] = more ? coords[d] : 0;
        }
    }
    return TESSI_OK;
}
