/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk (virtio 1.2 §5.2): read, write, flush, discard, write-zeroes, get-id. Requests are
 * worked off in order on the disk thread. When the host's disk is full the request waits and is
 * tried again every second; the daemon is told. */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include "disk/disk.h"
#include "vmm/rate.h"
#include "vmm/virtio/virtio.h"

struct blk_config {
    struct disk *disk;            /* owned by the device once made */
    char serial[21];              /* for GET_ID */
    struct rate_limit bytes, ops; /* zero = unlimited */
    /* full = true when a request begins to wait for space, false when it went through. Disk thread.
     */
    void (*on_full)(void *arg, bool full);
    void *on_full_arg;
};

/* at.loop: the disk thread's. */
int blk_new(struct virtio_place at, const struct blk_config *c, struct virtio_dev **ret,
            struct err *e) MUST_CHECK;
uint64_t blk_bytes_written(struct virtio_dev *d); /* any thread */
/* Whether a request waits for space on the host. Loop parked. */
bool blk_is_stuck(struct virtio_dev *d);

#endif
