/* Explicit tables on the wire: [numbers, tasks, blocks].
 *
 * `numbers` is a binary of one number after the other, each in groups of seven bits, the lowest first, all but
 * its last byte with the top bit set. For each task: how many blocks it reads; the first of them, as the difference
 * from the first one of the row before that has any (0 before), zigzag; each further one as the difference from its
 * predecessor. An irregular graph of local reads takes two to five bytes a task. */
#ifndef TESSI_WIRE_TABLE_CODEC_H
#define TESSI_WIRE_TABLE_CODEC_H

#include "core/graph/map.h"
#include "core/wire/buffer.h"
#include "core/wire/scan.h"

void tessi_table_pack(struct tessi_buffer *buffer, const struct tessi_table *table);

/* Reads what follows the array's header into a zeroed table. Memory is bounded by the message: four bytes for each of
 * its bytes at most, and four for each task, which takes a byte at least. The contents are for tessi_rules_check. */
bool tessi_table_unpack(struct tessi_scan *scan, struct tessi_table *table);

#endif
