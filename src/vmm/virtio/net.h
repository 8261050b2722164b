/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1) over a descriptor: a stream socket to tinderbox-net with four bytes
 * of big-endian length before each frame (QEMU's -netdev stream), or a TAP device. Two queues,
 * checksum and segmentation offloads where the other end takes them (TAP with a virtio-net header).
 * The stream has none: its other end verifies every checksum, so one left out would have to be
 * filled in here, at the price the guest was spared. On the io thread.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "vmm/rate.h"
#include "vmm/virtio/virtio.h"

enum net_backend { NET_BACKEND_STREAM, NET_BACKEND_TAP };

struct net_dev_config {
    enum net_backend backend;
    int fd; /* owned by the device once made, non-blocking; TAP: with IFF_NO_PI */
    uint8_t mac[6];
    struct rate_limit rx_bytes, tx_bytes, rx_packets, tx_packets;
};

int net_dev_new(struct virtio_place at, const struct net_dev_config *c, struct virtio_dev **ret,
                struct err *e) MUST_CHECK;
/* A closed gate passes nothing in either direction: packets wait in their queues. A new device's is
 * open, that of a restored machine closed, so that nothing leaves before the clone is itself. Any
 * thread; when it returns, the gate is what was asked for. */
void net_dev_gate(struct virtio_dev *d, bool open);
/* Frame bytes passed so far, rx and tx as the guest sees them. Any thread. */
void net_dev_counters(struct virtio_dev *d, uint64_t *rx_bytes, uint64_t *tx_bytes);
/* Frames dropped: malformed, too long, or sent without a link. Any thread. */
uint64_t net_dev_dropped(struct virtio_dev *d);

#endif
