/* SPDX-License-Identifier: Apache-2.0 */
/* What disk_open() refuses, limits of requests, files that change underneath, space. */
#include "scratch.h"

#include <sys/stat.h>

#include "disk/header.h"

#define MIB (UINT64_C(1) << 20)

static unsigned char data[1 << 20];

static void begin(struct scratch *s, unsigned layers)
{
    scratch_begin(s);
    memset(data, 0x5a, sizeof data);
    scratch_raw(s, data, sizeof data);
    for (unsigned i = 1; i <= layers; i++)
        scratch_layer(s, i, MIB);
}

static void refused(const struct scratch *s, unsigned n, const char *text)
{
    struct disk *d = NULL;
    struct err e = {0};
    assert_int_equal(scratch_try_open(s, n, false, false, &d, &e), -EBADMSG);
    assert_null(d);
    if (!strstr(e.text, text))
        fail_msg("'%s' instead of '%s'", e.text, text);
}

static void patch(const struct scratch *s, unsigned n, size_t at, const void *p, size_t len)
{
    char path[SCRATCH_PATH];
    unsigned char header[LAYER_BLOCK];
    int fd = open(scratch_path(s, "file", n, path), O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, header, sizeof header, 0), sizeof header);
    memcpy(header + at, p, len);
    uint32_t sum = header_checksum(header);
    memcpy(header + HEADER_AT_CHECKSUM, &sum, sizeof sum);
    assert_int_equal(pwrite(fd, header, sizeof header, 0), sizeof header);
    close(fd);
}

static void resize(const struct scratch *s, unsigned n, int64_t bytes)
{
    char path[SCRATCH_PATH];
    assert_int_equal(truncate(scratch_path(s, "file", n, path), bytes), 0);
}

static void test_refused_files(void **state)
{
    (void)state;
    struct scratch s;
    uint64_t larger = 2 * MIB;
    begin(&s, 2);
    disk_close(scratch_open(&s, 3, false));
    patch(&s, 2, HEADER_AT_BYTES, &larger, sizeof larger); /* the file is too short for it */
    refused(&s, 3, "disk file 1 of 3: the layer's file has");
    scratch_end(&s);

    begin(&s, 2);
    patch(&s, 2, HEADER_AT_BASE_FORMAT, "\0", 1);
    refused(&s, 3, "disk file 2 of 3: the layer above wants a raw file");
    scratch_end(&s);

    begin(&s, 2);
    patch(&s, 1, HEADER_AT_VERSION, "\2", 1);
    refused(&s, 3, "disk file 2 of 3: layer format version 2");
    resize(&s, 1, 100);
    refused(&s, 3, "cut short");
    resize(&s, 1, 0);
    refused(&s, 3, "not a copy-on-write layer");
    scratch_end(&s);

    begin(&s, 0);
    resize(&s, 0, 1000);
    refused(&s, 1, "not a multiple of 512");
    resize(&s, 0, 0);
    refused(&s, 1, "not a multiple of 512");
    scratch_end(&s);
}

static void test_refused_stacks(void **state)
{
    (void)state;
    struct scratch s;
    struct disk *d = NULL;
    char path[SCRATCH_PATH];
    begin(&s, 1);
    int layer = open(scratch_path(&s, "file", 1, path), O_RDWR | O_CLOEXEC);
    int raw = open(scratch_path(&s, "file", 0, path), O_RDONLY | O_CLOEXEC);
    int writable = open(path, O_RDWR | O_CLOEXEC),
        append = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    int dir = open(s.dir, O_RDONLY | O_CLOEXEC);
    struct disk_layer_fd stack[DISK_LAYERS_MAX + 1] = {{layer, true}, {raw, false}};
    assert_int_equal(disk_open(&d, stack, 0, false, false, NULL), -EINVAL);
    assert_int_equal(disk_open(&d, stack, DISK_LAYERS_MAX + 1, false, false, NULL), -EINVAL);
    assert_int_equal(disk_open(&d, stack, 1, false, false, NULL), -EBADMSG); /* nothing below */
    assert_int_equal(disk_open(&d, stack, 2, true, false, NULL),
                     -EACCES); /* read-only, writable fd */
    stack[1].fd = writable;
    assert_int_equal(disk_open(&d, stack, 2, false, false, NULL), -EACCES);
    stack[0] = (struct disk_layer_fd){raw, false};
    assert_int_equal(disk_open(&d, stack, 1, false, false, NULL), -EACCES);
    stack[0].fd = append;
    assert_int_equal(disk_open(&d, stack, 1, false, false, NULL), -EACCES);
    stack[0].fd = dir;
    assert_int_equal(disk_open(&d, stack, 1, true, false, NULL), -EBADMSG);
    stack[0].fd = -1;
    assert_int_equal(disk_open(&d, stack, 1, true, false, NULL), -EBADF);
    stack[0] = (struct disk_layer_fd){writable, false};
    stack[1] = (struct disk_layer_fd){raw, false};
    assert_int_equal(disk_open(&d, stack, 2, false, false, NULL), -EBADMSG);
    int fds[] = {layer, raw, writable, append, dir};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        assert_int_equal(close(fds[i]), 0);
    scratch_end(&s);
}

