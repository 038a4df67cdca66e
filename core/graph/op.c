#include "core/graph/op.h"

#include <stddef.h>

#include "core/base/assert.h"

static const struct tessi_op_row op_rows[] = {
#define TESSI_ROW(NAME, name, code, min, max, consume, steps, flops, limit, again, file, devices, place)               \
    [code] = {#name, min, max, TESSI_CONSUME_##consume, TESSI_LIMIT_##limit, TESSI_AGAIN_##again,                      \
              TESSI_FILE_##file, TESSI_DEVICES_##devices, TESSI_PLACE_##place},
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

_Static_assert(sizeof op_rows / sizeof op_rows[0] == TESSI_OP_COUNT, "one row for each operation");

bool tessi_op_valid(uint32_t code)
{
    return code < TESSI_OP_COUNT && op_rows[code].name != NULL;
}

const struct tessi_op_row *tessi_op_row(enum tessi_op op)
{
    TESS_ASSERT(tessi_op_valid((uint32_t)op));
    return &op_rows[op];
}
