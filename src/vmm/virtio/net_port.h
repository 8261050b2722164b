/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a network device: whole frames out of and into a non-blocking descriptor.
 * Knows neither queues nor limits. One frame at a time comes in: it stays until done() says that
 * it was passed on, so that a guest without buffers stops the reading.
 *
 * Single thread (net.c: the io thread, with the device's lock).
 */
#ifndef VMM_VIRTIO_NET_PORT_H
#define VMM_VIRTIO_NET_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/le.h"
#include "vmm/virtio/queue.h"

struct net_hdr { /* struct virtio_net_hdr_v1, virtio 1.2 §5.1.6 */
    uint8_t flags, gso_type;
    struct le16 hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
#define NET_HDR_BYTES 12u
_Static_assert(sizeof(struct net_hdr) == NET_HDR_BYTES, "header of virtio 1.2 §5.1.6");

#define NET_ETH_BYTES 14u             /* an Ethernet header: no frame is shorter */
#define NET_STREAM_LONGEST 1514u      /* as tinderbox-net: MTU 1500, no segmentation offload */
#define NET_TAP_LONGEST 65550u        /* 64 KiB of IP before segmentation, and the header */
#define NET_PORT_BUFFER (68u * 1024u) /* the longest frame with what precedes it */

struct net_frame_in {
    struct net_hdr hdr;
    const uint8_t *p; /* borrowed until done() */
    uint32_t n;
};

enum net_sent {
    NET_SENT,
    NET_REFUSED, /* this frame is lost, the next may pass */
    NET_FULL,    /* nothing was taken: again when the descriptor is writable */
    NET_GONE     /* the other end is no more, or broke the framing */
};

struct net_port;

struct net_port_ops {
    /* 1: *ret is the frame at hand, read anew if there was none. 0: none now. -errno: gone. */
    int (*next)(struct net_port *p, struct net_frame_in *ret);
    void (*done)(struct net_port *p);
    /* The out part of c is header and frame. h: the header, checked. The length has been checked:
     * NET_ETH_BYTES to p->longest behind the header. */
    enum net_sent (*send)(struct net_port *p, const struct net_hdr *h, const struct virtq_chain *c);
    /* What send() kept back. 1 all gone, 0 wait until writable, -errno: gone. May be NULL. */
    int (*flush)(struct net_port *p);
    /* The guest can take frames as these features (bits) say. May be NULL. */
    void (*offload)(struct net_port *p, uint64_t features);
};

struct net_port {
    const struct net_port_ops *ops;
    int fd;            /* owned by whoever owns the port; -1 = closed */
    uint64_t features; /* offloads the other end takes, as feature bits (virtio 1.2 §5.1.3) */
    uint32_t longest;  /* frame, Ethernet header included */
    bool has_header;   /* TAP: a struct net_hdr precedes each frame */
    bool dry;          /* stream: the last read took all there was */
    uint32_t in_head, in_tail, out_head, out_tail;
    uint8_t in[NET_PORT_BUFFER], out[NET_PORT_BUFFER];
};

/* fd becomes p->fd. */
void net_port_stream(struct net_port *p, int fd);
/* fd must have been made with IFF_NO_PI. Takes what the kernel offers: without IFF_VNET_HDR no
 * offloads. -EINVAL: no TAP device. */
int net_port_tap(struct net_port *p, int fd, struct err *e) MUST_CHECK;

#endif
