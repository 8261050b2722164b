/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/bus.h"
#include "vmm/gmem.h"

static void test_one_region(void **state)
{
    (void)state;
    struct gmem m;
    struct err e = {0};
    assert_int_equal(gmem_reserve(&m, 64 << 20, &e), 0);
    assert_int_equal(gmem_map_zero(&m, false, &e), 0);
    assert_ptr_equal(gmem_ptr(&m, 0, 1), m.host);
    assert_ptr_equal(gmem_ptr(&m, (64 << 20) - 8, 8), m.host + (64 << 20) - 8);
    assert_null(gmem_ptr(&m, (64 << 20) - 8, 9));
    assert_null(gmem_ptr(&m, 64 << 20, 1));
    assert_null(gmem_ptr(&m, 0, 0));
    assert_null(gmem_ptr(&m, UINT64_MAX, 2));
    assert_null(gmem_ptr(&m, 8, UINT64_MAX));
    gmem_done(&m);
}

static void test_around_the_hole(void **state)
{
    (void)state;
    struct gmem m;
    struct err e = {0};
    assert_int_equal(gmem_reserve(&m, UINT64_C(4) << 30, &e), 0);
    assert_int_equal(m.n_regions, 2);
    assert_null(gmem_ptr(&m, GMEM_HOLE_START - 4, 8));
    assert_null(gmem_ptr(&m, GMEM_HOLE_START, 1));
    assert_null(gmem_ptr(&m, GMEM_HOLE_END - 1, 1));
    assert_ptr_equal(gmem_ptr(&m, GMEM_HOLE_END, 8), m.host + GMEM_HOLE_START);
    assert_null(gmem_ptr(&m, GMEM_HOLE_END + (UINT64_C(1) << 30), 1));
    gmem_done(&m);
}

static void test_refused_sizes(void **state)
{
    (void)state;
    struct gmem m;
    struct err e = {0};
    assert_int_equal(gmem_reserve(&m, 0, &e), -22);
    assert_int_equal(gmem_reserve(&m, (64 << 20) + 4096, &e), -22);
    assert_int_equal(gmem_reserve(&m, GMEM_MAX_BYTES + (2 << 20), &e), -22);
}

static void test_private_file(void **state)
{
    (void)state;
    struct gmem m;
    struct err e = {0};
    char c = 'a';
    int fd = memfd_create("memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 64 << 20), 0);
    assert_int_equal(pwrite(fd, &c, 1, 5000), 1);
    assert_int_equal(gmem_reserve(&m, 64 << 20, &e), 0);
    assert_int_equal(gmem_map_file(&m, fd, &e), 0);
    char *p = gmem_ptr(&m, 5000, 1);
    assert_int_equal(*p, 'a');
    *p = 'b';
    assert_int_equal(pread(fd, &c, 1, 5000), 1);
    assert_int_equal(c, 'a');
    gmem_done(&m);
    assert_int_equal(ftruncate(fd, (64 << 20) - 4096), 0);
    assert_int_equal(gmem_reserve(&m, 64 << 20, &e), 0);
    assert_int_equal(gmem_map_file(&m, fd, &e), -74); /* EBADMSG */
    gmem_done(&m);
    close(fd);
}

static unsigned last_len;
static uint64_t last_offset;

static void dev_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    last_offset = offset;
    last_len = len;
    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = *(uint8_t *)dev;
}

static void dev_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    last_offset = offset;
    last_len = len;
    *(uint8_t *)dev = *(const uint8_t *)data;
}

static void test_bus(void **state)
{
    (void)state;
    static const struct bus_ops ops = {dev_read, dev_write};
    struct bus b = {0};
    uint8_t dev = 7;
    uint64_t v = 0;
    assert_int_equal(bus_add(&b, 0x1000, 8, &ops, &dev), 0);
    assert_int_equal(bus_add(&b, 0x1007, 8, &ops, &dev), -17);
    assert_int_equal(bus_add(&b, 0xff9, 8, &ops, &dev), -17);
    assert_int_equal(bus_add(&b, 0x1008, 8, &ops, &dev), 0);
    bus_read(&b, 0x1004, &v, 4);
    assert_int_equal(v, 0x07070707);
    assert_int_equal(last_offset, 4);
    bus_read(&b, 0x1005, &v, 4); /* crosses the end: unclaimed, although the next range is there */
    assert_int_equal((uint32_t)v, UINT32_MAX);
    bus_read(&b, 0x2000, &v, 8);
    assert_true(v == UINT64_MAX);
    bus_read(&b, UINT64_MAX, &v, 2);
    assert_int_equal((uint16_t)v, 0xffff);
    dev = 1;
    v = 9;
    bus_write(&b, 0x1006, &v, 4);
    assert_int_equal(dev, 1);
    bus_write(&b, 0x100f, &v, 1);
    assert_int_equal(dev, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_region),    cmocka_unit_test(test_around_the_hole),
        cmocka_unit_test(test_refused_sizes), cmocka_unit_test(test_private_file),
        cmocka_unit_test(test_bus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
