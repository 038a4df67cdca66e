#include "core/graph/refine.h"

#include "core/base/assert.h"

static bool both_regular(const struct tessi_axis *a, const struct tessi_axis *b)
{
    return a->bounds == NULL && b->bounds == NULL;
}

static int64_t common_divisor(int64_t x, int64_t y)
{
    while (y != 0) {
        int64_t rest = x % y;
        x = y;
        y = rest;
    }
    return x;
}

/* Two periods of cuts and that of the cuts which they share; below 2^62 since a chunk is below 2^31. */
struct periods {
    int64_t a, b, both;
};

static struct periods periods_of(const struct tessi_axis *a, const struct tessi_axis *b)
{
    return (struct periods){a->chunk, b->chunk, a->chunk / common_divisor(a->chunk, b->chunk) * b->chunk};
}

/* Distinct cuts p with 0 < p ≤ x. */
static int64_t cuts_up_to(struct periods periods, int64_t x)
{
    return x / periods.a + x / periods.b - x / periods.both;
}

/* The r-th cut, r ≥ 1, known to be at most `limit`. */
static int64_t cut_at(struct periods periods, int64_t r, int64_t limit)
{
    int64_t fine = periods.a < periods.b ? periods.a : periods.b;
    if (periods.both == periods.a || periods.both == periods.b) {
        return r * fine; /* One period divides the other. */
    }
    int64_t lo = 0;
    int64_t hi = limit;
    while (hi - lo > 1) {
        int64_t middle = lo + (hi - lo) / 2;
        if (cuts_up_to(periods, middle) >= r) {
            hi = middle;
        } else {
            lo = middle;
        }
    }
    return hi;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static struct tessi_piece first_piece(const struct tessi_axis *a, const struct tessi_axis *b, int64_t lo, int64_t hi)
{
    struct tessi_piece piece = {.lo = lo, .a = tessi_axis_find(a, lo), .b = tessi_axis_find(b, lo)};
    piece.hi = smaller(hi, smaller(tessi_axis_hi(a, piece.a), tessi_axis_hi(b, piece.b)));
    return piece;
}

static struct tessi_piece next_piece(const struct tessi_axis *a, const struct tessi_axis *b, int64_t hi,
                                     struct tessi_piece piece)
{
    uint64_t chunk_a = piece.hi == tessi_axis_hi(a, piece.a) ? piece.a + 1 : piece.a;
    uint64_t chunk_b = piece.hi == tessi_axis_hi(b, piece.b) ? piece.b + 1 : piece.b;
    int64_t end = smaller(hi, smaller(tessi_axis_hi(a, chunk_a), tessi_axis_hi(b, chunk_b)));
    return (struct tessi_piece){.lo = piece.hi, .hi = end, .a = chunk_a, .b = chunk_b};
}

uint64_t tessi_refine_count(const struct tessi_axis *a, const struct tessi_axis *b, int64_t lo, int64_t hi)
{
    if (lo == hi) {
        return 1;
    }
    if (both_regular(a, b)) {
        struct periods periods = periods_of(a, b);
        return (uint64_t)(cuts_up_to(periods, hi - 1) - cuts_up_to(periods, lo)) + 1;
    }
    uint64_t count = 1;
    for (struct tessi_piece piece = first_piece(a, b, lo, hi); piece.hi < hi; count++) {
        piece = next_piece(a, b, hi, piece);
    }
    return count;
}

struct tessi_piece tessi_refine_piece(const struct tessi_axis *a, const struct tessi_axis *b, int64_t lo, int64_t hi,
                                      uint64_t n)
{
    if (lo < hi && n > 0 && both_regular(a, b)) {
        struct periods periods = periods_of(a, b);
        int64_t start = cut_at(periods, cuts_up_to(periods, lo) + (int64_t)n, hi);
        TESS_ASSERT(start > lo && start < hi);
        return first_piece(a, b, start, hi);
    }
    struct tessi_piece piece = first_piece(a, b, lo, hi);
    for (uint64_t i = 0; i < n; i++) {
        TESS_ASSERT(piece.hi < hi);
        piece = next_piece(a, b, hi, piece);
    }
    return piece;
}
