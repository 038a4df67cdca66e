#include "core/graph/span.h"

#include "core/base/alloc.h"

void tessi_spans_fini(struct tessi_spans *spans)
{
    tessi_free(spans->items);
    *spans = (struct tessi_spans){0};
}

static bool continues(const struct tessi_span *last, const struct tessi_span *next)
{
    if (last->session != next->session || last->layer != next->layer || last->first + last->count != next->first ||
        last->epoch != next->epoch || last->worker != next->worker || last->deaths != next->deaths || last->device != next->device) {
        return false;
    }
    uint64_t step = last->count == 1 ? next->order - last->order : last->order_step;
    return next->order >= last->order && next->order == last->order + last->count * step &&
           (next->count == 1 || next->order_step == step);
}

void tessi_spans_push(struct tessi_spans *spans, struct tessi_span span)
{
    if (spans->count > 0) {
        struct tessi_span *last = &spans->items[spans->count - 1];
        if (continues(last, &span)) {
            if (last->count == 1) {
                last->order_step = span.order - last->order;
            }
            last->count += span.count;
            last->time_ns += span.time_ns;
            return;
        }
    }
    tessi_grow(&spans->items, &spans->capacity, spans->count + 1, sizeof *spans->items);
    spans->items[spans->count++] = span;
}
