/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TAP device: one read or write is one frame, with the virtio-net header before it when the
 * device was made with IFF_VNET_HDR. Then the kernel takes frames without checksum and unsegmented
 * (CSUM, HOST_TSO*) and hands over as much as TUNSETOFFLOAD allowed (GUEST_*).
 *
 * A frame is written from the guest's own buffers: the kernel copies it once, all or nothing. Only
 * the header is ours, because it has been checked and must not change any more.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/virtio/net_port.h"

#define BIT(feature) (UINT64_C(1) << (feature))
#define TO_HOST (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6))
#define TO_GUEST \
    (BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))

static uint32_t header_bytes(const struct net_port *p)
{
    return p->has_header ? NET_HDR_BYTES : 0;
}

static int tap_read(struct net_port *p)
{
    ssize_t r = TEMP_FAILURE_RETRY(read(p->fd, p->in, sizeof p->in));
    if (r < 0)
        return errno == EAGAIN ? 0 : -errno;
    p->in_tail = (uint32_t)r;
    return 1;
}

static int tap_next(struct net_port *p, struct net_frame_in *ret)
{
    uint32_t h = header_bytes(p);
    if (p->in_tail == 0) {
        int r = tap_read(p);
        if (r <= 0)
            return r;
        if (p->in_tail < h + NET_ETH_BYTES)
            return -EPROTO;
    }
    *ret = (struct net_frame_in){.p = p->in + h, .n = p->in_tail - h};
    memcpy(&ret->hdr, p->in, h);
    return 1;
}

static void tap_done(struct net_port *p)
{
    p->in_tail = 0;
}

/* The out part of c from the end of its header on; returns how many. */
static int frame_iovecs(const struct virtq_chain *c, struct iovec *ret)
{
    size_t skip = NET_HDR_BYTES;
    int n = 0;
    for (unsigned i = 0; i < c->n_out; i++) {
        struct iovec v = c->iov[i];
        size_t gone = v.iov_len < skip ? v.iov_len : skip;
        skip -= gone;
        v.iov_base = (uint8_t *)v.iov_base + gone;
        v.iov_len -= gone;
        if (v.iov_len)
            ret[n++] = v;
    }
    return n;
}

static enum net_sent tap_send(struct net_port *p, const struct net_hdr *h,
                              const struct virtq_chain *c)
{
    struct net_hdr header = *h;
    struct iovec v[1 + VIRTQ_CHAIN_MAX] = {{&header, header_bytes(p)}};
    int n = 1 + frame_iovecs(c, v + 1);
    if (TEMP_FAILURE_RETRY(writev(p->fd, v, n)) >= 0)
        return NET_SENT;
    if (errno == EAGAIN)
        return NET_FULL;
    return errno == EBADFD ? NET_GONE : NET_REFUSED; /* EBADFD: the interface was deleted */
}

/* How TUNSETOFFLOAD says what the guest can take. */
static unsigned tun_flags(uint64_t features)
{
    return (features & BIT(VIRTIO_NET_F_GUEST_CSUM) ? TUN_F_CSUM : 0u) |
           (features & BIT(VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0u) |
           (features & BIT(VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0u);
}

static void tap_offload(struct net_port *p, uint64_t features)
{
    if (p->has_header)
        (void)ioctl(p->fd, TUNSETOFFLOAD, tun_flags(features)); /* was accepted when probed */
}

static const struct net_port_ops tap_ops = {
    .next = tap_next,
    .done = tap_done,
    .send = tap_send,
    .offload = tap_offload,
};

static uint64_t probe_offloads(int fd)
{
    uint64_t takes =
        ioctl(fd, TUNSETOFFLOAD, tun_flags(TO_GUEST)) == 0 ? TO_HOST | TO_GUEST : TO_HOST;
    (void)ioctl(fd, TUNSETOFFLOAD, 0); /* nothing, until the guest has said what it takes */
    return takes;
}

int net_port_tap(struct net_port *p, int fd, struct err *e)
{
    struct ifreq r = {0};
    if (ioctl(fd, TUNGETIFF, &r) < 0)
        return err_set_errno(e, errno, "network descriptor: not a TAP device");
    unsigned flags = (unsigned short)r.ifr_flags;
    /* IFF_NO_PI, too, is needed, but cannot be asked for: the kernel answers with IFF_NOFILTER in
     * the same bit. */
    if (!(flags & IFF_TAP))
        return err_set(e, EINVAL, "network device: a TUN device carries no Ethernet frames");
    int size = NET_HDR_BYTES;
    if ((flags & IFF_VNET_HDR) && ioctl(fd, TUNSETVNETHDRSZ, &size) < 0)
        return err_set_errno(e, errno, "header size of the TAP device");
    p->ops = &tap_ops;
    p->fd = fd;
    p->longest = NET_TAP_LONGEST;
    p->has_header = flags & IFF_VNET_HDR;
    p->features = p->has_header ? probe_offloads(fd) : 0;
    return 0;
}
