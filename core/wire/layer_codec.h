/* Layers to bytes and back. */
#ifndef TESSI_WIRE_LAYER_CODEC_H
#define TESSI_WIRE_LAYER_CODEC_H

#include "core/graph/layer.h"
#include "core/wire/buffer.h"
#include "core/wire/scan.h"

#define TESSI_PATH_MAX 4095 /* bytes of a file's name on the wire */

void tessi_layer_pack(struct tessi_buffer *buffer, const struct tessi_layer *layer);

/* Read one layer that has passed tessi_layer_check. On failure `*layer` is NULL and the status is the
 * check's, or FORMAT or NOMEM. */
TESSI_MUST_USE enum tessi_status tessi_layer_unpack(struct tessi_scan *scan, struct tessi_layer **layer,
                                                    struct tessi_error *error);

#endif
