/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of struct disk, and which file of a stack has a block; private to src/disk. */
#ifndef DISK_STACK_H
#define DISK_STACK_H

#include "disk/disk.h"
#include "disk/layer.h"

struct disk_file {
    int fd; /* owned */
    bool cow;
    uint64_t bytes; /* of contents: a layer's virtual size, a raw file's length */
    uint64_t data_offset;
    uint64_t *bits; /* cow: borrowed from disk.bits, or own_bits bytes of its own mapping */
    size_t own_bits;
};

struct disk {
    struct disk_file file[DISK_LAYERS_MAX]; /* [0] is the top */
    unsigned n;
    bool read_only, durable;
    uint64_t bytes;
    uint64_t *bits; /* owned: one mapping with the bitmaps of the layers it was opened with */
    size_t bits_bytes;
    /* Of the request being worked on: what is around its first and last byte in their blocks, and
     * the pieces of one system call. */
    unsigned char around[2][LAYER_BLOCK];
    struct iovec iov[DISK_IOV_MAX + 2];
};

struct disk_run {
    unsigned owner;   /* index into file[]; n when no file has it: zeroes */
    uint64_t blocks;  /* how many, at least one */
    uint64_t visible; /* from this byte of the disk on the owner's contents are cut off: zeroes */
};

/* Which of file[from..] has block, and how many of the max (>= 1) blocks from there on are of the
 * same owner. */
void disk_run_at(const struct disk *d, unsigned from, uint64_t block, uint64_t max,
                 struct disk_run *ret);
/* Writes the bits of [from, to) through to the top's file, then changes them here. */
int disk_mark(struct disk *d, uint64_t from, uint64_t to, bool present) MUST_CHECK;
/* Into f->bits, which are zero and long enough. 0, -errno, -EIO. */
int disk_read_bitmap(const struct disk_file *f) MUST_CHECK;

#endif
