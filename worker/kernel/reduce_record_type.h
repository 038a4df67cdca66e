/* The loops over records of one type of elements; reduce_record.c includes this once for each. */
#include "worker/kernel/monoid_record.h"

/* A row's loops: its bodies over arrays. */
#define TESSI_ROW(F, name, code, takes, result, ...)                                                                   \
    TESSI_IF_##takes(                                                                                                  \
        static void NAME(name##_lift)(const void *in, size_t n, int64_t at, void *out)                                 \
        {                                                                                                              \
            const T *x = in;                                                                                           \
            struct NAME(tessi_##name) *to = out;                                                                       \
            for (size_t i = 0; i < n; i++) {                                                                           \
                to[i] = NAME(tessi_##name##_lift)(x[i], at + (int64_t)i);                                              \
            }                                                                                                          \
        }                                                                                                              \
        static void NAME(name##_add)(void *acc, const void *in, size_t n, int64_t at)                                  \
        {                                                                                                              \
            const T *x = in;                                                                                           \
            struct NAME(tessi_##name) *to = acc;                                                                       \
            for (size_t i = 0; i < n; i++) {                                                                           \
                to[i] = NAME(tessi_##name##_join)(NAME(tessi_##name##_lift)(x[i], at + (int64_t)i), to[i]);            \
            }                                                                                                          \
        }                                                                                                              \
        static void NAME(name##_join)(void *acc, const void *in, size_t n)                                             \
        {                                                                                                              \
            const struct NAME(tessi_##name) *x = in;                                                                   \
            struct NAME(tessi_##name) *to = acc;                                                                       \
            for (size_t i = 0; i < n; i++) {                                                                           \
                to[i] = NAME(tessi_##name##_join)(x[i], to[i]);                                                        \
            }                                                                                                          \
        }                                                                                                              \
        static void NAME(name##_finish)(const void *in, size_t n, double parameter, void *out)                         \
        {                                                                                                              \
            const struct NAME(tessi_##name) *x = in;                                                                   \
            FINISHED_##result *to = out;                                                                               \
            for (size_t i = 0; i < n; i++) {                                                                           \
                to[i] = NAME(tessi_##name##_finish)(x[i], parameter);                                                  \
            }                                                                                                          \
        })
TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW

/* Indexed by the reduction; of one that does not take such elements, and of numbers, empty. */
static const struct tessi_record_loops NAME(loops)[TESSI_FOLD_COUNT] = {
#define TESSI_ROW(F, name, code, takes, ...)                                                                           \
    TESSI_IF_##takes([code] = {sizeof(struct NAME(tessi_##name)), NAME(name##_lift), NAME(name##_add),                 \
                               NAME(name##_join), NAME(name##_finish)}, )
    TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW
};

#define TESSI_ROW(F, name, code, takes, result, words, ...)                                                            \
    TESSI_IF_##takes(_Static_assert(sizeof(struct NAME(tessi_##name)) == 8 * (words), "the record has the row's words");)
TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW

#include "worker/kernel/monoid_end.h"
