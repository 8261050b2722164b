/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing through a stack. A write is one pwritev() however it lies: where a block is
 * only partly written and not here yet, the rest of it comes from below and becomes part of the
 * same call. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "disk/stack.h"

static const unsigned char zero_block[LAYER_BLOCK];

/* ---- walking iovecs -------------------------------------------------------------------------- */

struct cursor {
    const struct iovec *iov;
    unsigned n;
    size_t done; /* of iov[0] */
};

/* The next n bytes at most, as pieces; returns how many pieces. */
static unsigned cursor_peek(const struct cursor *c, uint64_t n, struct iovec *out, unsigned max)
{
    unsigned count = 0;
    size_t skip = c->done;
    for (unsigned i = 0; i < c->n && n && count < max; i++, skip = 0) {
        size_t len = c->iov[i].iov_len - skip;
        if (len > n)
            len = (size_t)n;
        if (len)
            out[count++] = (struct iovec){(char *)c->iov[i].iov_base + skip, len};
        n -= len;
    }
    return count;
}

static void cursor_advance(struct cursor *c, uint64_t n)
{
    while (n && c->n) {
        size_t left = c->iov->iov_len - c->done;
        if (n < left) {
            c->done += (size_t)n;
            return;
        }
        n -= left;
        c->iov++, c->n--, c->done = 0;
    }
}

static void cursor_zero(struct cursor *c, uint64_t n)
{
    struct iovec piece;
    while (n && cursor_peek(c, n, &piece, 1)) {
        memset(piece.iov_base, 0, piece.iov_len);
        cursor_advance(c, piece.iov_len);
        n -= piece.iov_len;
    }
}

static bool is_inside(const struct disk *d, uint64_t offset, uint64_t bytes)
{
    return offset % 512 == 0 && bytes % 512 == 0 && offset <= d->bytes &&
           bytes <= d->bytes - offset;
}

