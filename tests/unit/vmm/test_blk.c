/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest_driver.h"
#include "vmm/le.h"
#include "vmm/virtio/blk.h"

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, NO_STATUS = 0xee };

#define F_RO (UINT64_C(1) << 5)
#define F_FLUSH (UINT64_C(1) << 9)
#define F_ALL_RO UINT64_C(0x464) /* SEG_MAX, RO, BLK_SIZE, TOPOLOGY */
#define F_ALL_RW UINT64_C(0x6644)
#define MIB (UINT64_C(1) << 20)
#define DISK (64 * MIB)

struct fixture {
    struct guest g;
    struct virtio_dev *blk;
    int file;
    unsigned full, again; /* calls of on_full() */
};

/* The linker puts these in the place of the disk's functions. */
static int full_for; /* so many writes are refused for want of space */
static unsigned flushes;
int __real_disk_writev(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset);
int __wrap_disk_writev(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset);
int __wrap_disk_flush(struct disk *d);

int __wrap_disk_writev(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset)
{
    if (full_for) {
        full_for--;
        return -ENOSPC;
    }
    return __real_disk_writev(d, iov, n_iov, offset);
}

int __wrap_disk_flush(struct disk *d UNUSED)
{
    flushes++;
    return 0;
}

static void on_full(void *arg, bool full)
{
    struct fixture *f = arg;
    *(full ? &f->full : &f->again) += 1;
}

static struct disk *open_disk(struct fixture *f, bool read_only)
{
    char path[64];
    struct err e = {0};
    struct disk *d = NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", f->file);
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (disk_open(&d, &(struct disk_layer_fd){fd, false}, 1, read_only, false, &e) < 0)
        fail_msg("%s", e.text);
    return d;
}

static void make(struct fixture *f, bool read_only, struct rate_limit bytes, struct rate_limit ops)
{
    struct err e = {0};
    struct blk_config c = {.disk = open_disk(f, read_only),
                           .serial = "serial-number",
                           .bytes = bytes,
                           .ops = ops,
                           .on_full = on_full,
                           .on_full_arg = f};
    assert_int_equal(blk_new(guest_place(&f->g, 1), &c, &f->blk, &e), 0);
}

static void make_again(struct fixture *f, bool read_only)
{
    virtio_free(f->blk);
    make(f, read_only, (struct rate_limit){0}, (struct rate_limit){0});
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    guest_init(&f->g, 128 << 20);
    f->file = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->file, (off_t)DISK), 0);
    make(f, false, (struct rate_limit){0}, (struct rate_limit){0});
    full_for = 0;
    flushes = 0;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_free(f->blk);
    guest_done(&f->g);
    close(f->file);
    free(f);
    return 0;
}

/* ---- a driver -------------------------------------------------------------------------------- */

static uint64_t put_header(struct guest *g, uint32_t type, uint64_t sector)
{
    uint64_t at = guest_alloc(g, 16, 16);
    uint8_t *p = guest_at(g, at, 16);
    le32_put((struct le32 *)p, type);
    le64_put((struct le64 *)(p + 8), sector);
    return at;
}

static uint64_t put_status(struct guest *g)
{
    uint64_t at = guest_alloc(g, 1, 1);
    *(uint8_t *)guest_at(g, at, 1) = NO_STATUS;
    return at;
}

static uint8_t status_at(struct guest *g, uint64_t at)
{
    return *(uint8_t *)guest_at(g, at, 1);
}

/* Offers header, data if there are any, status; returns where the status will be. */
static uint64_t submit(struct guest *g, uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
    bool in = type == IN || type == GET_ID;
    struct guest_buf b[3] = {{put_header(g, type, sector), 16, false}};
    unsigned n = 1;
    if (len)
        b[n++] = (struct guest_buf){data, len, in};
    uint64_t status = put_status(g);
    b[n++] = (struct guest_buf){status, 1, true};
    guest_add(g, 0, b, n);
    return status;
}

static uint8_t request(struct guest *g, uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
    uint16_t head;
    uint32_t written;
    uint64_t status = submit(g, type, sector, data, len);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &written));
    assert_int_equal(written, (type == IN || type == GET_ID ? len : 0) + 1);
    return status_at(g, status);
}

static uint64_t pattern(struct guest *g, uint32_t len, unsigned seed)
{
    uint64_t at = guest_alloc(g, len, 512);
    uint8_t *p = guest_at(g, at, len);
    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)(seed + i * 7 + i / 251);
    return at;
}

