/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on a stream socket, four bytes of big-endian length before each (QEMU's -netdev stream;
 * the other end is tinderbox-net).
 *
 * Many frames share one system call in both directions: reads fill the in buffer, sent frames
 * gather in the out buffer until it is full or flushed. They are copied there once, because guest
 * memory can change between two attempts to write it, and because a frame whose beginning is on the
 * wire must be completed whatever happens to the guest's buffer. The other end is not trusted
 * either: a length no frame of this link can have ends the stream.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/virtio/net_port.h"

#define LENGTH_BYTES 4u

static uint32_t length_get(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static void length_put(uint8_t *p, uint32_t n)
{
    uint32_t v = htobe32(n);
    memcpy(p, &v, sizeof v);
}

/* Moves [head, tail) to the front of the buffer. */
static void compact(uint8_t *buffer, uint32_t *head, uint32_t *tail)
{
    memmove(buffer, buffer + *head, *tail - *head);
    *tail -= *head;
    *head = 0;
}

static int parse(const struct net_port *p, struct net_frame_in *ret)
{
    uint32_t have = p->in_tail - p->in_head;
    if (have < LENGTH_BYTES)
        return 0;
    uint32_t n = length_get(p->in + p->in_head);
    if (n < NET_ETH_BYTES || n > p->longest)
        return -EPROTO;
    if (have - LENGTH_BYTES < n)
        return 0;
    *ret = (struct net_frame_in){.p = p->in + p->in_head + LENGTH_BYTES, .n = n};
    return 1;
}

/* 1: there is more in the buffer than before. */
static int fill(struct net_port *p)
{
    if (p->dry) {
        p->dry = false; /* spares the read that would say EAGAIN: epoll is level-triggered */
        return 0;
    }
    if (p->in_head == p->in_tail || NET_PORT_BUFFER - p->in_tail < LENGTH_BYTES + p->longest)
        compact(p->in, &p->in_head, &p->in_tail);
    size_t room = NET_PORT_BUFFER - p->in_tail;
    ssize_t r = TEMP_FAILURE_RETRY(recv(p->fd, p->in + p->in_tail, room, MSG_DONTWAIT));
    if (r < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (r == 0)
        return -EPIPE;
    p->in_tail += (uint32_t)r;
    p->dry = (size_t)r < room;
    return 1;
}

static int stream_next(struct net_port *p, struct net_frame_in *ret)
{
    int r = parse(p, ret);
    while (r == 0) {
        int got = fill(p);
        if (got <= 0)
            return got;
        r = parse(p, ret);
    }
    return r;
}

static void stream_done(struct net_port *p)
{
    p->in_head += LENGTH_BYTES + length_get(p->in + p->in_head);
}

static int stream_flush(struct net_port *p)
{
    while (p->out_head < p->out_tail) {
        ssize_t r = TEMP_FAILURE_RETRY(send(p->fd, p->out + p->out_head, p->out_tail - p->out_head,
                                            MSG_DONTWAIT | MSG_NOSIGNAL));
        if (r < 0)
            return errno == EAGAIN ? 0 : -errno;
        p->out_head += (uint32_t)r;
    }
    p->out_head = p->out_tail = 0;
    return 1;
}

static enum net_sent stream_send(struct net_port *p, const struct net_hdr *h,
                                 const struct virtq_chain *c)
{
    (void)h; /* no offload is offered, so it says nothing */
    uint32_t n = c->out_bytes - NET_HDR_BYTES;
    if (NET_PORT_BUFFER - p->out_tail < LENGTH_BYTES + n) {
        if (stream_flush(p) < 0)
            return NET_GONE;
        compact(p->out, &p->out_head, &p->out_tail);
        if (NET_PORT_BUFFER - p->out_tail < LENGTH_BYTES + n)
            return NET_FULL;
    }
    length_put(p->out + p->out_tail, n);
    (void)virtq_read(c, NET_HDR_BYTES, p->out + p->out_tail + LENGTH_BYTES, n); /* all: n is ours */
    p->out_tail += LENGTH_BYTES + n;
    return NET_SENT;
}

static const struct net_port_ops stream_ops = {
    .next = stream_next,
    .done = stream_done,
    .send = stream_send,
    .flush = stream_flush,
};

void net_port_stream(struct net_port *p, int fd)
{
    p->ops = &stream_ops;
    p->fd = fd;
    p->longest = NET_STREAM_LONGEST;
}
