#include "core/base/map.h"

#include "core/base/alloc.h"
#include "core/base/assert.h"

/* The finaliser of MurmurHash3 over both halves; public domain, Austin Appleby. */
uint64_t tessi_map_hash(struct tessi_map_key key)
{
    uint64_t h = key.low ^ (key.high * UINT64_C(0x9e3779b97f4a7c15));
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    h ^= h >> 33;
    return h;
}

static size_t home(const struct tessi_map *map, struct tessi_map_key key)
{
    return (size_t)tessi_map_hash(key) & (map->capacity - 1);
}

static void allocate(struct tessi_map *map, size_t capacity)
{
    map->capacity = capacity;
    map->entries = tessi_alloc(capacity * sizeof *map->entries);
    for (size_t i = 0; i < capacity; i++) {
        map->entries[i].value = TESSI_MAP_NONE;
    }
}

static size_t find(const struct tessi_map *map, struct tessi_map_key key)
{
    size_t i = home(map, key);
    while (map->entries[i].value != TESSI_MAP_NONE && !tessi_map_keys_equal(map->entries[i].key, key)) {
        i = (i + 1) & (map->capacity - 1);
    }
    return i;
}

static void rehash(struct tessi_map *map, size_t capacity)
{
    struct tessi_map_entry *old = map->entries;
    size_t old_capacity = map->capacity;
    allocate(map, capacity);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].value != TESSI_MAP_NONE) {
            map->entries[find(map, old[i].key)] = old[i];
        }
    }
    tessi_free(old);
}

void tessi_map_init(struct tessi_map *map)
{
    *map = (struct tessi_map){0};
}

void tessi_map_fini(struct tessi_map *map)
{
    tessi_free(map->entries);
    *map = (struct tessi_map){0};
}

uint32_t tessi_map_get(const struct tessi_map *map, struct tessi_map_key key)
{
    return map->count == 0 ? TESSI_MAP_NONE : map->entries[find(map, key)].value;
}

void tessi_map_prefetch(const struct tessi_map *map, struct tessi_map_key key)
{
    if (map->count > 0) {
        __builtin_prefetch(&map->entries[home(map, key)]);
    }
}

void tessi_map_put(struct tessi_map *map, struct tessi_map_key key, uint32_t value)
{
    TESS_ASSERT(value != TESSI_MAP_NONE);
    if ((map->count + 1) * 4 > map->capacity * 3) {
        rehash(map, map->capacity > 0 ? map->capacity * 2 : 16);
    }
    size_t i = find(map, key);
    if (map->entries[i].value == TESSI_MAP_NONE) {
        map->count++;
        map->entries[i].key = key;
    }
    map->entries[i].value = value;
}

bool tessi_map_remove(struct tessi_map *map, struct tessi_map_key key)
{
    if (map->count == 0) {
        return false;
    }
    size_t hole = find(map, key);
    if (map->entries[hole].value == TESSI_MAP_NONE) {
        return false;
    }
    size_t mask = map->capacity - 1;
    for (size_t i = (hole + 1) & mask; map->entries[i].value != TESSI_MAP_NONE; i = (i + 1) & mask) {
        size_t wanted = home(map, map->entries[i].key);
        /* An entry may move into the hole unless its home lies cyclically in (hole, i]. */
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            map->entries[hole] = map->entries[i];
            hole = i;
        }
    }
    map->entries[hole].value = TESSI_MAP_NONE;
    map->count--;
    return true;
}

void tessi_map_clear(struct tessi_map *map)
{
    for (size_t i = 0; i < map->capacity; i++) {
        map->entries[i].value = TESSI_MAP_NONE;
    }
    map->count = 0;
}

const struct tessi_map_entry *tessi_map_next(const struct tessi_map *map, size_t *position)
{
    while (*position < map->capacity) {
        const struct tessi_map_entry *entry = &map->entries[(*position)++];
        if (entry->value != TESSI_MAP_NONE) {
            return entry;
        }
    }
    return NULL;
}
