#include "core/wire/build.h"

/* Alone in its file: the macro of version.h has the name of a status. */
#include "core/base/version.h"

const char *tessi_build_name(void)
{
    return TESSI_VERSION;
}
