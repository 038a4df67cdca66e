#include "core/graph/trace.h"

#include <stddef.h>
#include <string.h>

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

struct tessi_trace_record tessi_trace_name_put(uint32_t session, uint32_t layer, const char *name, size_t from)
{
    struct tessi_trace_record record = {.kind = TESSI_TRACE_NAME, .session = session, .layer = layer, .amount = from};
    char text[TESSI_TRACE_NAME_BYTES] = {0};
    memcpy(text, name + from, strnlen(name + from, sizeof text));
    memcpy(&record.index, text, sizeof record.index);
    memcpy(&record.took_ns, text + sizeof record.index, sizeof record.took_ns);
    return record;
}

void tessi_trace_name_get(const struct tessi_trace_record *record, char text[TESSI_TRACE_NAME_BYTES + 1])
{
    memcpy(text, &record->index, sizeof record->index);
    memcpy(text + sizeof record->index, &record->took_ns, sizeof record->took_ns);
    text[TESSI_TRACE_NAME_BYTES] = 0;
}

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
