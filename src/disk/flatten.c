/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/flatten.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/zero.h"
#include "disk/stack.h"

enum {
    COPY_BUFFER = 1 << 20,
    /* Bounds how far the bitmaps of the upper layers are scanned anew for every run. */
    RUN_BLOCKS = 1024,
};

struct copy {
    struct disk *d;
    int out;
    bool can_share; /* until the file system says no */
    unsigned char *buffer;
    struct flatten_stats stats;
};

static int write_piece(struct copy *c, const unsigned char *p, size_t n, uint64_t at)
{
    c->stats.copied_bytes += n;
    return fs_write_at(c->out, p, n, at);
}

/* Writes what is not zero, in runs of blocks. */
static int write_blocks(struct copy *c, const unsigned char *p, size_t n, uint64_t at)
{
    size_t start = 0, i = 0; /* [start, i) waits to be written */
    int r = 0;
    while (r == 0 && i < n) {
        size_t len = n - i < LAYER_BLOCK ? n - i : LAYER_BLOCK;
        if (is_zero(p + i, len)) {
            r = write_piece(c, p + start, i - start, at + start);
            start = i + len;
        }
        i += len;
    }
    return r < 0 ? r : write_piece(c, p + start, n - start, at + start);
}

static int copy_range(struct copy *c, int fd, uint64_t from, uint64_t at, uint64_t bytes)
{
    while (bytes) {
        ssize_t n =
            pread(fd, c->buffer, bytes < COPY_BUFFER ? (size_t)bytes : COPY_BUFFER, (off_t)from);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        int r = write_blocks(c, c->buffer, (size_t)n, at);
        if (r < 0)
            return r;
        from += (uint64_t)n;
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* A reference to the extent if the file system can do that; not copy_file_range(), which would copy
 * blocks of zeroes where it cannot share. */
static int take_range(struct copy *c, int fd, uint64_t from, uint64_t at, uint64_t bytes)
{
    struct file_clone_range range = {
        .src_fd = fd, .src_offset = from, .src_length = bytes, .dest_offset = at};
    if (c->can_share && bytes % LAYER_BLOCK == 0) {
        if (ioctl(c->out, FICLONERANGE, &range) == 0) {
            c->stats.shared_bytes += bytes;
            return 0;
        }
        c->can_share = errno == EINTR;
    }
    return copy_range(c, fd, from, at, bytes);
}

/* The data, not the holes, of bytes [at, end) of the disk, all of which f owns. */
static int take_run(struct copy *c, const struct disk_file *f, uint64_t at, uint64_t end)
{
    while (at < end) {
        off_t data = lseek(f->fd, (off_t)(f->data_offset + at), SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        if ((uint64_t)data >= f->data_offset + end)
            return 0;
        off_t hole = lseek(f->fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        uint64_t start = (uint64_t)data / LAYER_BLOCK * LAYER_BLOCK - f->data_offset;
        uint64_t stop =
            ((uint64_t)hole + LAYER_BLOCK - 1) / LAYER_BLOCK * LAYER_BLOCK - f->data_offset;
        start = start > at ? start : at;
        stop = stop < end ? stop : end;
        int r = take_range(c, f->fd, f->data_offset + start, start, stop - start);
        if (r < 0)
            return r;
        at = stop;
    }
    return 0;
}

static int take_all(struct copy *c)
{
    const struct disk *d = c->d;
    uint64_t blocks = (d->bytes + LAYER_BLOCK - 1) / LAYER_BLOCK;
    for (uint64_t block = 0; block < blocks;) {
        struct disk_run run;
        disk_run_at(d, 0, block, blocks - block < RUN_BLOCKS ? blocks - block : RUN_BLOCKS, &run);
        uint64_t at = block * LAYER_BLOCK, end = (block + run.blocks) * LAYER_BLOCK;
        end = end < run.visible ? end : run.visible;
        int r = run.owner < d->n && at < end ? take_run(c, &d->file[run.owner], at, end) : 0;
        if (r < 0)
            return r;
        block += run.blocks;
    }
    return 0;
}

int disk_flatten(struct disk *d, int fd, struct flatten_stats *stats, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "output");
    if (!S_ISREG(st.st_mode) || st.st_size)
        return err_set(e, EINVAL, "the output must be an empty regular file");
    CLEANUP(cleanup_free)
    unsigned char *buffer = malloc(COPY_BUFFER);
    if (!buffer)
        return err_set(e, ENOMEM, "out of memory");
    struct copy c = {.d = d, .out = fd, .can_share = true, .buffer = buffer};
    int r = ftruncate(fd, (off_t)d->bytes) < 0 ? -errno : take_all(&c);
    if (r < 0)
        return err_set_errno(e, -r, "flatten");
    if (stats)
        *stats = c.stats;
    return 0;
}
