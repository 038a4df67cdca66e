/* What the workers' devices do, for `tessera status`: the newest that each worker has told.
 *
 * The machine plans without it, so it is not recorded and is no event. */
#ifndef TESSI_SERVER_DEVICES_H
#define TESSI_SERVER_DEVICES_H

#include "core/server/driver.h"
#include "core/wire/message.h"

#define TESSI_DEVICES_MAX 16 /* of one worker; what is told of further ones is forgotten */

struct tessi_device_table;

/* The driver is borrowed and outlives it. */
struct tessi_device_table *tessi_devices_create(const struct tessi_driver *driver);
void tessi_devices_destroy(struct tessi_device_table *devices); /* NULL is allowed */

/* True: the message was a worker's DEVICE and has been dealt with. Else it is the driver's. */
bool tessi_devices_take(struct tessi_device_table *devices, uint32_t peer, const void *bytes, size_t size);
void tessi_devices_gone(struct tessi_device_table *devices, uint32_t peer);

/* What the worker has told of its device `number`; NULL: nothing. Until the next call of the two above. */
const struct tessi_msg_device *tessi_devices_of(const struct tessi_device_table *devices, uint32_t worker,
                                                uint32_t number);

#endif
