/* The parameters of each kind of operation, to bytes and back, bounded: one array, whose length the kind decides. */
#ifndef TESSI_WIRE_PARAMETER_CODEC_H
#define TESSI_WIRE_PARAMETER_CODEC_H

#include "core/graph/layer.h"
#include "core/wire/buffer.h"
#include "core/wire/scan.h"

void tessi_parameters_pack(struct tessi_buffer *buffer, const struct tessi_layer *layer);
/* Into a layer whose operation and grid are there; what was taken before a failure is the layer's to free. */
bool tessi_parameters_unpack(struct tessi_scan *scan, struct tessi_layer *layer);
bool tessi_dtype_unpack(struct tessi_scan *scan, enum tessi_dtype *dtype); /* a known one */

#endif
