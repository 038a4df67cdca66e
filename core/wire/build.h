/* The name of this build, as hellos and `--version` tell it. */
#ifndef TESSI_WIRE_BUILD_H
#define TESSI_WIRE_BUILD_H

const char *tessi_build_name(void); /* "0.1.0" */

#endif
