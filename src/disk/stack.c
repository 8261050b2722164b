/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: every layer says with one bit per block whether it has the block; the first
 * one from the top that has it owns it, a raw file at the end owns what is left. Data lie at the
 * same place in every file, so a run of blocks with one owner is one system call.
 *
 * Bitmaps are private copies, read at open (holes are skipped, so a fresh layer costs no memory).
 * They are not mapped from the file: a store into a mapped hole on a full disk, or a load past a
 * truncation, is SIGBUS, where pread() and pwrite() return an error. A bit of the top is written
 * through after the data write returned and before the request completes, so the process may be
 * killed at any time: what was completed is in the page cache, data and bit.
 */
#include "disk/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"

static uint64_t blocks_of(uint64_t bytes)
{
    return (bytes + LAYER_BLOCK - 1) / LAYER_BLOCK;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void disk_run_at(const struct disk *d, unsigned from, uint64_t block, uint64_t max,
                 struct disk_run *ret)
{
    uint64_t visible = d->bytes, end = block + max;
    *ret = (struct disk_run){.owner = d->n};
    for (unsigned i = from; i < d->n && !ret->blocks; i++) {
        const struct disk_file *f = &d->file[i];
        visible = min64(visible, f->bytes);
        if (block >= blocks_of(visible))
            break;
        end = min64(end, blocks_of(visible));
        uint64_t absent = f->cow ? bitmap_run(f->bits, block, end, false) : 0;
        if (absent)
            end = block + absent;
        else
            *ret = (struct disk_run){
                i, f->cow ? bitmap_run(f->bits, block, end, true) : end - block, visible};
    }
    if (!ret->blocks)
        ret->blocks = end - block;
}

/* The 64-bit words that hold bits [from, to), at most as many as fit into word[]. Bits are changed
 * here only once the file has them: a request that failed for want of space is tried again. */
int disk_mark(struct disk *d, uint64_t from, uint64_t to, bool present)
{
    uint64_t word[64];
    struct disk_file *f = &d->file[0];
    while (from < to) {
        uint64_t same = bitmap_run(f->bits, from, to, present);
        from += same;
        if (from == to)
            break;
        uint64_t first = from / 64, stop = min64(to, (first + 64) * 64);
        size_t n = (size_t)((stop + 63) / 64 - first) * sizeof word[0];
        memcpy(word, f->bits + first, n);
        bitmap_fill(word, from - first * 64, stop - first * 64, present);
        ssize_t r = pwrite(f->fd, word, n, (off_t)(LAYER_BLOCK + first * sizeof word[0]));
        if (r != (ssize_t)n)
            return r < 0 ? (errno == EDQUOT ? -ENOSPC : -errno) : -ENOSPC;
        memcpy(f->bits + first, word, n);
        from = stop;
    }
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

static int check_mode(int fd, bool writable, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return err_set_errno(e, errno, "disk descriptor");
    int wanted = writable ? O_RDWR : O_RDONLY;
    if ((flags & O_ACCMODE) != wanted || (flags & (O_PATH | O_APPEND)))
        return err_set(e, EACCES, "the descriptor of %s",
                       writable ? "a writable disk must be open for reading and writing"
                                : "a file that must not be written must be open for reading only");
    return 0;
}

static int read_header(int fd, uint64_t size, struct layer_info *info, struct layer_geometry *g,
                       struct err *e)
{
    unsigned char header[LAYER_BLOCK];
    ssize_t n = pread(fd, header, sizeof header, 0);
    if (n < 0)
        return err_set_errno(e, errno, "read layer");
    int r = layer_decode(header, (size_t)n, info, e);
    if (r == 0)
        r = layer_geometry(info->bytes, g);
    if (r == 0 && size != g->file_bytes)
        r = err_set(e, EBADMSG, "the layer's file has %llu bytes, its header asks for %llu",
                    (unsigned long long)size, (unsigned long long)g->file_bytes);
    return r;
}

/* above: what the file above says about this one, NULL for the top. */
static int open_file(struct disk_file *f, const struct disk_layer_fd *in, bool writable,
                     const struct layer_info *above, struct layer_info *info, struct err *e)
{
    struct stat st;
    int r = check_mode(in->fd, writable, e);
    if (r < 0)
        return r;
    if (fstat(in->fd, &st) < 0)
        return err_set_errno(e, errno, "disk descriptor");
    if (!S_ISREG(st.st_mode))
        return err_set(e, EBADMSG, "not a regular file");
    if (above && above->base_cow != in->cow)
        return err_set(e, EBADMSG, "the layer above wants a %s file here",
                       above->base_cow ? "copy-on-write" : "raw");
    *f = (struct disk_file){.fd = in->fd, .cow = in->cow, .bytes = (uint64_t)st.st_size};
    if (!in->cow)
        return 0;
    struct layer_geometry g;
    r = read_header(in->fd, f->bytes, info, &g, e);
    if (r == 0) {
        f->bytes = g.bytes;
        f->data_offset = g.data_offset;
    }
    return r;
}

static int open_files(struct disk *d, const struct disk_layer_fd *layers, struct err *e)
{
    struct layer_info info = {0};
    for (unsigned i = 0; i < d->n; i++) {
        if (!layers[i].cow && i + 1 < d->n)
            return err_set(e, EBADMSG, "disk: a raw file can only be the last of a stack");
        bool writable = i == 0 && !d->read_only;
        int r = open_file(&d->file[i], &layers[i], writable, i ? &info : NULL, &info, e);
        if (r < 0) {
            err_wrap(e, "disk file %u of %u", i + 1, d->n);
            return r;
        }
    }
    if (d->file[d->n - 1].cow)
        return err_set(e, EBADMSG, "disk: the file below the last layer is missing");
    d->bytes = d->file[0].bytes;
    if (!d->bytes || d->bytes % 512)
        return err_set(e, EBADMSG, "disk: size %llu is not a multiple of 512",
                       (unsigned long long)d->bytes);
    return 0;
}

/* What a hole holds is zero here already, and costs no memory. */
int disk_read_bitmap(const struct disk_file *f)
{
    uint64_t at = LAYER_BLOCK;
    while (at < f->data_offset) {
        off_t data = lseek(f->fd, (off_t)at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        at = (uint64_t)data;
        off_t hole = lseek(f->fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        uint64_t end = min64((uint64_t)hole, f->data_offset);
        while (at < end) {
            ssize_t n = pread(f->fd, (char *)f->bits + (at - LAYER_BLOCK), end - at, (off_t)at);
            if (n <= 0)
                return n < 0 ? -errno : -EIO;
            at += (uint64_t)n;
        }
    }
    return 0;
}

static int load_bitmaps(struct disk *d, struct err *e)
{
    for (unsigned i = 0; i < d->n; i++)
        if (d->file[i].cow)
            d->bits_bytes += (size_t)(d->file[i].data_offset - LAYER_BLOCK);
    if (!d->bits_bytes)
        return 0;
    void *p = mmap(NULL, d->bits_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, "disk: bitmaps");
    d->bits = p;
    uint64_t *next = d->bits;
    for (unsigned i = 0; i < d->n && d->file[i].cow; i++) {
        d->file[i].bits = next;
        next += (d->file[i].data_offset - LAYER_BLOCK) / sizeof *next;
        int r = disk_read_bitmap(&d->file[i]);
        if (r < 0)
            return err_set_errno(e, -r, "disk file %u of %u: read its bitmap", i + 1, d->n);
    }
    return 0;
}

int disk_open(struct disk **ret, const struct disk_layer_fd *layers, unsigned n, bool read_only,
              bool durable, struct err *e)
{
    if (n == 0 || n > DISK_LAYERS_MAX)
        return err_set(e, EINVAL, "disk: %u files, 1 to %u are possible", n, DISK_LAYERS_MAX);
    struct disk *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    *d = (struct disk){.n = n, .read_only = read_only, .durable = durable};
    int r = open_files(d, layers, e);
    if (r == 0)
        r = load_bitmaps(d, e);
    if (r < 0) {
        d->n = 0; /* the descriptors are still the caller's */
        disk_close(d);
        return r;
    }
    *ret = d;
    return 0;
}

void disk_close(struct disk *d)
{
    if (!d)
        return;
    for (unsigned i = 0; i < d->n; i++) {
        close(d->file[i].fd);
        if (d->file[i].own_bits)
            munmap(d->file[i].bits, d->file[i].own_bits);
    }
    if (d->bits)
        munmap(d->bits, d->bits_bytes);
    free(d);
}

/* ---- a new top ----------------------------------------------------------------------------- */

static int open_top(const struct disk *d, int fd, struct disk_file *ret, struct err *e)
{
    struct disk_layer_fd in = {fd, true};
    struct layer_info info;
    int r = open_file(ret, &in, true, NULL, &info, e);
    if (r < 0)
        return r;
    if (info.base_cow != d->file[0].cow || ret->bytes != d->bytes)
        return err_set(e, EBADMSG, "the new layer is not made for this disk");
    ret->own_bits = (size_t)(ret->data_offset - LAYER_BLOCK);
    void *p = mmap(NULL, ret->own_bits, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, "disk: bitmap");
    ret->bits = p;
    if ((r = disk_read_bitmap(ret)) < 0)
        err_set_errno(e, -r, "read the bitmap of the new layer");
    else if (bitmap_run(ret->bits, 0, blocks_of(ret->bytes), false) != blocks_of(ret->bytes))
        r = err_set(e, EBADMSG, "the new layer is not empty");
    if (r < 0)
        munmap(p, ret->own_bits);
    return r;
}

int disk_push(struct disk *d, int fd, struct err *e)
{
    struct disk_file top;
    if (d->read_only)
        return err_set(e, EROFS, "a read-only disk needs no new layer");
    if (d->n == DISK_LAYERS_MAX)
        return err_set(e, ENOSPC, "the disk has %u layers already", d->n);
    int r = open_top(d, fd, &top, e);
    if (r < 0)
        return r;
    memmove(d->file + 1, d->file, d->n * sizeof d->file[0]);
    d->file[0] = top;
    d->n++;
    return 0;
}

uint64_t disk_bytes(const struct disk *d)
{
    return d->bytes;
}

bool disk_is_read_only(const struct disk *d)
{
    return d->read_only;
}
