/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "guest_driver.h"
#include "vmm/le.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/net_port.h"

#define BIT(n) (UINT64_C(1) << (n))
#define OFFERED (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF))
enum { RX = 0, TX = 1 };

struct fixture {
    struct guest g;
    struct virtio_dev *net;
    int peer;
    struct net_dev_config config;
};

static void make_device(struct fixture *f)
{
    int fd[2];
    struct err e = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    f->config.fd = fd[0];
    f->peer = fd[1];
    assert_int_equal(net_dev_new(guest_place(&f->g, 2), &f->config, &f->net, &e), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    guest_init(&f->g, 16 << 20);
    f->config = (struct net_dev_config){.mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56}};
    make_device(f);
    *state = f;
    return 0;
}

static void drop_device(struct fixture *f)
{
    virtio_free(f->net);
    close(f->peer);
    f->net = NULL;
}

/* Another device in place of the first, with the limits now in f->config. */
static void remake(struct fixture *f)
{
    drop_device(f);
    make_device(f);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    drop_device(f);
    guest_done(&f->g);
    free(f);
    return 0;
}

static void start(struct fixture *f, uint64_t features)
{
    guest_start(&f->g, f->net, features);
}

static void run(struct fixture *f)
{
    guest_run(&f->g);
    assert_int_equal(guest_run(&f->g), 0); /* at rest: nothing spins */
}

/* ---- frames ---- */