static void start(struct fixture *f)
{
    guest_start(&f->g, f->blk, F_ALL_RW);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static uint64_t offered(struct guest *g)
{
    guest_write(g, R_DEVICE_FEATURES_SEL, 0);
    return guest_read(g, R_DEVICE_FEATURES) & ~(GUEST_F_EVENT_IDX | GUEST_F_INDIRECT);
}

static void test_negotiate(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    uint8_t c[64];
    g->dev = f->blk;
    assert_int_equal(guest_read(g, R_DEVICE_ID), 2);
    assert_int_equal(guest_read(g, R_QUEUE_NUM_MAX), 128);
    assert_int_equal(offered(g), F_ALL_RW);
    assert_false(guest_negotiate(g, g->dev, F_RO));
    assert_true(guest_negotiate(g, g->dev, F_ALL_RW));
    guest_config(g, 0, c, sizeof c);
    assert_int_equal(le64_get((struct le64 *)c), DISK / 512);
    assert_int_equal(le32_get((struct le32 *)(c + 8)), 0);
    assert_int_equal(le32_get((struct le32 *)(c + 12)), 126);
    assert_int_equal(le32_get((struct le32 *)(c + 20)), 512);
    assert_int_equal(c[24], 3);
    assert_int_equal(c[56], 1);
    assert_int_equal(c[60], 0xff); /* past its end */
    make_again(f, true);
    g->dev = f->blk;
    assert_int_equal(offered(g), F_ALL_RO);
    assert_false(guest_negotiate(g, g->dev, F_FLUSH));
    assert_true(guest_negotiate(g, g->dev, F_ALL_RO));
}

static void test_read_write(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t out = pattern(g, 65536, 3), in = guest_alloc(g, 65536, 4096);
    assert_int_equal(request(g, OUT, 5, out, 65536), OK);
    assert_int_equal(request(g, IN, 5, in, 65536), OK);
    assert_memory_equal(guest_at(g, in, 65536), guest_at(g, out, 65536), 65536);
    assert_int_equal(request(g, OUT, DISK / 512 - 1, out, 512), OK);
    assert_int_equal(request(g, IN, DISK / 512 - 1, in, 512), OK);
    assert_memory_equal(guest_at(g, in, 512), guest_at(g, out, 512), 512);
    assert_int_equal(request(g, IN, 4, in, 512), OK);
    assert_int_equal(((uint8_t *)guest_at(g, in, 512))[511], 0);
    assert_int_equal(blk_bytes_written(f->blk), 65536 + 512);
    assert_int_equal(request(g, FLUSH, 0, 0, 0), OK);
    assert_int_equal(flushes, 1);
}

/* How a driver cuts its buffers means nothing (§2.7.4). */
static void test_framing(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    uint16_t head;
    uint32_t len;
    guest_start(g, f->blk, F_ALL_RW | GUEST_F_INDIRECT);
    uint64_t all = pattern(g, 4096, 9), in = guest_alloc(g, 4096, 512);
    uint64_t h = put_header(g, OUT, 0);
    memmove(guest_at(g, all, 16), guest_at(g, h, 16), 16);
    uint64_t s = put_status(g);
    /* header in three parts, the last with the first sector's beginning */
    guest_add(g, 0,
              (struct guest_buf[]){{all, 7, false},
                                   {all + 7, 2, false},
                                   {all + 9, 107, false},
                                   {all + 116, 412, false},
                                   {s, 1, true}},
              5);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(status_at(g, s), OK);
    /* status at the end of the data; one byte alone before it */
    h = put_header(g, IN, 0);
    guest_add_indirect(g, 0,
                       (struct guest_buf[]){{h, 16, false}, {in, 1, true}, {in + 1, 512, true}}, 3);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(len, 513);
    assert_int_equal(status_at(g, in + 512), OK);
    assert_memory_equal(guest_at(g, in, 512), guest_at(g, all + 16, 512), 512);
}

static void test_longest_chain(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    uint16_t head;
    uint32_t len;
    guest_start(g, f->blk, F_ALL_RW | GUEST_F_INDIRECT);
    struct guest_buf b[128];
    uint64_t data = guest_alloc(g, 126 * 4096, 4096), s = put_status(g);
    b[0] = (struct guest_buf){put_header(g, IN, 0), 16, false};
    for (unsigned i = 0; i < 126; i++)
        b[1 + i] = (struct guest_buf){data + 4096 * i, 4096, true};
    b[127] = (struct guest_buf){s, 1, true};
    guest_add_indirect(g, 0, b, 128);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(len, 126 * 4096 + 1);
    assert_int_equal(status_at(g, s), OK);
}

static void test_bad_requests(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t data = guest_alloc(g, 66 * MIB, 4096);
    static const uint32_t both[] = {IN, OUT};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(request(g, both[i], DISK / 512, data, 512), IOERR);
        assert_int_equal(request(g, both[i], DISK / 512 - 1, data, 1024), IOERR);
        assert_int_equal(request(g, both[i], UINT64_MAX, data, 512), IOERR);
        assert_int_equal(request(g, both[i], UINT64_C(1) << 55, data, 512), IOERR);
        assert_int_equal(request(g, both[i], (UINT64_C(1) << 55) - 1, data, 512), IOERR);
        assert_int_equal(request(g, both[i], 0, data, 511), IOERR);
        assert_int_equal(request(g, both[i], 0, data, 513), IOERR);
        assert_int_equal(request(g, both[i], 0, data, 65 * MIB), IOERR); /* longer than the disk */
        assert_int_equal(request(g, both[i], 0, data, 32 * MIB + 512), IOERR);
        assert_int_equal(request(g, both[i], 0, data, 32 * MIB), OK);
        assert_int_equal(request(g, both[i], 0, data, 0), OK);
    }
    assert_int_equal(request(g, 2, 0, data, 512), UNSUPP);
    assert_int_equal(request(g, UINT32_MAX, 0, data, 512), UNSUPP);
    assert_int_equal(blk_bytes_written(f->blk), 32 * MIB);
}