/* One block from each of 63 layers, the rest from the raw file. */
static void test_longest_stack(void **state)
{
    (void)state;
    struct scratch s;
    begin(&s, 0);
    for (unsigned n = 2; n <= DISK_LAYERS_MAX; n++) {
        unsigned char block[LAYER_BLOCK];
        scratch_layer(&s, n - 1, MIB);
        struct disk *d = scratch_open(&s, n, false);
        memset(block, (int)n, sizeof block);
        assert_int_equal(scratch_write(d, block, sizeof block, n * 2 * LAYER_BLOCK), 0);
        disk_close(d);
    }
    struct disk *d = scratch_open(&s, DISK_LAYERS_MAX, true);
    assert_int_equal(scratch_read(d, data, sizeof data, 0), 0);
    for (size_t i = 0; i < sizeof data; i++) {
        size_t block = i / LAYER_BLOCK;
        bool own = block % 2 == 0 && block >= 4 && block / 2 <= DISK_LAYERS_MAX;
        assert_int_equal(data[i], own ? block / 2 : 0x5a);
    }
    disk_close(d);
    scratch_end(&s);
}

/* What a short layer cuts off stays cut off, also inside a block and under a longer layer. */
static void test_short_in_between(void **state)
{
    (void)state;
    struct scratch s;
    begin(&s, 0);
    const size_t cut = 5 * LAYER_BLOCK + 512;
    scratch_layer(&s, 1, cut);
    scratch_layer(&s, 2, MIB);
    struct disk *d = scratch_open(&s, 3, false);
    for (int written = 0; written < 2; written++) { /* then with the block copied up */
        assert_int_equal(scratch_read(d, data, sizeof data, 0), 0);
        for (size_t i = 0; i < sizeof data; i++)
            assert_int_equal(data[i], i < cut ? 0x5a : 0);
        memset(data, 0x5a, 512);
        assert_int_equal(scratch_write(d, data, 512, cut - 512), 0);
    }
    disk_close(d);
    scratch_end(&s);
}

static void test_requests(void **state)
{
    (void)state;
    struct scratch s;
    begin(&s, 1);
    struct disk *d = scratch_open(&s, 2, false);
    static const struct {
        uint64_t offset, bytes;
    } bad[] = {
        {1, 512},
        {256, 512},
        {0, 511},
        {0, MIB + 512},
        {MIB, 512},
        {MIB - 512, 1024},
        {UINT64_MAX - 511, 1024},
        {UINT64_MAX - 511, 512},
        {UINT64_C(1) << 63, 512},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct iovec v = {data, bad[i].bytes};
        assert_int_equal(disk_readv(d, &v, 1, bad[i].offset), -EINVAL);
        assert_int_equal(disk_writev(d, &v, 1, bad[i].offset), -EINVAL);
        assert_int_equal(disk_write_zeroes(d, bad[i].offset, bad[i].bytes), -EINVAL);
        assert_int_equal(disk_discard(d, bad[i].offset, bad[i].bytes), -EINVAL);
    }
    struct iovec wrap[2] = {{data, SIZE_MAX - 511}, {data, 1024}};
    assert_int_equal(disk_readv(d, wrap, 2, 0), -EINVAL);
    static struct iovec many[DISK_IOV_MAX + 1];
    assert_int_equal(disk_readv(d, many, DISK_IOV_MAX + 1, 0), -EINVAL);
    assert_int_equal(disk_readv(d, many, DISK_IOV_MAX, MIB), 0); /* nothing, at the end */
    assert_int_equal(disk_writev(d, NULL, 0, MIB), 0);
    assert_int_equal(disk_write_zeroes(d, MIB, 0), 0);
    assert_int_equal(disk_discard(d, MIB, 0), 0);
    disk_close(d);
    d = scratch_open(&s, 2, true);
    assert_true(disk_is_read_only(d));
    assert_int_equal(scratch_write(d, data, 512, 0), -EROFS);
    assert_int_equal(disk_write_zeroes(d, 0, 512), -EROFS);
    assert_int_equal(disk_discard(d, 0, 512), -EROFS);
    assert_int_equal(disk_flush(d), 0);
    disk_close(d);
    scratch_end(&s);
}