static uint8_t pattern(unsigned seed, unsigned i)
{
    return (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

static void fill(uint8_t *p, unsigned seed, uint32_t n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = pattern(seed, i);
}

static void check(const uint8_t *p, unsigned seed, uint32_t n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(p[i], pattern(seed, i));
}

/* Length and frame, as on the stream; returns how many bytes. */
static size_t framed(uint8_t *p, unsigned seed, uint32_t n)
{
    uint32_t be = htonl(n);
    memcpy(p, &be, 4);
    fill(p + 4, seed, n);
    return n + 4;
}

static void peer_write(struct fixture *f, const void *p, size_t n)
{
    assert_int_equal(write(f->peer, p, n), (ssize_t)n);
}

static void peer_send(struct fixture *f, unsigned seed, uint32_t n)
{
    uint8_t p[2048];
    peer_write(f, p, framed(p, seed, n));
}

/* Reads one frame off the stream. */
static void peer_expect(struct fixture *f, unsigned seed, uint32_t n)
{
    uint8_t p[2048];
    uint32_t be;
    assert_int_equal(read(f->peer, &be, 4), 4);
    assert_int_equal(ntohl(be), n);
    assert_int_equal(recv(f->peer, p, n, MSG_WAITALL), n);
    check(p, seed, n);
}

static void peer_expect_nothing(struct fixture *f)
{
    char c;
    assert_int_equal(recv(f->peer, &c, 1, MSG_PEEK), -1);
    assert_int_equal(errno, EAGAIN);
}

static void peer_expect_end(struct fixture *f)
{
    char c;
    ssize_t r = recv(f->peer, &c, 1, 0);
    assert_true(r == 0 || (r < 0 && errno == ECONNRESET));
}

/* ---- the guest's side ---- */

static uint64_t tx_buffer(struct fixture *f, const struct net_hdr *h, unsigned seed, uint32_t n)
{
    uint64_t at = guest_alloc(&f->g, NET_HDR_BYTES + n, 1);
    memcpy(guest_at(&f->g, at, NET_HDR_BYTES), h, NET_HDR_BYTES);
    if (n)
        fill(guest_at(&f->g, at + NET_HDR_BYTES, n), seed, n);
    return at;
}

static void tx_add(struct fixture *f, const struct net_hdr *h, unsigned seed, uint32_t n)
{
    guest_add(&f->g, TX, &(struct guest_buf){tx_buffer(f, h, seed, n), NET_HDR_BYTES + n, false},
              1);
}

static void tx(struct fixture *f, unsigned seed, uint32_t n)
{
    tx_add(f, &(struct net_hdr){0}, seed, n);
    guest_kick(&f->g, TX);
}

static unsigned used(struct fixture *f, unsigned q)
{
    uint16_t head;
    uint32_t len;
    unsigned n = 0;
    while (guest_used(&f->g, q, &head, &len))
        n++;
    return n;
}

static uint64_t rx_add(struct fixture *f, uint32_t n)
{
    uint64_t at = guest_alloc(&f->g, n, 1);
    guest_add(&f->g, RX, &(struct guest_buf){at, n, true}, 1);
    return at;
}

static void rx_expect(struct fixture *f, uint64_t at, unsigned seed, uint32_t n)
{
    uint16_t head;
    uint32_t len;
    struct net_hdr h;
    assert_true(guest_used(&f->g, RX, &head, &len));
    assert_int_equal(len, NET_HDR_BYTES + n);
    const uint8_t *p = guest_at(&f->g, at, len);
    memcpy(&h, p, sizeof h);
    assert_int_equal(h.flags, 0);
    assert_int_equal(h.gso_type, 0);
    assert_int_equal(le16_get(&h.num_buffers), 1);
    check(p + NET_HDR_BYTES, seed, n);
}

static unsigned link_status(struct fixture *f)
{
    struct le16 v;
    guest_config(&f->g, 6, &v, 2);
    return le16_get(&v);
}

/* ---- negotiation ---- */

static void test_negotiate(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    uint8_t mac[6];
    g->dev = f->net;
    assert_int_equal(guest_read(g, R_DEVICE_ID), 1);
    guest_write(g, R_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(guest_read(g, R_DEVICE_FEATURES),
                     OFFERED | GUEST_F_INDIRECT | GUEST_F_EVENT_IDX);
    assert_false(guest_negotiate(g, g->dev, BIT(VIRTIO_NET_F_CSUM)));
    assert_false(guest_negotiate(g, g->dev, BIT(VIRTIO_NET_F_CTRL_VQ)));
    start(f, OFFERED);
    guest_config(g, 0, mac, 6);
    assert_memory_equal(mac, f->config.mac, 6);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP);
    assert_int_equal(guest_read(g, R_CONFIG + 8), UINT32_MAX); /* nothing behind it */
}

/* ---- transmit ---- */

static void test_tx(void **state)
{
    struct fixture *f = *state;
    uint64_t in, out;
    start(f, OFFERED);
    unsigned interrupts = atomic_load(&f->g.interrupts);
    tx(f, 1, 60);
    tx(f, 2, 1514);
    tx(f, 3, 14);
    run(f);
    peer_expect(f, 1, 60);
    peer_expect(f, 2, 1514);
    peer_expect(f, 3, 14);
    peer_expect_nothing(f);
    assert_int_equal(used(f, TX), 3);
    assert_int_equal(atomic_load(&f->g.interrupts), interrupts + 1);
    net_dev_counters(f->net, &in, &out);
    assert_int_equal(in, 0);
    assert_int_equal(out, 60 + 1514 + 14);
    assert_int_equal(net_dev_dropped(f->net), 0);
}

/* Header and frame cut anywhere, in the ring and in an indirect table. */
static void test_tx_pieces(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED | GUEST_F_INDIRECT | GUEST_F_EVENT_IDX);
    for (uint32_t cut = 1; cut < NET_HDR_BYTES + 60; cut++) {
        uint64_t at = tx_buffer(f, &(struct net_hdr){0}, cut, 60);
        struct guest_buf b[] = {{at, cut, false}, {at + cut, NET_HDR_BYTES + 60 - cut, false}};
        if (cut & 1)
            guest_add(&f->g, TX, b, 2);
        else
            guest_add_indirect(&f->g, TX, b, 2);
        guest_kick(&f->g, TX);
        run(f);
        peer_expect(f, cut, 60);
        assert_int_equal(used(f, TX), 1);
    }
    peer_expect_nothing(f);
}

static void test_tx_refused(void **state)
{
    static const struct net_hdr headers[] = {
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM},
        {.flags = 0x80},
        {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4},
        {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV6},
        {.gso_type = VIRTIO_NET_HDR_GSO_UDP},
    };
    struct fixture *f = *state;
    unsigned bad = 0;
    start(f, OFFERED);
    for (; bad < ARRAY_LEN(headers); bad++)
        tx_add(f, &headers[bad], 0, 60);
    tx_add(f, &(struct net_hdr){0}, 0, 13);
    tx_add(f, &(struct net_hdr){0}, 0, 1515);
    tx_add(f, &(struct net_hdr){0}, 0, 65536);
    uint64_t at = guest_alloc(&f->g, 4096, 1);
    guest_add(&f->g, TX, &(struct guest_buf){at, 5, false}, 1);
    guest_add(&f->g, TX, &(struct guest_buf){at, 100, true}, 1);
    bad += 5;
    tx(f, 7, 60);
    run(f);
    peer_expect(f, 7, 60);
    peer_expect_nothing(f);
    assert_int_equal(used(f, TX), bad + 1);
    assert_int_equal(net_dev_dropped(f->net), bad);
}

