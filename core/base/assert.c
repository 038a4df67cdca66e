#include "core/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void tessi_assert_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "tessera: assertion failed: %s (%s:%d)\n", expression, file, line);
    abort();
}
