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
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_driver.h"
#include "vmm/le.h"
#include "vmm/virtio/balloon.h"

#define BIT(n) (UINT64_C(1) << (n))
#define REPORTING BIT(VIRTIO_BALLOON_F_REPORTING)
#define OFFERED (REPORTING | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM))
enum { INFLATE = 0, DEFLATE = 1, REPORT = 2 };
#define AREA (UINT64_C(4) << 20) /* pages to give away begin here */

struct fixture {
    struct guest g;
    struct virtio_dev *b;
    int pagemap;
};

static void make_device(struct fixture *f)
{
    struct err e = {0};
    assert_int_equal(balloon_new(guest_place(&f->g, 4), &f->b, &e), 0);
}

static struct fixture *make(uint64_t bytes)
{
    struct fixture *f = calloc(1, sizeof *f);
    guest_init(&f->g, bytes);
    make_device(f);
    f->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    assert_true(f->pagemap >= 0);
    return f;
}

static int set_up(void **state)
{
    *state = make(16 << 20);
    return 0;
}

static int set_up_high(void **state) /* 2 MiB above the hole */
{
    *state = make(GMEM_HOLE_START + (2 << 20));
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_free(f->b);
    guest_done(&f->g);
    close(f->pagemap);
    free(f);
    return 0;
}

static void start(struct fixture *f, uint64_t features)
{
    guest_start(&f->g, f->b, features);
}

static void run(struct fixture *f)
{
    guest_run(&f->g);
    assert_int_equal(guest_run(&f->g), 0);
}

static void touch(struct fixture *f, uint64_t gpa, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        memset(guest_at(&f->g, gpa + i * UINT64_C(4096), 4096), 0x5a, 4096);
}

/* How many of these pages are private memory of the process: present, not a file's (bit 61). */
static unsigned resident(struct fixture *f, uint64_t gpa, unsigned pages)
{
    unsigned n = 0;
    for (unsigned i = 0; i < pages; i++) {
        uint64_t entry;
        uintptr_t at = (uintptr_t)guest_at(&f->g, gpa + i * UINT64_C(4096), 4096);
        assert_int_equal(pread(f->pagemap, &entry, 8, (off_t)(at / 4096 * 8)), 8);
        n += (entry & BIT(63)) && !(entry & BIT(61));
    }
    return n;
}

static unsigned long rss_pages(void)
{
    char text[200] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return strtoul(strchr(text, ' '), NULL, 10);
}

static void give(struct fixture *f, unsigned q, const uint32_t *pfn, unsigned n)
{
    uint64_t at = guest_alloc(&f->g, 4 * n, 4);
    for (unsigned i = 0; i < n; i++)
        le32_put(guest_at(&f->g, at + 4 * i, 4), pfn[i]);
    guest_add(&f->g, q, &(struct guest_buf){at, 4 * n, false}, 1);
    guest_kick(&f->g, q);
    run(f);
}

static unsigned used(struct fixture *f, unsigned q)
{
    uint16_t head;
    uint32_t len;
    unsigned n = 0;
    for (; guest_used(&f->g, q, &head, &len); n++)
        assert_int_equal(len, 0);
    return n;
}

static uint32_t pfn_of(uint64_t gpa)
{
    return (uint32_t)(gpa / 4096);
}