static void test_broken_ring(void **state)
{
    struct fixture *f = *state;
    for (unsigned q = RX; q <= TX; q++) {
        start(f, OFFERED);
        guest_add(&f->g, q, &(struct guest_buf){UINT64_C(1) << 40, 100, q == RX}, 1);
        peer_send(f, 1, 60);
        guest_kick(&f->g, q);
        run(f);
        assert_true(guest_read(&f->g, R_STATUS) & GUEST_NEEDS_RESET);
        guest_kick(&f->g, TX);
        run(f);
    }
    start(f, OFFERED);
    tx(f, 9, 60);
    uint64_t at = rx_add(f, 2048);
    guest_kick(&f->g, RX);
    run(f);
    peer_expect(f, 9, 60);
    rx_expect(f, at, 1, 60);
}

/* The descriptor is full in the middle of a frame: nothing is lost, repeated or cut, also when the
 * driver is reset meanwhile. */
static void test_tx_back_pressure(void **state)
{
    struct fixture *f = *state;
    unsigned sent = 0, seen = 0;
    int small = 4608;
    assert_int_equal(setsockopt(f->config.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    start(f, OFFERED);
    for (unsigned idle = 0; idle < 3;) { /* until port and socket are full */
        unsigned before = sent;
        while (sent - seen < GUEST_QUEUE_SIZE)
            tx(f, sent++, 1514);
        run(f);
        seen += used(f, TX);
        idle = sent == before ? idle + 1 : 0;
    }
    assert_int_equal(sent, seen + GUEST_QUEUE_SIZE);
    assert_in_range(seen, 40, 60); /* 68 KiB and what the socket holds */
    start(f, OFFERED); /* a reset: 16 frames of the ring are gone, those taken are not */
    for (unsigned i = 0; i < seen; i++) {
        uint8_t p[1518];
        for (size_t have = 0; have < sizeof p;) {
            ssize_t r = read(f->peer, p + have, sizeof p - have);
            if (r < 0)
                assert_true(guest_run(&f->g) > 0); /* there is room now, and it was noticed */
            else
                have += (size_t)r;
        }
        check(p + 4, i, 1514);
    }
    tx(f, 77, 60);
    run(f);
    peer_expect(f, 77, 60);
    peer_expect_nothing(f);
    assert_int_equal(net_dev_dropped(f->net), 0);
}

/* ---- receive ---- */

static void test_rx_every_split(void **state)
{
    struct fixture *f = *state;
    uint8_t p[256];
    start(f, OFFERED);
    for (size_t cut = 1; cut < 4 + 60 + 4 + 20; cut++) {
        size_t n = framed(p, 1, 60);
        n += framed(p + n, 2, 20);
        uint64_t a = rx_add(f, 1600), b = rx_add(f, 1600);
        guest_kick(&f->g, RX);
        peer_write(f, p, cut);
        run(f);
        peer_write(f, p + cut, n - cut);
        run(f);
        rx_expect(f, a, 1, 60);
        rx_expect(f, b, 2, 20);
        assert_int_equal(used(f, RX), 0);
    }
}

static void test_rx_byte_by_byte(void **state)
{
    struct fixture *f = *state;
    uint8_t p[2048];
    start(f, OFFERED);
    size_t n = framed(p, 5, 1514);
    uint64_t a = rx_add(f, 1600);
    guest_kick(&f->g, RX);
    for (size_t i = 0; i < n; i++) {
        peer_write(f, p + i, 1);
        run(f);
    }
    rx_expect(f, a, 5, 1514);
}

/* No buffers: the descriptor is left alone, so that the other end comes to a stop; nothing is lost
 * when buffers come, one or many at a time. */
static void test_rx_back_pressure(void **state)
{
    struct fixture *f = *state;
    uint8_t p[2048];
    unsigned sent = 0, seen = 0;
    start(f, OFFERED | GUEST_F_EVENT_IDX);
    for (bool full = false; !full; sent += !full) {
        size_t n = framed(p, sent, 1000);
        run(f);
        full = send(f->peer, p, n, 0) != (ssize_t)n;
    }
    assert_in_range(sent, 68, 2000);
    run(f);
    while (seen < sent) {
        uint64_t at[GUEST_QUEUE_SIZE];
        unsigned n = seen < 10 ? 1 : GUEST_QUEUE_SIZE;
        for (unsigned i = 0; i < n; i++)
            at[i] = rx_add(f, 1100);
        guest_kick(&f->g, RX);
        run(f);
        for (unsigned i = 0; i < n && seen < sent; i++)
            rx_expect(f, at[i], seen++, 1000);
        f->g.next_free = at[0]; /* the buffers again */
    }
    assert_int_equal(used(f, RX), 0);
    assert_int_equal(net_dev_dropped(f->net), 0);
}

/* The entry of the avail ring that the device wants to be told of. */
static uint16_t avail_event(struct fixture *f, unsigned q)
{
    const struct guest_queue *gq = &f->g.queue[q];
    return le16_get(guest_at(&f->g, gq->used + 4 + UINT64_C(8) * gq->size, 2));
}

static void test_rx_merged(void **state)
{
    struct fixture *f = *state;
    uint64_t at[8];
    uint16_t head;
    uint32_t len;
    struct net_hdr h;
    uint8_t all[800];
    start(f, OFFERED | GUEST_F_EVENT_IDX);
    for (unsigned i = 0; i < 3; i++)
        at[i] = rx_add(f, 100);
    guest_kick(&f->g, RX);
    peer_send(f, 4, 700); /* 12 + 700 bytes: eight buffers, of which three are there */
    run(f);
    assert_int_equal(used(f, RX), 0);
    assert_int_equal(avail_event(f, RX),
                     3); /* asked for the fourth buffer, although none was used */
    for (unsigned i = 3; i < 8; i++)
        at[i] = rx_add(f, 100);
    guest_kick(&f->g, RX);
    run(f);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(guest_used(&f->g, RX, &head, &len));
        assert_int_equal(len, i < 7 ? 100 : 12);
        memcpy(all + 100 * i, guest_at(&f->g, at[i], len), len);
    }
    memcpy(&h, all, sizeof h);
    assert_int_equal(le16_get(&h.num_buffers), 8);
    check(all + NET_HDR_BYTES, 4, 700);
    assert_int_equal(used(f, RX), 0);
}

/* A ring that could not hold the frame, whatever happens. */
static void test_rx_too_small(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++)
        rx_add(f, 20);
    guest_kick(&f->g, RX);
    peer_send(f, 1, 1000);
    peer_send(f, 2, 100);
    run(f);
    assert_int_equal(net_dev_dropped(f->net), 1);
    assert_int_equal(used(f, RX), 6); /* 112 bytes of the second */

    start(f, BIT(VIRTIO_NET_F_MAC)); /* not mergeable */
    rx_add(f, 500);
    guest_kick(&f->g, RX);
    peer_send(f, 1, 1000);
    run(f);
    assert_int_equal(net_dev_dropped(f->net), 2);
    peer_send(f, 1, 488);
    run(f);
    assert_int_equal(used(f, RX), 1); /* the same buffer */

    start(f, OFFERED);
    rx_add(f, 11); /* not even a header */
    guest_kick(&f->g, RX);
    peer_send(f, 1, 100);
    run(f);
    assert_true(guest_read(&f->g, R_STATUS) & GUEST_NEEDS_RESET);
}