static int check_request(const struct disk *d, const struct iovec *iov, unsigned n_iov,
                         uint64_t offset, uint64_t *bytes)
{
    *bytes = 0;
    for (unsigned i = 0; i < n_iov; i++)
        if (ckd_add(bytes, *bytes, iov[i].iov_len))
            return -EINVAL;
    return n_iov <= DISK_IOV_MAX && is_inside(d, offset, *bytes) ? 0 : -EINVAL;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_file(struct disk *d, int fd, struct cursor *c, uint64_t at, uint64_t bytes)
{
    while (bytes) {
        unsigned n = cursor_peek(c, bytes, d->iov, DISK_IOV_MAX);
        ssize_t r = preadv(fd, d->iov, (int)n, (off_t)at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -EIO; /* shorter than it was at open */
        cursor_advance(c, (uint64_t)r);
        at += (uint64_t)r;
        bytes -= (uint64_t)r;
    }
    return 0;
}

/* Bytes [offset, offset+bytes) of the disk, all in run. */
static int read_run(struct disk *d, const struct disk_run *run, struct cursor *c, uint64_t offset,
                    uint64_t bytes)
{
    uint64_t have = 0;
    if (run->owner < d->n && offset < run->visible)
        have = bytes < run->visible - offset ? bytes : run->visible - offset;
    if (have) {
        const struct disk_file *f = &d->file[run->owner];
        int r = read_file(d, f->fd, c, f->data_offset + offset, have);
        if (r < 0)
            return r;
    }
    cursor_zero(c, bytes - have);
    return 0;
}

/* As seen through file[from..]. */
static int read_stack(struct disk *d, unsigned from, struct cursor *c, uint64_t offset,
                      uint64_t bytes)
{
    while (bytes) {
        struct disk_run run;
        uint64_t block = offset / LAYER_BLOCK, last = (offset + bytes - 1) / LAYER_BLOCK;
        disk_run_at(d, from, block, last - block + 1, &run);
        uint64_t n = (block + run.blocks) * LAYER_BLOCK - offset;
        if (n > bytes)
            n = bytes;
        int r = read_run(d, &run, c, offset, n);
        if (r < 0)
            return r;
        offset += n;
        bytes -= n;
    }
    return 0;
}

int disk_readv(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset)
{
    uint64_t bytes;
    int r = check_request(d, iov, n_iov, offset, &bytes);
    struct cursor c = {iov, n_iov, 0};
    return r < 0 ? r : read_stack(d, 0, &c, offset, bytes);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int no_space(int code)
{
    return code == EDQUOT ? -ENOSPC : -code;
}

/* Consumes iov. */
static int write_file(int fd, struct iovec *iov, unsigned n, uint64_t at)
{
    while (n) {
        ssize_t r = pwritev(fd, iov, (int)n, (off_t)at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? no_space(errno) : -EIO;
        at += (uint64_t)r;
        while (n && (size_t)r >= iov->iov_len) {
            r -= (ssize_t)iov->iov_len;
            iov++, n--;
        }
        if (n) {
            iov->iov_base = (char *)iov->iov_base + r;
            iov->iov_len -= (size_t)r;
        }
    }
    return 0;
}

static bool is_here(const struct disk *d, uint64_t block)
{
    return bitmap_run(d->file[0].bits, block, block + 1, true) == 1;
}

/* A piece of one block as the layers below have it; past the end of the disk, zeroes. */
static int add_from_below(struct disk *d, unsigned char *p, uint64_t offset, size_t bytes,
                          struct iovec *ret)
{
    struct iovec whole = {p, bytes};
    struct cursor c = {&whole, 1, 0};
    int r = read_stack(d, 1, &c, offset, bytes);
    *ret = whole;
    return r;
}

static int write_layer(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset,
                       uint64_t bytes)
{
    uint64_t start = offset, end = offset + bytes;
    uint64_t first = offset / LAYER_BLOCK, stop = (end + LAYER_BLOCK - 1) / LAYER_BLOCK;
    size_t head = offset % LAYER_BLOCK, tail = (size_t)(stop * LAYER_BLOCK - end);
    struct iovec before = {0}, after = {0};
    int r = 0;
    if (head && !is_here(d, first)) {
        start -= head;
        r = add_from_below(d, d->around[0], start, head, &before);
    }
    if (r == 0 && tail && !is_here(d, stop - 1))
        r = add_from_below(d, d->around[1], end, tail, &after);
    if (r < 0)
        return r;
    unsigned n = 0; /* reading from below used d->iov, too: filled only now */
    if (before.iov_len)
        d->iov[n++] = before;
    struct cursor c = {iov, n_iov, 0};
    n += cursor_peek(&c, bytes, d->iov + n, DISK_IOV_MAX);
    if (after.iov_len)
        d->iov[n++] = after;
    r = write_file(d->file[0].fd, d->iov, n, d->file[0].data_offset + start);
    return r < 0 ? r : disk_mark(d, first, stop, true);
}

static int write_top(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset,
                     uint64_t bytes)
{
    if (d->file[0].cow)
        return write_layer(d, iov, n_iov, offset, bytes);
    struct cursor c = {iov, n_iov, 0};
    unsigned n = cursor_peek(&c, bytes, d->iov, DISK_IOV_MAX);
    return write_file(d->file[0].fd, d->iov, n, offset);
}

int disk_writev(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset)
{
    uint64_t bytes;
    int r = check_request(d, iov, n_iov, offset, &bytes);
    if (r < 0)
        return r;
    if (d->read_only)
        return -EROFS;
    return bytes ? write_top(d, iov, n_iov, offset, bytes) : 0;
}

/* One fdatasync() covers data and bits: between two flushes the kernel writes them in any order. */
int disk_flush(struct disk *d)
{
    if (d->read_only || !d->durable)
        return 0;
    return fdatasync(d->file[0].fd) < 0 ? no_space(errno) : 0;
}

/* ---- zeroes ---------------------------------------------------------------------------------- */

/* Bytes of the top's file. */
static int punch(const struct disk *d, uint64_t at, uint64_t bytes)
{
    int r;
    do
        r = fallocate(d->file[0].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                      (off_t)bytes);
    while (r < 0 && errno == EINTR);
    return r < 0 ? no_space(errno) : 0;
}

/* After the data of these blocks became zeroes: a block that nothing below has is not needed here,
 * one that something has must stay (or, for write_zeroes, become) ours. */
static int mark_zeroed(struct disk *d, uint64_t first, uint64_t stop, bool hide_below)
{
    while (first < stop) {
        struct disk_run below;
        disk_run_at(d, 1, first, stop - first, &below);
        int r = 0;
        if (below.owner == d->n)
            r = disk_mark(d, first, first + below.blocks, false);
        else if (hide_below)
            r = disk_mark(d, first, first + below.blocks, true);
        if (r < 0)
            return r;
        first += below.blocks;
    }
    return 0;
}

/* Part of one block. */
static int write_zeroes_part(struct disk *d, uint64_t offset, uint64_t bytes)
{
    struct iovec v = {(void *)(uintptr_t)zero_block, (size_t)bytes};
    return bytes ? write_layer(d, &v, 1, offset, bytes) : 0;
}

static int write_zeroes_layer(struct disk *d, uint64_t offset, uint64_t end)
{
    uint64_t first = (offset + LAYER_BLOCK - 1) / LAYER_BLOCK;
    uint64_t stop = end == d->bytes ? (end + LAYER_BLOCK - 1) / LAYER_BLOCK : end / LAYER_BLOCK;
    if (first > stop) /* inside one block */
        return write_zeroes_part(d, offset, end - offset);
    int r = write_zeroes_part(d, offset, first * LAYER_BLOCK - offset);
    if (r == 0 && first < stop) {
        r = punch(d, d->file[0].data_offset + first * LAYER_BLOCK, (stop - first) * LAYER_BLOCK);
        if (r == 0)
            r = mark_zeroed(d, first, stop, true);
    }
    if (r == 0 && stop * LAYER_BLOCK < end)
        r = write_zeroes_part(d, stop * LAYER_BLOCK, end - stop * LAYER_BLOCK);
    return r;
}

int disk_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes)
{
    if (!is_inside(d, offset, bytes))
        return -EINVAL;
    if (d->read_only)
        return -EROFS;
    if (!bytes)
        return 0;
    if (d->file[0].cow)
        return write_zeroes_layer(d, offset, offset + bytes);
    return punch(d, offset, bytes);
}

int disk_discard(struct disk *d, uint64_t offset, uint64_t bytes)
{
    if (!is_inside(d, offset, bytes))
        return -EINVAL;
    if (d->read_only)
        return -EROFS;
    uint64_t end = offset + bytes;
    uint64_t first = (offset + LAYER_BLOCK - 1) / LAYER_BLOCK;
    uint64_t stop = end == d->bytes ? (end + LAYER_BLOCK - 1) / LAYER_BLOCK : end / LAYER_BLOCK;
    if (first >= stop)
        return 0;
    uint64_t at = first * LAYER_BLOCK, past = stop * LAYER_BLOCK;
    if (!d->file[0].cow && past > end)
        past = end;
    int r = punch(d, d->file[0].data_offset + at, past - at);
    if (r == 0 && d->file[0].cow)
        r = mark_zeroed(d, first, stop, false);
    return r == -EOPNOTSUPP ? 0 : r;
}
