/* The version of Tessera, in this one place: the build reads it from here too. */
#ifndef TESSI_BASE_VERSION_H
#define TESSI_BASE_VERSION_H

#define TESSI_VERSION "0.1.0"

#endif