/* ---- the other end ---- */

static void expect_down(struct fixture *f)
{
    run(f);
    assert_int_equal(link_status(f), 0);
    assert_true(guest_read(&f->g, R_INTERRUPT_STATUS) & 2);
    uint64_t before = net_dev_dropped(f->net);
    tx(f, 1, 60);
    run(f);
    assert_int_equal(used(f, TX), 1);
    assert_int_equal(net_dev_dropped(f->net), before + 1);
    assert_int_equal(guest_read(&f->g, R_STATUS), 15);
}

static void test_bad_length(void **state)
{
    static const uint32_t lengths[] = {0, 13, 1515, 65536, UINT32_MAX};
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(lengths); i++) {
        remake(f);
        start(f, OFFERED);
        uint64_t at = rx_add(f, 1600);
        rx_add(f, 1600);
        guest_kick(&f->g, RX);
        peer_send(f, 1, 60);
        uint32_t be = htonl(lengths[i]);
        peer_write(f, &be, 4);
        expect_down(f);
        rx_expect(f, at, 1, 60);
        peer_expect_end(f);
    }
}

static void test_end_of_file(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    uint64_t at = rx_add(f, 1600);
    rx_add(f, 1600);
    guest_kick(&f->g, RX);
    peer_send(f, 1, 60);
    peer_write(f, "\0\0", 2); /* and it ends in the middle of a frame */
    shutdown(f->peer, SHUT_RDWR);
    expect_down(f);
    rx_expect(f, at, 1, 60);
    assert_int_equal(used(f, RX), 0);
}

