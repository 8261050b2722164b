/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.2 §5.5): inflate, deflate, free-page reporting. Pages the
 * guest gives away are dropped from RAM: they read as zeroes, or as the snapshot the machine was
 * thawed from, until they are written again (why that is right: balloon.c). Bounded work per
 * notification. On the io thread.
 */
#ifndef VMM_VIRTIO_BALLOON_H
#define VMM_VIRTIO_BALLOON_H

#include "vmm/virtio/virtio.h"

struct balloon_stats {
    uint64_t target_pages, actual_pages; /* 4 KiB each */
    uint64_t reported_bytes;             /* given back by free-page reporting so far */
};

int balloon_new(struct virtio_place at, struct virtio_dev **ret, struct err *e) MUST_CHECK;
/* How many pages the guest shall give away, at most all. Any thread. */
void balloon_set_target(struct virtio_dev *d, uint64_t pages);
/* Any thread. */
void balloon_stats(struct virtio_dev *d, struct balloon_stats *ret);

#endif