/* A file below that was shortened after it was opened is an error, not a signal. */
static void test_shortened_below(void **state)
{
    (void)state;
    struct scratch s;
    begin(&s, 2);
    struct disk *d = scratch_open(&s, 2, false);
    assert_int_equal(scratch_write(d, data, 4096, 0), 0);
    disk_close(d);
    d = scratch_open(&s, 3, false);
    resize(&s, 0, 8192);
    assert_int_equal(scratch_read(d, data, 4096, 8192), -EIO);
    assert_int_equal(scratch_read(d, data, 4096, 4096), 0);
    assert_int_equal(scratch_write(d, data, 512, 8192), -EIO); /* needs the rest of the block */
    assert_int_equal(scratch_write(d, data, 4096, 8192), 0);
    resize(&s, 1, 4096);
    assert_int_equal(scratch_read(d, data, 4096, 0), -EIO);
    disk_close(d);
    scratch_end(&s);
}

static uint64_t allocated(const struct scratch *s, unsigned n)
{
    char path[SCRATCH_PATH];
    struct stat st;
    assert_int_equal(stat(scratch_path(s, "file", n, path), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void test_space_comes_back(void **state)
{
    (void)state;
    struct scratch s;
    for (unsigned layers = 0; layers < 2; layers++) {
        begin(&s, layers);
        struct disk *d = NULL;
        assert_int_equal(scratch_try_open(&s, layers + 1, false, true, &d, NULL), 0);
        assert_int_equal(scratch_write(d, data, sizeof data, 0), 0);
        assert_int_equal(disk_flush(d), 0);
        assert_true(allocated(&s, layers) >= MIB);
        assert_int_equal(disk_discard(d, 4096, MIB / 2), 0);
        assert_in_range(allocated(&s, layers), MIB / 4, MIB / 2 + 16384);
        assert_int_equal(disk_write_zeroes(d, 0, MIB), 0);
        assert_in_range(allocated(&s, layers), 0, 16384);
        assert_int_equal(scratch_read(d, data, sizeof data, 0), 0);
        for (size_t i = 0; i < sizeof data; i++)
            assert_int_equal(data[i], 0);
        disk_close(d);
        scratch_end(&s);
    }
}

/* Zeroes where nothing is below need no bit: the layer is as good as new. */
static void test_zeroes_over_nothing(void **state)
{
    (void)state;
    struct scratch s;
    begin(&s, 0);
    scratch_layer(&s, 1, 4 * MIB);
    struct disk *d = scratch_open(&s, 2, false);
    assert_int_equal(scratch_write(d, data, sizeof data, 2 * MIB), 0);
    assert_int_equal(disk_write_zeroes(d, MIB / 2, 3 * MIB), 0);
    disk_close(d);
    char path[SCRATCH_PATH];
    struct layer_check c;
    int fd = open(scratch_path(&s, "file", 1, path), O_RDONLY | O_CLOEXEC);
    assert_int_equal(layer_check(fd, &c, NULL), 0);
    close(fd);
    assert_int_equal(c.present, MIB / 2 / LAYER_BLOCK);
    assert_int_equal(c.errors + c.leaked, 0);
    scratch_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_files),    cmocka_unit_test(test_refused_stacks),
        cmocka_unit_test(test_longest_stack),    cmocka_unit_test(test_requests),
        cmocka_unit_test(test_short_in_between), cmocka_unit_test(test_shortened_below),
        cmocka_unit_test(test_space_comes_back), cmocka_unit_test(test_zeroes_over_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