/* The hang-up of a descriptor that nobody reads may not keep the loop busy, nor is what was sent
 * before lost. */
static void test_end_of_file_unread(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    peer_send(f, 1, 60);
    run(f);
    peer_send(f, 2, 60);
    shutdown(f->peer, SHUT_RDWR);
    run(f);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP);
    uint64_t a = rx_add(f, 1600), b = rx_add(f, 1600);
    rx_add(f, 1600);
    guest_kick(&f->g, RX);
    expect_down(f);
    rx_expect(f, a, 1, 60);
    rx_expect(f, b, 2, 60);
}

static void test_end_noticed_in_sending(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    close(f->peer);
    f->peer = -1;
    tx(f, 1, 60);
    run(f);
    used(f, TX);
    expect_down(f);
}

/* ---- gate ---- */

static void test_gate(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    uint64_t at = rx_add(f, 1600);
    guest_kick(&f->g, RX);
    run(f);
    net_dev_gate(f->net, false);
    peer_send(f, 1, 60);
    tx(f, 2, 60);
    run(f);
    assert_int_equal(used(f, RX) + used(f, TX), 0);
    peer_expect_nothing(f);
    shutdown(f->peer, SHUT_WR);
    run(f);
    net_dev_gate(f->net, true);
    run(f);
    rx_expect(f, at, 1, 60);
    assert_int_equal(used(f, TX), 1);
    peer_expect(f, 2, 60);
}

/* ---- persistence ---- */

/* Saves the device and goes on with another one, which has another MAC of its own. */
static void save_and_restore(struct fixture *f)
{
    uint8_t *saved;
    size_t n;
    struct err e = {0};
    guest_save(&f->g, &saved, &n);
    f->config.mac[5]++;
    remake(f);
    f->config.mac[5]--;
    assert_int_equal(guest_restore(&f->g, f->net, saved, n, &e), 0);
    free(saved);
}

static void test_persist(void **state)
{
    struct fixture *f = *state;
    uint8_t mac[6];
    start(f, OFFERED);
    uint64_t at = rx_add(f, 1600);
    guest_kick(&f->g, RX);
    net_dev_gate(f->net, false);
    tx(f, 2, 60);
    run(f);
    net_dev_gate(f->net, true);
    save_and_restore(f);
    peer_send(f, 1, 60);
    run(f);
    peer_expect_nothing(f); /* the gate of a restored machine is closed */
    assert_int_equal(used(f, RX) + used(f, TX), 0);
    net_dev_gate(f->net, true);
    run(f);
    peer_expect(f, 2, 60);
    rx_expect(f, at, 1, 60);
    guest_config(&f->g, 0, mac, 6);
    assert_memory_equal(mac, f->config.mac, 6);
}

static void test_persist_link(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    shutdown(f->peer, SHUT_RDWR);
    rx_add(f, 1600);
    guest_kick(&f->g, RX);
    expect_down(f);
    guest_write(&f->g, R_INTERRUPT_ACK, 3);
    save_and_restore(f);
    run(f);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP);
    assert_true(guest_read(&f->g, R_INTERRUPT_STATUS) & 2);
}

static void test_persist_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t *saved;
    size_t n;
    struct err e = {0};
    start(f, OFFERED);
    guest_save(&f->g, &saved, &n);
    saved[n - 1] ^= 1;
    remake(f);
    assert_int_equal(guest_restore(&f->g, f->net, saved, n, &e), -EBADMSG);
    free(saved);
}

/* ---- rate limits ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until n frames have gone through queue q; returns milliseconds. */
static int64_t time_of(struct fixture *f, unsigned q, unsigned n)
{
    int64_t begin = now_ms();
    for (unsigned seen = 0; seen < n; seen += used(f, q)) {
        assert_true(now_ms() - begin < 20000);
        ev_turn(f->g.loop, 100);
    }
    return now_ms() - begin;
}

