/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's file as a process that owns it may leave it: checked, opened over a raw file, read,
 * written, flattened. Whatever is in it: an error or a disk that gives back what was written.
 *
 * u8 mode, u16 size in sectors; mode & 1: the rest is the file as it is. Otherwise a valid header
 * is made first, then u8 n, n times u16 offset and u8 xor change it behind its checksum; the rest
 * is bitmap and data. mode & 2: the file's size is left at what was written. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk/disk.h"
#include "disk/flatten.h"
#include "disk/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SECTORS_MAX = 2048, BASE_BYTES = 40000 };

struct input {
    const uint8_t *p;
    size_t n;
};

static unsigned take(struct input *in, unsigned bytes)
{
    unsigned v = 0;
    for (unsigned i = 0; i < bytes && in->n; i++, in->n--)
        v |= (unsigned)*in->p++ << 8 * i;
    return v;
}

static void put(int fd, const void *p, size_t n, off_t at)
{
    if (pwrite(fd, p, n, at) != (ssize_t)n)
        abort();
}

static void make_layer(int fd, struct input *in)
{
    static const unsigned char key[LAYER_KEY_LEN];
    unsigned char header[LAYER_BLOCK];
    unsigned mode = take(in, 1);
    struct layer_info info = {.bytes = 512 * (1 + take(in, 2) % SECTORS_MAX), .base = "/base"};
    struct layer_geometry g;
    off_t at = 0;
    if (layer_encode(&info, key, header, NULL) < 0 || layer_geometry(info.bytes, &g) < 0)
        abort();
    if (!(mode & 1)) {
        for (unsigned n = take(in, 1); n; n--) {
            unsigned offset = take(in, 2) % LAYER_BLOCK;
            header[offset] ^= (unsigned char)take(in, 1);
        }
        uint32_t sum = header_checksum(header);
        memcpy(header + HEADER_AT_CHECKSUM, &sum, sizeof sum);
        put(fd, header, sizeof header, 0);
        at = LAYER_BLOCK;
    }
    put(fd, in->p, in->n, at);
    if (!(mode & 2) && ftruncate(fd, (off_t)g.file_bytes) < 0)
        abort();
}

static int again(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        abort();
    return fd;
}

static void use(struct disk *d)
{
    static unsigned char all[SECTORS_MAX * 512], text[8192];
    struct iovec whole = {all, (size_t)disk_bytes(d)};
    assert(disk_bytes(d) <= sizeof all);
    assert(disk_readv(d, &whole, 1, 0) == 0);
    struct iovec part = {text, whole.iov_len < sizeof text ? whole.iov_len : sizeof text};
    uint64_t at = (whole.iov_len - part.iov_len) / 1024 * 512;
    memset(text, 0x5a, sizeof text);
    assert(disk_writev(d, &part, 1, at) == 0);
    memcpy(all + at, text, part.iov_len);
    assert(disk_write_zeroes(d, at, 512) == 0);
    memset(all + at, 0, 512);
    assert(disk_discard(d, 0, at) == 0);
    memset(text, 0, sizeof text);
    assert(disk_readv(d, &part, 1, at) == 0);
    assert(memcmp(text, all + at, part.iov_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct layer_check c;
    struct disk *d;
    int layer = memfd_create("layer", MFD_CLOEXEC), base = memfd_create("base", MFD_CLOEXEC);
    int out = memfd_create("out", MFD_CLOEXEC);
    if (layer < 0 || base < 0 || out < 0 || ftruncate(base, BASE_BYTES) < 0)
        abort();
    put(base, "base", 4, 4096);
    make_layer(layer, &in);
    (void)!layer_check(layer, &c, NULL);
    struct disk_layer_fd stack[2] = {{again(layer, O_RDWR), true}, {again(base, O_RDONLY), false}};
    if (disk_open(&d, stack, 2, false, true, NULL) == 0) {
        use(d);
        assert(disk_flush(d) == 0);
        assert(disk_flatten(d, out, NULL, NULL) == 0);
        disk_close(d);
        assert(layer_check(layer, &c, NULL) == 0);
    } else {
        close(stack[0].fd);
        close(stack[1].fd);
    }
    close(layer);
    close(base);
    close(out);
    return 0;
}
