/* What `tessera status` shows, as JSON. */
#ifndef TESSI_SERVER_STATUS_H
#define TESSI_SERVER_STATUS_H

#include <stdint.h>

#include "core/net/context.h"
#include "core/net/server.h"
#include "core/server/devices.h"
#include "core/server/driver.h"
#include "core/server/query_router.h"

struct tessi_status_facts {
    const char *endpoint;
    int64_t started_ns;
    int64_t now_ns;
    bool encrypted;
    struct tessi_net_counters net;
    struct tessi_server_gauges server;
    uint64_t waiting_bytes; /* for peers whose queues are full */
    uint64_t sends_failed;  /* messages that found their peer gone */
};

/* One JSON object as text, freed by the caller with tessi_free. */
char *tessi_status_json(const struct tessi_driver *driver, const struct tessi_router *router,
                        const struct tessi_device_table *devices, const struct tessi_status_facts *facts);

#endif