static void limited_tx(struct fixture *f, int64_t least)
{
    remake(f);
    start(f, OFFERED);
    for (unsigned i = 0; i < 10; i++)
        tx(f, i, 1000);
    assert_in_range(time_of(f, TX, 10), least, 10 * least);
    for (unsigned i = 0; i < 10; i++)
        peer_expect(f, i, 1000);
}

static void limited_rx(struct fixture *f, int64_t least)
{
    remake(f);
    start(f, OFFERED);
    for (unsigned i = 0; i < 10; i++) {
        rx_add(f, 1600);
        peer_send(f, i, 1000);
    }
    guest_kick(&f->g, RX);
    assert_in_range(time_of(f, RX, 10), least, 10 * least);
}

/* Ten frames of 1000 bytes; two pass at once, then one each 10 ms. The last bits of a millisecond
 * are lost in rounding. */
static void test_limits(void **state)
{
    struct fixture *f = *state;
    struct rate_limit bytes = {100000, 2000}, packets = {100, 2};
    f->config.tx_bytes = bytes;
    limited_tx(f, 78);
    f->config.tx_packets = packets;
    limited_tx(f, 78);
    f->config.tx_bytes = (struct rate_limit){0};
    limited_tx(f, 78);
    f->config.rx_bytes = bytes;
    limited_rx(f, 78);
    f->config.rx_packets = packets;
    limited_rx(f, 78);
    f->config.rx_bytes = (struct rate_limit){0};
    limited_rx(f, 78);
}

/* ---- threads ---- */

static void *loop_main(void *loop)
{
    ev_run(loop);
    return NULL;
}

/* The loop on its own thread, as in the monitor, while a vCPU resets and starts the device and the
 * control thread moves the gate; the peer never stops. Mostly for the sanitizers. */
static void test_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    uint64_t in, out;
    uint8_t p[4096];
    start(f, OFFERED);
    assert_int_equal(pthread_create(&thread, NULL, loop_main, f->g.loop), 0);
    for (unsigned i = 0; i < 300; i++) {
        guest_write(&f->g, R_STATUS, 0);
        (void)!send(f->peer, p, framed(p, i, 60), MSG_NOSIGNAL);
        net_dev_gate(f->net, i & 1);
        assert_true(guest_negotiate(&f->g, f->net, OFFERED));
        for (unsigned q = RX; q <= TX; q++) { /* the rings of the first time, and nothing in them */
            guest_write(&f->g, R_QUEUE_SEL, q);
            guest_write(&f->g, R_QUEUE_NUM, GUEST_QUEUE_SIZE);
            guest_write(&f->g, R_QUEUE_DESC, (uint32_t)f->g.queue[q].desc);
            guest_write(&f->g, R_QUEUE_DRIVER, (uint32_t)f->g.queue[q].avail);
            guest_write(&f->g, R_QUEUE_DEVICE, (uint32_t)f->g.queue[q].used);
            guest_write(&f->g, R_QUEUE_READY, 1);
        }
        guest_write(&f->g, R_STATUS, 15);
        assert_int_equal(guest_read(&f->g, R_STATUS), 15);
        guest_kick(&f->g, i % 2);
        net_dev_counters(f->net, &in, &out);
        if (i % 50 == 0) {
            ev_park(f->g.loop);
            ev_unpark(f->g.loop);
        }
    }
    ev_stop(f->g.loop);
    pthread_join(thread, NULL);
    assert_int_equal(link_status(f), VIRTIO_NET_S_LINK_UP);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_negotiate),
        TEST(test_tx),
        TEST(test_tx_pieces),
        TEST(test_tx_refused),
        TEST(test_broken_ring),
        TEST(test_tx_back_pressure),
        TEST(test_rx_every_split),
        TEST(test_rx_byte_by_byte),
        TEST(test_rx_back_pressure),
        TEST(test_rx_merged),
        TEST(test_rx_too_small),
        TEST(test_bad_length),
        TEST(test_end_of_file),
        TEST(test_end_of_file_unread),
        TEST(test_end_noticed_in_sending),
        TEST(test_gate),
        TEST(test_persist),
        TEST(test_persist_link),
        TEST(test_persist_refused),
        TEST(test_limits),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
