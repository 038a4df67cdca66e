/* Where a task runs whose bits are the same at a device and on a processor: wherever it would end first.
 *
 * A device is mostly so much faster that a task on a processor would be the last to end. So it goes to a slot only if
 * it surely ends there before it would at the device, behind all that waits there already; and the device is given no more
 * ahead than keeps it at work, since what it has been given stays with it. */
#ifndef TESSI_FLOW_MIXED_H
#define TESSI_FLOW_MIXED_H

#include <stdbool.h>

struct tessi_flow_mixed { /* estimates, in nanoseconds */
    double device_queue_ns; /* until the device has done all that it has been given */
    double copy_in_ns;      /* what the task reads and the device has not, behind what is on its way already */
    double device_ns;       /* the task there, launch included */
    double slot_queue_ns;   /* of the slot with the least to do */
    double copy_home_ns;    /* what the task reads and the host has not, behind what is on its way already */
    double slot_ns;         /* the task there */
    double copy_back_ns;    /* its output, for readers that are known */
    bool slot_open;         /* the slot takes another step */
    bool slots_busy;        /* tasks that can run nowhere else wait for slots */
};

enum tessi_flow_place {
    TESSI_FLOW_AT_DEVICE,
    TESSI_FLOW_AT_SLOT,
    TESSI_FLOW_LATER /* that is still open: to be asked again when a step ends */
};

enum tessi_flow_place tessi_flow_choose_place(const struct tessi_flow_mixed *task);

#endif