static void test_short_header(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    uint16_t head;
    uint32_t len;
    start(f);
    uint64_t s = put_status(g), h = put_header(g, IN, 0);
    guest_add(g, 0, (struct guest_buf[]){{h, 15, false}, {s, 1, true}}, 2);
    uint64_t t = put_status(g);
    guest_add(g, 0, &(struct guest_buf){t, 1, true}, 1); /* none at all */
    guest_kick(g, 0);
    guest_run(g);
    assert_true(guest_used(g, 0, &head, &len));
    assert_int_equal(len, 1);
    assert_int_equal(status_at(g, s), IOERR);
    assert_int_equal(status_at(g, t), IOERR);
}

static void test_no_status(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t data = pattern(g, 512, 1);
    guest_add(g, 0, (struct guest_buf[]){{put_header(g, OUT, 0), 16, false}, {data, 512, false}},
              2);
    guest_kick(g, 0);
    guest_run(g);
    assert_int_equal(guest_read(g, R_STATUS), 15 | GUEST_NEEDS_RESET);
    assert_int_equal(blk_bytes_written(f->blk), 0);
    start(f); /* after a reset it is as new */
    assert_int_equal(request(g, OUT, 0, data, 512), OK);
}

static void test_read_only(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    make_again(f, true);
    guest_start(g, f->blk, F_ALL_RO);
    uint64_t data = pattern(g, 512, 1);
    assert_int_equal(request(g, OUT, 0, data, 512), IOERR);
    assert_int_equal(request(g, DISCARD, 0, data, 16), UNSUPP);
    assert_int_equal(request(g, WRITE_ZEROES, 0, data, 16), UNSUPP);
    assert_int_equal(request(g, IN, 0, data, 512), OK);
    assert_int_equal(*(uint8_t *)guest_at(g, data, 1), 0);
    assert_int_equal(blk_bytes_written(f->blk), 0);
}

static uint64_t put_range(struct guest *g, uint64_t sector, uint32_t n, uint32_t flags)
{
    uint64_t at = guest_alloc(g, 16, 1);
    uint8_t *p = guest_at(g, at, 16);
    le64_put((struct le64 *)p, sector);
    le32_put((struct le32 *)(p + 8), n);
    le32_put((struct le32 *)(p + 12), flags);
    return at;
}

