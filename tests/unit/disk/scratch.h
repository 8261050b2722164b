/* SPDX-License-Identifier: Apache-2.0 */
/* Disks in a directory that disappears, and random numbers from a seed that is printed. Asserts. */
#ifndef TESTS_DISK_SCRATCH_H
#define TESTS_DISK_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "disk/disk.h"
#include "disk/layer.h"

#define SCRATCH_PATH 256

static const unsigned char scratch_key[LAYER_KEY_LEN] = "0123456789abcdef0123456789abcde";

struct scratch {
    char dir[SCRATCH_PATH / 2];
    uint64_t random; /* xorshift state */
};

static inline void scratch_begin(struct scratch *s)
{
    const char *seed = getenv("DISK_SEED");
    *s = (struct scratch){.dir = "/tmp/disk-test-XXXXXX"};
    s->random = seed ? strtoull(seed, NULL, 0) : ((uint64_t)getpid() << 20) ^ (uint64_t)time(NULL);
    print_message("DISK_SEED=%llu\n", (unsigned long long)s->random);
    s->random |= 1;
    assert_non_null(mkdtemp(s->dir));
}

static inline void scratch_end(struct scratch *s)
{
    assert_int_equal(fs_remove_tree(s->dir, NULL), 0);
}

static inline uint64_t scratch_random(struct scratch *s, uint64_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random * UINT64_C(0x9e3779b97f4a7c15) >> 16) % below;
}

static inline const char *scratch_path(const struct scratch *s, const char *name, unsigned n,
                                       char out[SCRATCH_PATH])
{
    snprintf(out, SCRATCH_PATH, "%s/%s%u", s->dir, name, n);
    return out;
}

/* File 0 of the stack, raw, with these contents. */
static inline void scratch_raw(const struct scratch *s, const void *p, size_t bytes)
{
    char path[SCRATCH_PATH];
    int fd = open(scratch_path(s, "file", 0, path), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, p, bytes), 0);
    close(fd);
}

/* File n of the stack: an empty layer over file n-1. */
static inline void scratch_layer(const struct scratch *s, unsigned n, uint64_t bytes)
{
    char path[SCRATCH_PATH];
    struct layer_info info = {.bytes = bytes, .base_cow = n > 1};
    struct err e = {0};
    scratch_path(s, "file", n - 1, info.base);
    if (layer_create(scratch_path(s, "file", n, path), &info, scratch_key, &e) < 0)
        fail_msg("%s", e.text);
}

static inline int scratch_try_open(const struct scratch *s, unsigned n, bool read_only,
                                   bool durable, struct disk **ret, struct err *e)
{
    struct disk_layer_fd layer[DISK_LAYERS_MAX] = {0};
    char path[SCRATCH_PATH];
    for (unsigned i = 0; i < n; i++) {
        int flags = i == 0 && !read_only ? O_RDWR : O_RDONLY;
        layer[i].fd = open(scratch_path(s, "file", n - 1 - i, path), flags | O_CLOEXEC);
        layer[i].cow = i + 1 < n;
        assert_true(layer[i].fd >= 0);
    }
    int r = disk_open(ret, layer, n, read_only, durable, e);
    for (unsigned i = 0; r < 0 && i < n; i++)
        assert_int_equal(close(layer[i].fd), 0); /* a failed open leaves them to the caller */
    return r;
}

/* Files n-1 (the top) to 0. */
static inline struct disk *scratch_open(const struct scratch *s, unsigned n, bool read_only)
{
    struct disk *d = NULL;
    struct err e = {0};
    if (scratch_try_open(s, n, read_only, false, &d, &e) < 0)
        fail_msg("%s", e.text);
    return d;
}

static inline int scratch_write(struct disk *d, const void *p, size_t n, uint64_t offset)
{
    struct iovec v = {(void *)(uintptr_t)p, n};
    return disk_writev(d, &v, 1, offset);
}

static inline int scratch_read(struct disk *d, void *p, size_t n, uint64_t offset)
{
    struct iovec v = {p, n};
    return disk_readv(d, &v, 1, offset);
}

#endif
