/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/zero.h"
#include "disk/stack.h"

enum { CHECK_BUFFER = 65536 };

PRINTF(2, 3) static void found(struct layer_check *c, const char *fmt, ...)
{
    if (c->errors++)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->first, sizeof c->first, fmt, ap);
    va_end(ap);
}

static void check_bits(const struct layer_geometry *g, const uint64_t *bits, struct layer_check *c)
{
    uint64_t end = g->bitmap_bytes * 8;
    for (uint64_t at = 0; at < end;) {
        uint64_t stop = at < g->blocks ? g->blocks : end;
        uint64_t n = bitmap_run(bits, at, stop, true);
        if (n && at < g->blocks)
            c->present += n;
        else if (n)
            found(c, "bit %llu is set, the disk ends with block %llu", (unsigned long long)at,
                  (unsigned long long)g->blocks - 1);
        at += n;
        if (at < stop)
            at += bitmap_run(bits, at, stop, false);
    }
}

/* p: the n bytes of the data area from byte at of the disk on; at is the start of a block. */
static void check_data(const struct layer_geometry *g, const uint64_t *bits, uint64_t at,
                       const unsigned char *p, size_t n, struct layer_check *c)
{
    for (size_t i = 0; i < n; i += LAYER_BLOCK) {
        size_t len = n - i < LAYER_BLOCK ? n - i : LAYER_BLOCK;
        uint64_t block = (at + i) / LAYER_BLOCK;
        if (is_zero(p + i, len))
            continue;
        size_t inside = (size_t)(g->bytes - (at + i));
        if (bitmap_run(bits, block, block + 1, false))
            c->leaked++;
        else if (inside < len && !is_zero(p + i + inside, len - inside))
            found(c, "data past the end of the disk");
    }
}

static int check_area(int fd, const struct layer_geometry *g, const uint64_t *bits, void *buffer,
                      struct layer_check *c)
{
    uint64_t at = g->data_offset;
    while (at < g->file_bytes) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        at = (uint64_t)data / LAYER_BLOCK * LAYER_BLOCK;
        if (at >= g->file_bytes)
            return 0;
        uint64_t left = g->file_bytes - at;
        ssize_t n = pread(fd, buffer, left < CHECK_BUFFER ? (size_t)left : CHECK_BUFFER, (off_t)at);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        check_data(g, bits, at - g->data_offset, buffer, (size_t)n, c);
        at += (uint64_t)n;
    }
    return 0;
}

static int check_body(int fd, const struct layer_geometry *g, struct layer_check *c, struct err *e)
{
    CLEANUP(cleanup_free)
    char *buffer = malloc(CHECK_BUFFER);
    CLEANUP(cleanup_free)
    char *bits = calloc(1, (size_t)g->bitmap_bytes);
    if (!buffer || !bits)
        return err_set(e, ENOMEM, "out of memory");
    struct disk_file f = {
        .fd = fd, .data_offset = g->data_offset, .bits = (uint64_t *)(void *)bits};
    int r = disk_read_bitmap(&f);
    if (r == 0) {
        check_bits(g, f.bits, c);
        r = check_area(fd, g, f.bits, buffer, c);
    }
    return r < 0 ? err_set_errno(e, -r, "read layer") : 0;
}

int layer_check(int fd, struct layer_check *ret, struct err *e)
{
    unsigned char header[LAYER_BLOCK];
    struct layer_check c = {0};
    struct layer_geometry g;
    struct stat st;
    ssize_t n = pread(fd, header, sizeof header, 0);
    if (n < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "read layer");
    int r = layer_decode(header, (size_t)n, &c.info, e);
    if (r < 0 || (r = layer_geometry(c.info.bytes, &g)) < 0)
        return r;
    c.blocks = g.blocks;
    if ((uint64_t)st.st_size != g.file_bytes)
        found(&c, "the file has %llu bytes instead of %llu", (unsigned long long)st.st_size,
              (unsigned long long)g.file_bytes);
    r = check_body(fd, &g, &c, e);
    if (r == 0)
        *ret = c;
    return r;
}