static void test_ranges(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    static const uint32_t both[] = {DISCARD, WRITE_ZEROES};
    start(f);
    uint64_t data = pattern(g, 65536, 1), in = guest_alloc(g, 65536, 512);
    for (size_t i = 0; i < 2; i++) {
        uint32_t type = both[i];
        const struct {
            uint64_t sector;
            uint32_t n, flags;
            uint8_t status;
        } cases[] = {
            {8, 16, 0, OK},
            {8, 16, 1, type == DISCARD ? UNSUPP : OK},
            {8, 16, 2, UNSUPP},
            {8, 16, 0x80000000, UNSUPP},
            {DISK / 512 - 8, 8, 0, OK},
            {DISK / 512 - 8, 9, 0, IOERR},
            {UINT64_MAX, 8, 0, IOERR},
            {UINT64_C(1) << 55, 8, 0, IOERR},
            {0, UINT32_MAX, 0, IOERR},
            {0, (1 << 19) + 1, 0, IOERR},
            {0, 0, 0, OK},
        };
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            uint64_t at = put_range(g, cases[k].sector, cases[k].n, cases[k].flags);
            assert_int_equal(request(g, OUT, 0, data, 65536), OK);
            assert_int_equal(request(g, type, 0, at, 16), cases[k].status);
        }
        assert_int_equal(request(g, type, 0, data, 15), IOERR);
        assert_int_equal(request(g, type, 0, data, 0), IOERR);
        assert_int_equal(request(g, type, 0, data, 16 * 17), IOERR);
    }
    uint64_t two = put_range(g, 1, 1, 1);
    put_range(g, 16, 2, 0); /* next to it */
    assert_int_equal(request(g, WRITE_ZEROES, 0, two, 32), OK);
    assert_int_equal(request(g, IN, 0, in, 65536), OK);
    uint8_t *p = guest_at(g, in, 65536), *q = guest_at(g, data, 65536);
    memset(q + 512, 0, 512);
    memset(q + 16 * 512, 0, 1024);
    assert_memory_equal(p, q, 65536);
    guest_start(g, f->blk, F_FLUSH);
    assert_int_equal(request(g, DISCARD, 0, two, 16), UNSUPP);
    assert_int_equal(request(g, WRITE_ZEROES, 0, two, 16), UNSUPP);
}

static void test_get_id(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t at = pattern(g, 64, 0xa0);
    assert_int_equal(request(g, GET_ID, 0, at, 4), OK);
    assert_memory_equal(guest_at(g, at, 4), "seri", 4);
    assert_int_equal(((uint8_t *)guest_at(g, at, 64))[4], (0xa0 + 28) & 0xff);
    assert_int_equal(request(g, GET_ID, 0, at, 30), OK);
    assert_memory_equal(guest_at(g, at, 20), "serial-number\0\0\0\0\0\0\0", 20);
    assert_int_equal(((uint8_t *)guest_at(g, at, 64))[20], (0xa0 + 140) & 0xff);
    assert_int_equal(request(g, GET_ID, 0, at, 0), OK);
}

/* Without FLUSH a driver has a write-through disk. */
static void test_write_through(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->blk, 0);
    uint64_t data = pattern(g, 512, 1);
    assert_int_equal(request(g, OUT, 0, data, 512), OK);
    assert_int_equal(flushes, 1);
    assert_int_equal(request(g, IN, 0, data, 512), OK);
    assert_int_equal(request(g, OUT, DISK, data, 512), IOERR);
    assert_int_equal(flushes, 1);
    start(f);
    assert_int_equal(request(g, OUT, 0, data, 512), OK);
    assert_int_equal(flushes, 1);
}

