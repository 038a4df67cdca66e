/* A hash map from a 128-bit key to a 32-bit value (usually an index into a pool).
 *
 * Open addressing with linear probing and backward-shift deletion, no tombstones. The
 * hash is a fixed mixing function: iteration order depends on the sequence of operations
 * only, never on addresses or a seed, so the pure machines may use it. */
#ifndef TESSI_BASE_MAP_H
#define TESSI_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TESSI_MAP_NONE UINT32_MAX /* Never stored as a value. */

struct tessi_map_key {
    uint64_t high;
    uint64_t low;
};

static inline bool tessi_map_keys_equal(struct tessi_map_key a, struct tessi_map_key b)
{
    return a.high == b.high && a.low == b.low;
}

uint64_t tessi_map_hash(struct tessi_map_key key);

struct tessi_map_entry {
    struct tessi_map_key key;
    uint32_t value; /* TESSI_MAP_NONE marks a free entry */
};

struct tessi_map {
    struct tessi_map_entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
};

void tessi_map_init(struct tessi_map *map);
void tessi_map_fini(struct tessi_map *map);
uint32_t tessi_map_get(const struct tessi_map *map, struct tessi_map_key key); /* TESSI_MAP_NONE if absent */
void tessi_map_prefetch(const struct tessi_map *map, struct tessi_map_key key); /* it will be looked up soon */
void tessi_map_put(struct tessi_map *map, struct tessi_map_key key, uint32_t value); /* inserts or replaces */
bool tessi_map_remove(struct tessi_map *map, struct tessi_map_key key); /* false if it was absent */
void tessi_map_clear(struct tessi_map *map);

/* Next used entry at or after `position` (start with 0); NULL at the end. Advances
 * `position` beyond it. The map must not change during the walk. */
const struct tessi_map_entry *tessi_map_next(const struct tessi_map *map, size_t *position);

#endif
