#include "core/graph/trace.h"

#include <stddef.h>

static const struct kind_row {
    const char *name, *amount;
} kinds[TESSI_TRACE_KIND_END] = {
#define TESSI_ROW(NAME, name, code, amount) [code] = {#name, amount},
    TESSI_TRACE_KINDS(TESSI_ROW)
#undef TESSI_ROW
};

static const char *const whys[TESSI_TRACE_WHY_END] = {
#define TESSI_ROW(NAME, code, text) [code] = text,
    TESSI_TRACE_WHYS(TESSI_ROW)
#undef TESSI_ROW
};

bool tessi_trace_kind_valid(uint32_t code)
{
    return code < TESSI_TRACE_KIND_END && kinds[code].name != NULL;
}

const char *tessi_trace_kind_name(enum tessi_trace_kind kind)
{
    return tessi_trace_kind_valid((uint32_t)kind) ? kinds[kind].name : "unknown";
}

const char *tessi_trace_amount_name(enum tessi_trace_kind kind)
{
    return tessi_trace_kind_valid((uint32_t)kind) ? kinds[kind].amount : "amount";
}

const char *tessi_trace_why_text(uint32_t code)
{
    return code < TESSI_TRACE_WHY_END ? whys[code] : "";
}
