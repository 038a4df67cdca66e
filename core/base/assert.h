/* Assertions that stay on in release.
 *
 * They are for our own mistakes only: invariants and both sides of a boundary inside
 * the program. Input from a user, a file or a peer never asserts: it gets a status. */
#ifndef TESSI_BASE_ASSERT_H
#define TESSI_BASE_ASSERT_H

_Noreturn void tessi_assert_failed(const char *expression, const char *file, int line);

#define TESS_ASSERT(expression) \
    ((expression) ? (void)0 : tessi_assert_failed(#expression, __FILE__, __LINE__))

#endif
