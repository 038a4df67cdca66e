#include "core/server/devices.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/map.h"

struct told {                                        /* by one worker */
    uint32_t worker;                                 /* 0: a free record */
    struct tessi_message message[TESSI_DEVICES_MAX]; /* as unpacked; their run id is 0 where nothing has been told */
};

struct tessi_device_table {
    const struct tessi_driver *driver;
    struct tessi_map told_by; /* worker → index */
    struct told **all;
    size_t count, capacity;
};

struct tessi_device_table *tessi_devices_create(const struct tessi_driver *driver)
{
    struct tessi_device_table *devices = tessi_zalloc(sizeof *devices);
    devices->driver = driver;
    tessi_map_init(&devices->told_by);
    return devices;
}

static void forget(struct told *told)
{
    for (uint32_t i = 0; i < TESSI_DEVICES_MAX; i++) {
        if (told->message[i].run_id != 0) {
            tessi_message_fini(&told->message[i]);
        }
    }
    memset(told, 0, sizeof *told);
}

void tessi_devices_destroy(struct tessi_device_table *devices)
{
    if (devices == NULL) {
        return;
    }
    for (size_t i = 0; i < devices->count; i++) {
        forget(devices->all[i]);
        tessi_free(devices->all[i]);
    }
    tessi_free(devices->all);
    tessi_map_fini(&devices->told_by);
    tessi_free(devices);
}

static struct tessi_map_key key(uint32_t worker)
{
    return (struct tessi_map_key){0, worker};
}

static struct told *find(const struct tessi_device_table *devices, uint32_t worker)
{
    uint32_t index = tessi_map_get(&devices->told_by, key(worker));
    return index == TESSI_MAP_NONE ? NULL : devices->all[index];
}

static struct told *make(struct tessi_device_table *devices, uint32_t worker)
{
    struct told *told = find(devices, worker);
    size_t i = 0;
    if (told != NULL) {
        return told;
    }
    while (i < devices->count && devices->all[i]->worker != 0) {
        i++;
    }
    if (i == devices->count) {
        tessi_grow(&devices->all, &devices->capacity, devices->count + 1, sizeof *devices->all);
        devices->all[devices->count++] = tessi_zalloc(sizeof *told);
    }
    devices->all[i]->worker = worker;
    tessi_map_put(&devices->told_by, key(worker), (uint32_t)i);
    return devices->all[i];
}

bool tessi_devices_take(struct tessi_device_table *devices, uint32_t peer, const void *bytes, size_t size)
{
    enum tessi_msg_type type;
    uint64_t run_id;
    struct tessi_message message;
    if (!tessi_message_peek(bytes, size, &type, &run_id) || type != TESSI_MSG_DEVICE ||
        run_id != tessi_driver_run_id(devices->driver) ||
        tessi_driver_role(devices->driver, peer) != TESSI_ROLE_WORKER ||
        tessi_message_unpack(bytes, size, &message, NULL) != TESSI_OK) {
        return false; /* the driver counts what is malformed, stale or misplaced */
    }
    uint32_t number = message.as.device.number;
    if (number >= TESSI_DEVICES_MAX) {
        tessi_message_fini(&message);
        return true;
    }
    struct told *told = make(devices, peer);
    if (told->message[number].run_id != 0) {
        tessi_message_fini(&told->message[number]);
    }
    told->message[number] = message;
    return true;
}

void tessi_devices_gone(struct tessi_device_table *devices, uint32_t peer)
{
    struct told *told = find(devices, peer);
    if (told != NULL) {
        forget(told);
        (void)tessi_map_remove(&devices->told_by, key(peer));
    }
}

const struct tessi_msg_device *tessi_devices_of(const struct tessi_device_table *devices, uint32_t worker,
                                                uint32_t number)
{
    const struct told *told = find(devices, worker);
    bool known = told != NULL && number < TESSI_DEVICES_MAX && told->message[number].run_id != 0;
    return known ? &told->message[number].as.device : NULL;
}