static void test_negotiate(void **state)
{
    struct fixture *f = *state;
    struct guest *g = &f->g;
    g->dev = f->b;
    assert_int_equal(guest_read(g, R_DEVICE_ID), 5);
    guest_write(g, R_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(guest_read(g, R_DEVICE_FEATURES),
                     OFFERED | GUEST_F_INDIRECT | GUEST_F_EVENT_IDX);
    assert_false(guest_negotiate(g, g->dev, BIT(VIRTIO_BALLOON_F_PAGE_POISON)));
    assert_false(guest_negotiate(g, g->dev, BIT(VIRTIO_BALLOON_F_FREE_PAGE_HINT)));
    assert_false(guest_negotiate(g, g->dev, BIT(VIRTIO_BALLOON_F_STATS_VQ)));
    assert_true(guest_negotiate(g, g->dev, OFFERED));
}

static void test_inflate(void **state)
{
    struct fixture *f = *state;
    uint32_t pfn[256];
    start(f, OFFERED);
    touch(f, AREA, 512);
    unsigned long before = rss_pages();
    assert_int_equal(resident(f, AREA, 512), 512);
    for (unsigned i = 0; i < 256; i++) /* from both ends: runs that grow down and up */
        pfn[i] = i < 128 ? pfn_of(AREA) + 255 - i : pfn_of(AREA) + i - 128;
    give(f, INFLATE, pfn, 256);
    assert_int_equal(used(f, INFLATE), 1);
    assert_int_equal(resident(f, AREA, 256), 0);
    assert_int_equal(resident(f, AREA + (1 << 20), 256), 256);
    assert_true(rss_pages() + 200 < before);
    assert_int_equal(*(uint8_t *)guest_at(&f->g, AREA, 1), 0);
    give(f, DEFLATE, pfn, 256);
    assert_int_equal(used(f, DEFLATE), 1);
    touch(f, AREA, 256);
    assert_int_equal(resident(f, AREA, 256), 256);
}

/* Every second page, in no order, some twice. */
static void test_inflate_scattered(void **state)
{
    struct fixture *f = *state;
    uint32_t pfn[200];
    start(f, OFFERED);
    touch(f, AREA, 256);
    for (unsigned i = 0; i < 200; i++)
        pfn[i] = pfn_of(AREA) + i * 74 % 256; /* 74: even, and all even pages come up */
    give(f, INFLATE, pfn, 200);
    assert_int_equal(resident(f, AREA, 256), 128);
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(resident(f, AREA + i * UINT64_C(4096), 1), i & 1);
}

static void test_bad_pfns(void **state)
{
    struct fixture *f = *state;
    uint32_t pfn[] = {UINT32_MAX, pfn_of(16 << 20), 0xc0000, 0x100000, pfn_of(AREA), 0x80000000};
    start(f, OFFERED);
    touch(f, AREA, 2);
    give(f, INFLATE, pfn, ARRAY_LEN(pfn));
    assert_int_equal(used(f, INFLATE), 1);
    assert_int_equal(resident(f, AREA, 1), 0);
    assert_int_equal(resident(f, AREA + 4096, 1), 1);
    assert_int_equal(guest_read(&f->g, R_STATUS), 15);
}

/* Empty, cut in the middle of a number, far too long: the chain comes back, work stays bounded. */
static void test_bad_chains(void **state)
{
    struct fixture *f = *state;
    start(f, OFFERED);
    touch(f, AREA, 2048);
    uint64_t at = guest_alloc(&f->g, 8192, 4);
    for (unsigned i = 0; i < 2048; i++)
        le32_put(guest_at(&f->g, at + 4 * i, 4), pfn_of(AREA) + i);
    guest_add(&f->g, INFLATE, &(struct guest_buf){at, 7, false}, 1);
    guest_add(&f->g, INFLATE, &(struct guest_buf){at, 64, true}, 1);
    guest_add(&f->g, DEFLATE, &(struct guest_buf){at, 1, true}, 1);
    guest_add(&f->g, REPORT, &(struct guest_buf){at, 4096, false}, 1);
    for (unsigned q = INFLATE; q <= REPORT; q++)
        guest_kick(&f->g, q);
    run(f);
    assert_int_equal(resident(f, AREA, 2048), 2047);
    guest_add(&f->g, INFLATE, &(struct guest_buf){at, 8192, false}, 1);
    guest_kick(&f->g, INFLATE);
    run(f);
    assert_int_equal(resident(f, AREA, 2048), 1024);
    assert_int_equal(used(f, INFLATE), 3);
    assert_int_equal(used(f, DEFLATE), 1);
    assert_int_equal(used(f, REPORT), 1);
    guest_add(&f->g, INFLATE, &(struct guest_buf){UINT64_C(1) << 40, 4, false}, 1);
    guest_kick(&f->g, INFLATE);
    run(f);
    assert_true(guest_read(&f->g, R_STATUS) & GUEST_NEEDS_RESET);
    start(f, OFFERED);
    give(f, INFLATE, &(uint32_t){pfn_of(AREA) + 2000}, 1);
    assert_int_equal(resident(f, AREA + 2000 * 4096, 1), 0);
}

static void test_around_the_hole(void **state)
{
    struct fixture *f = *state;
    uint64_t low = GMEM_HOLE_START - 8192, high = GMEM_HOLE_END;
    start(f, OFFERED);
    touch(f, low, 2);
    touch(f, high, 2);
    uint32_t pfn[] = {pfn_of(low) + 1, pfn_of(low) + 2, pfn_of(high), pfn_of(high) + 512};
    give(f, INFLATE, pfn, ARRAY_LEN(pfn));
    assert_int_equal(resident(f, low, 1), 1);
    assert_int_equal(resident(f, low + 4096, 1), 0);
    assert_int_equal(resident(f, high, 1), 0);
    assert_int_equal(resident(f, high + 4096, 1), 1);
    /* A range over the end of a region is no RAM: the queue is broken, nothing is dropped. */
    guest_add(&f->g, REPORT, &(struct guest_buf){low, 16384, true}, 1);
    guest_kick(&f->g, REPORT);
    run(f);
    assert_int_equal(resident(f, low, 1), 1);
    assert_true(guest_read(&f->g, R_STATUS) & GUEST_NEEDS_RESET);
}

static void report_in(struct fixture *f, uint64_t features, unsigned q)
{
    struct balloon_stats before, after;
    balloon_stats(f->b, &before);
    start(f, features);
    touch(f, AREA, 64);
    struct guest_buf b[] = {
        {AREA, 8 * 4096, true},
        {AREA + 8 * 4096 + 1, 2 * 4096, true}, /* only one page of it is whole */
        {AREA + 12 * 4096, 4095, true},
        {AREA + 16 * 4096, 16 * 4096, true},
    };
    guest_add(&f->g, q, b, ARRAY_LEN(b));
    guest_kick(&f->g, q);
    run(f);
    assert_int_equal(used(f, q), 1);
    assert_int_equal(resident(f, AREA, 8), 0);
    assert_int_equal(resident(f, AREA + 8 * 4096, 1), 1);
    assert_int_equal(resident(f, AREA + 9 * 4096, 1), 0);
    assert_int_equal(resident(f, AREA + 10 * 4096, 6), 6);
    assert_int_equal(resident(f, AREA + 16 * 4096, 16), 0);
    assert_int_equal(resident(f, AREA + 32 * 4096, 32), 32);
    balloon_stats(f->b, &after);
    assert_int_equal(after.reported_bytes - before.reported_bytes, 25 * 4096);
}

/* Wherever the driver finds the queue: numbered with gaps or without. */
static void test_report(void **state)
{
    struct fixture *f = *state;
    report_in(f, OFFERED, REPORT);
    report_in(f, OFFERED, 4);
    report_in(f, REPORTING, REPORT);
}

static void test_report_not_negotiated(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    touch(f, AREA, 1);
    guest_add(&f->g, REPORT, &(struct guest_buf){AREA, 4096, true}, 1);
    guest_kick(&f->g, REPORT);
    run(f);
    assert_int_equal(used(f, REPORT), 1);
    assert_int_equal(resident(f, AREA, 1), 1);
}

/* RAM over a memory file: a dropped page is the file's again, and no longer private memory. */
static void test_file_backed(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    int fd = memfd_create("memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 16 << 20), 0);
    assert_int_equal(pwrite(fd, "old", 4, AREA), 4);
    assert_int_equal(gmem_map_file(&f->g.mem, fd, &e), 0);
    start(f, OFFERED);
    touch(f, AREA, 2);
    assert_int_equal(resident(f, AREA, 2), 2);
    give(f, INFLATE, &(uint32_t){pfn_of(AREA)}, 1);
    assert_int_equal(resident(f, AREA, 2), 1);
    assert_string_equal(guest_at(&f->g, AREA, 4), "old");
    assert_int_equal(resident(f, AREA, 2), 1);
    close(fd);
}

/* ---- configuration ---- */

static uint32_t config32(struct fixture *f, uint32_t offset)
{
    struct le32 v;
    guest_config(&f->g, offset, &v, 4);
    return le32_get(&v);
}

static void test_target(void **state)
{
    struct fixture *f = *state;
    struct balloon_stats s;
    start(f, OFFERED);
    uint32_t generation = guest_read(&f->g, R_CONFIG_GENERATION);
    balloon_set_target(f->b, 1000);
    assert_int_equal(config32(f, 0), 1000);
    assert_int_equal(guest_read(&f->g, R_INTERRUPT_STATUS), 2);
    assert_true(guest_read(&f->g, R_CONFIG_GENERATION) != generation);
    guest_write(&f->g, R_CONFIG + 4, 900);
    guest_write(&f->g, R_CONFIG, 5); /* the target is not the driver's to set */
    assert_int_equal(config32(f, 4), 900);
    balloon_stats(f->b, &s);
    assert_int_equal(s.actual_pages, 900);
    assert_int_equal(s.target_pages, 1000);
    balloon_set_target(f->b, UINT64_MAX);
    assert_int_equal(config32(f, 0), (16 << 20) / 4096);
    guest_write(&f->g, R_STATUS, 0);
    balloon_stats(f->b, &s);
    assert_int_equal(s.actual_pages, 0);
    assert_int_equal(s.target_pages, (16 << 20) / 4096);
}

/* ---- persistence ---- */

static void test_persist(void **state)
{
    struct fixture *f = *state;
    struct balloon_stats s;
    struct err e = {0};
    uint8_t *saved;
    size_t n;
    report_in(f, OFFERED, REPORT);
    balloon_set_target(f->b, 1000);
    guest_write(&f->g, R_CONFIG + 4, 900);
    guest_save(&f->g, &saved, &n);
    virtio_free(f->b);
    make_device(f);
    assert_int_equal(guest_restore(&f->g, f->b, saved, n, &e), 0);
    run(f);
    balloon_stats(f->b, &s);
    assert_int_equal(s.target_pages, 1000);
    assert_int_equal(s.actual_pages, 900);
    assert_int_equal(s.reported_bytes, 25 * 4096);
    assert_int_equal(config32(f, 0), 1000);
    give(f, INFLATE, &(uint32_t){pfn_of(AREA) + 40}, 1);
    assert_int_equal(resident(f, AREA + 40 * 4096, 1), 0);
    saved[n - 1] ^= 1;
    assert_int_equal(guest_restore(&f->g, f->b, saved, n, &e), -EBADMSG);
    free(saved);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_negotiate),
        TEST(test_inflate),
        TEST(test_inflate_scattered),
        TEST(test_bad_pfns),
        TEST(test_bad_chains),
        cmocka_unit_test_setup_teardown(test_around_the_hole, set_up_high, tear_down),
        TEST(test_report),
        TEST(test_report_not_negotiated),
        TEST(test_file_backed),
        TEST(test_target),
        TEST(test_persist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
