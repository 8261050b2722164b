/* SPDX-License-Identifier: Apache-2.0 */
/* The network device between a hostile guest and a hostile peer. The first byte of the input picks
 * the limits; the host's part of a script is one byte of what to do and its operands. Whatever the
 * guest does, what arrives at the peer must be frames. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device_script.h"
#include "vmm/virtio/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum host_op { RAW, FRAME, DRAIN, CLOSE, GATE_OPEN, GATE_CLOSED, HOST_OPS };

static struct virtio_dev *net;
static int peer = -1;
static uint8_t variant;
static uint8_t partial[2048]; /* read by the peer, not yet a whole frame */
static size_t have;

static void close_peer(void)
{
    if (peer >= 0)
        close(peer);
    peer = -1;
    have = 0;
}

static struct virtio_dev *renew(struct device_script *s)
{
    int fd[2], small = 4608;
    virtio_free(net);
    close_peer();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
        abort();
    peer = fd[1];
    struct net_dev_config c = {.fd = fd[0]};
    if (variant & 1)
        (void)setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    if (variant & 2)
        c.rx_bytes = c.tx_bytes = (struct rate_limit){1000000, 3000};
    if (variant & 4)
        c.rx_packets = c.tx_packets = (struct rate_limit){1000, 3};
    if (net_dev_new((struct virtio_place){1, &s->mem, s->irq, s->loop}, &c, &net, NULL) < 0)
        abort();
    return net;
}

static void take_frames(void)
{
    for (;;) {
        uint32_t n;
        if (have < sizeof n)
            return;
        memcpy(&n, partial, sizeof n);
        n = ntohl(n);
        if (n < 14 || n > 1514)
            abort();
        if (have < sizeof n + n)
            return;
        have -= sizeof n + n;
        memmove(partial, partial + sizeof n + n, have);
    }
}

static void drain(void)
{
    ssize_t r;
    while ((r = read(peer, partial + have, sizeof partial - have)) > 0) {
        have += (size_t)r;
        take_frames();
    }
}

static void send_frame(const uint8_t *p, size_t n)
{
    uint8_t frame[4 + 4 * 256] = {0};
    uint32_t length = n ? 4 * (uint32_t)p[0] : 0, be = htonl(length);
    memcpy(frame, &be, 4);
    if (n)
        memcpy(frame + 4, p, n < length ? n : length);
    (void)!send(peer, frame, 4 + length, MSG_NOSIGNAL);
}

static void host(struct device_script *s UNUSED, const uint8_t *p, size_t n)
{
    enum host_op op = n ? (enum host_op)(p[0] % HOST_OPS) : DRAIN;
    if (op == GATE_OPEN || op == GATE_CLOSED)
        net_dev_gate(net, op == GATE_OPEN);
    else if (peer < 0)
        return;
    else if (op == DRAIN)
        drain();
    else if (op == CLOSE)
        close_peer();
    else if (op == FRAME)
        send_frame(p + 1, n - 1);
    else
        (void)!send(peer, p + 1, n - 1, MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct device_script script = {.renew = renew, .host = host};
    if (size == 0)
        return 0;
    variant = data[0];
    device_script_run(&script, data + 1, size - 1);
    if (peer >= 0)
        drain();
    return 0;
}