/* In order, in bounded batches, one interrupt for each. */
static void test_batches(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    uint16_t head, heads[32];
    uint32_t len;
    guest_start(g, f->blk, F_ALL_RW | GUEST_F_INDIRECT);
    guest_write(g, R_STATUS, 0);
    assert_true(guest_negotiate(g, g->dev, F_ALL_RW | GUEST_F_INDIRECT));
    guest_queue_setup(g, 0, 32);
    guest_write(g, R_STATUS, 15);
    guest_run(g);
    uint64_t data = guest_alloc(g, 32 * 512, 512), s = put_status(g);
    for (unsigned i = 0; i < 32; i++) {
        struct guest_buf b[] = {
            {put_header(g, IN, i), 16, false}, {data + 512 * i, 512, true}, {s, 1, true}};
        heads[i] = guest_add_indirect(g, 0, b, 3);
    }
    unsigned before = atomic_load(&g->interrupts), n = 0;
    guest_kick(g, 0);
    assert_int_equal(guest_run_at_most(g, 1), 1);
    for (; guest_used(g, 0, &head, &len); n++)
        assert_int_equal(head, heads[n]);
    assert_int_equal(n, 16);
    assert_int_equal(atomic_load(&g->interrupts), before + 1);
    guest_run(g);
    for (; guest_used(g, 0, &head, &len); n++)
        assert_int_equal(head, heads[n]);
    assert_int_equal(n, 32);
    assert_in_range(atomic_load(&g->interrupts), before + 2, before + 2);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static unsigned used_count(struct guest *g)
{
    uint16_t head;
    uint32_t len;
    unsigned n = 0;
    while (guest_used(g, 0, &head, &len))
        n++;
    return n;
}

static void test_rate(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    static const struct rate_limit limits[][2] = {
        {{0, 0}, {20, 1}},          /* one request in 50 ms */
        {{10580, 529}, {0, 0}},     /* a sector with header and status in 50 ms */
        {{10580, 529}, {1000, 10}}, /* both, bytes decide */
    };
    for (size_t i = 0; i < 3; i++) {
        virtio_free(f->blk);
        make(f, false, limits[i][0], limits[i][1]);
        start(f);
        uint64_t data = pattern(g, 512, 1), s[3];
        for (unsigned k = 0; k < 3; k++)
            s[k] = submit(g, OUT, k, data, 512);
        double begin = now_ms();
        guest_kick(g, 0);
        assert_in_range(guest_run(g), 1, 4);
        assert_int_equal(used_count(g), 1);
        guest_kick(g, 0); /* a notification does not get round it */
        guest_run(g);
        assert_int_equal(used_count(g), 0);
        unsigned turns = 0;
        while (status_at(g, s[2]) == NO_STATUS && turns++ < 10)
            ev_turn(g->loop, 1000);
        assert_in_range(turns, 1, 6);
        assert_in_range((uint64_t)(now_ms() - begin), 99, 1000);
        assert_int_equal(used_count(g), 2);
        assert_int_equal(status_at(g, s[1]), OK);
    }
}

static void test_full(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t data = pattern(g, 512, 1);
    full_for = 2;
    uint64_t first = submit(g, OUT, 0, data, 512), second = submit(g, IN, 0, data, 512);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(blk_is_stuck(f->blk));
    assert_int_equal(f->full, 1);
    assert_int_equal(used_count(g), 0);
    assert_int_equal(status_at(g, second), NO_STATUS); /* order is kept */
    double begin = now_ms();
    while (f->again == 0 && now_ms() < begin + 5000)
        ev_turn(g->loop, 1000);
    assert_in_range((uint64_t)(now_ms() - begin), 1500, 4000);
    guest_run(g);
    assert_int_equal(used_count(g), 2);
    assert_int_equal(status_at(g, first), OK);
    assert_int_equal(status_at(g, second), OK);
    assert_false(blk_is_stuck(f->blk));
    assert_int_equal(f->full, 1);
    assert_int_equal(f->again, 1);
    assert_int_equal(blk_bytes_written(f->blk), 512);
}

static void test_reset_while_full(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t data = pattern(g, 512, 1);
    full_for = 1;
    uint64_t s = submit(g, OUT, 0, data, 512);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(blk_is_stuck(f->blk));
    guest_write(g, R_STATUS, 0);
    assert_false(blk_is_stuck(f->blk));
    assert_int_equal(f->again, 0); /* told on the disk thread, not here */
    ev_turn(g->loop, 3000);
    assert_int_equal(f->again, 1);
    assert_int_equal(status_at(g, s), NO_STATUS);
    start(f);
    assert_int_equal(request(g, OUT, 0, data, 512), OK);
}

static void test_persist_while_full(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    start(f);
    uint64_t data = pattern(g, 512, 1);
    full_for = 1;
    uint64_t s = submit(g, OUT, 7, data, 512);
    guest_kick(g, 0);
    guest_run(g);
    assert_true(blk_is_stuck(f->blk));
    uint8_t *p;
    size_t n;
    struct err e = {0};
    guest_save(g, &p, &n);
    make_again(f, false);
    assert_int_equal(guest_restore(g, f->blk, p, n, &e), 0);
    guest_run(g);
    assert_int_equal(used_count(g), 1);
    assert_int_equal(status_at(g, s), OK);
    assert_int_equal(request(g, IN, 7, data, 512), OK);
    free(p);
}

static void test_restore_refuses(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    guest_start(g, f->blk, 0);
    uint8_t *p;
    size_t n;
    struct err e = {0};
    guest_save(g, &p, &n);
    make_again(f, true);
    assert_int_equal(guest_restore(g, f->blk, p, n, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "not 67108864 (1)"));
    assert_int_equal(ftruncate(f->file, (off_t)DISK / 2), 0);
    make_again(f, false);
    assert_int_equal(guest_restore(g, f->blk, p, n, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "67108864 bytes"));
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_negotiate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_framing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_longest_chain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_short_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ranges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_get_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_write_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_while_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_persist_while_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restore_refuses, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
