/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor's network device costs, without a guest: a driver in this process, a socket pair
 * as the stream. Timed is the device alone (its event loop until it rests), not the driver and not
 * the other end; "of one write" is that time beside a plain write (or read) of the same bytes per
 * frame through the same kind of socket, in the same run. A table; nothing passes or fails on time.
 *
 *   perf_vmm_net [BYTES-PER-ROW]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../unit/vmm/guest_driver.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/net_port.h"

enum { RX = 0, TX = 1, BATCH_MAX = 256, FRAME_MAX = 1514 };
#define FEATURES \
    ((UINT64_C(1) << 5) | (UINT64_C(1) << 15) | (UINT64_C(1) << 16) | GUEST_F_EVENT_IDX)

struct bench {
    struct guest g;
    struct virtio_dev *net;
    int peer, plain[2];
    uint64_t buffer[BATCH_MAX];
    uint8_t bytes[BATCH_MAX * (FRAME_MAX + 4)];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make_pair(int fd[2])
{
    int size = 1 << 20;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void start(struct bench *b)
{
    int fd[2];
    struct err e;
    make_pair(fd);
    make_pair(b->plain);
    b->peer = fd[1];
    guest_init(&b->g, 16 << 20);
    struct net_dev_config c = {.fd = fd[0]};
    assert_int_equal(net_dev_new(guest_place(&b->g, 0), &c, &b->net, &e), 0);
    assert_true(guest_negotiate(&b->g, b->net, FEATURES));
    guest_queue_setup(&b->g, RX, BATCH_MAX);
    guest_queue_setup(&b->g, TX, BATCH_MAX);
    guest_write(&b->g, R_STATUS, 15);
    guest_run(&b->g);
    for (unsigned i = 0; i < BATCH_MAX; i++)
        b->buffer[i] = guest_alloc(&b->g, 2048, 2048);
}

static void offer(struct bench *b, unsigned q, unsigned batch, uint32_t bytes)
{
    for (unsigned i = 0; i < batch; i++)
        guest_add(&b->g, q, &(struct guest_buf){b->buffer[i], bytes, q == RX}, 1);
    guest_kick(&b->g, q);
}

static void take_used(struct bench *b, unsigned q, unsigned batch)
{
    uint16_t head;
    uint32_t len;
    for (unsigned i = 0; i < batch; i++)
        assert_true(guest_used(&b->g, q, &head, &len));
}

/* Seconds the device needs for a batch. */
static double send_batch(struct bench *b, unsigned batch, uint32_t frame)
{
    double spent = 0;
    size_t want = (size_t)batch * (frame + 4), have = 0;
    offer(b, TX, batch, NET_HDR_BYTES + frame);
    while (have < want) {
        double begin = now();
        guest_run(&b->g);
        spent += now() - begin;
        ssize_t r;
        while ((r = read(b->peer, b->bytes, sizeof b->bytes)) > 0)
            have += (size_t)r;
    }
    take_used(b, TX, batch);
    return spent;
}

static double receive_batch(struct bench *b, unsigned batch, uint32_t frame)
{
    size_t n = 0;
    for (unsigned i = 0; i < batch; i++, n += 4 + frame) {
        uint32_t be = htonl(frame);
        memcpy(b->bytes + n, &be, 4);
    }
    offer(b, RX, batch, 1536);
    guest_run(&b->g);
    assert_int_equal(write(b->peer, b->bytes, n), (ssize_t)n);
    double begin = now();
    guest_run(&b->g);
    double spent = now() - begin;
    take_used(b, RX, batch);
    return spent;
}

static double plain_batch(struct bench *b, unsigned q, unsigned batch, uint32_t frame)
{
    double begin = now(), between;
    for (unsigned i = 0; i < batch; i++)
        assert_int_equal(write(b->plain[0], b->bytes, frame + 4), frame + 4);
    between = now();
    for (unsigned i = 0; i < batch; i++)
        assert_int_equal(read(b->plain[1], b->bytes, frame + 4), frame + 4);
    return q == TX ? between - begin : now() - between;
}

static void row(struct bench *b, unsigned q, unsigned batch, uint32_t frame, double bytes)
{
    double spent = 0, plain = 0;
    unsigned rounds = 1 + (unsigned)(bytes / frame / batch);
    double frames = (double)rounds * batch;
    for (unsigned i = 0; i < rounds; i++) {
        spent += q == TX ? send_batch(b, batch, frame) : receive_batch(b, batch, frame);
        plain += plain_batch(b, q, batch, frame);
    }
    printf("%-8s %6u %6u %10.0f %10.0f %10.1f %10.2f\n", q == TX ? "send" : "receive", frame, batch,
           1e9 * spent / frames, frames / spent, frames * frame / spent / 1e6, spent / plain);
}

int main(int argc, char **argv)
{
    static struct bench b;
    double bytes = argc > 1 ? atof(argv[1]) : 100e6;
    start(&b);
    printf("%-8s %6s %6s %10s %10s %10s %10s\n", "", "frame", "batch", "ns/frame", "frames/s",
           "MB/s", "of one");
    for (unsigned q = TX + 1; q-- > RX;)
        for (unsigned batch = 1; batch <= BATCH_MAX; batch *= 16) {
            row(&b, q, batch, 60, bytes / 20);
            row(&b, q, batch, FRAME_MAX, bytes);
        }
    virtio_free(b.net);
    guest_done(&b.g);
    return 0;
}
