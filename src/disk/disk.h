/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's disk as the KVM monitor sees it: a stack of open files, the top one possibly writable,
 * each raw or a copy-on-write layer (docs/design/disk-format.md). Nothing here opens a path:
 * whoever opens a disk passes descriptors in order and says the format of each; names inside a
 * layer are never followed (disk/layer.h has them, for who builds the stack).
 *
 * Threads: one at a time per disk. Blocking file I/O. No allocation after disk_open().
 */
#ifndef DISK_DISK_H
#define DISK_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

#define DISK_LAYERS_MAX 64u
#define DISK_IOV_MAX 128u

struct disk;

struct disk_layer_fd {
    int fd;   /* owned by the disk once disk_open() succeeded */
    bool cow; /* a copy-on-write layer, else raw (only the last one may be raw) */
};

/* layers[0] is the top. Only it is written, and only when !read_only; a file that must not be
 * written is refused unless its descriptor is read-only (O_RDONLY), so that the kernel enforces it
 * too. durable: flush reaches the medium; otherwise it only orders (the host does not survive
 * anyway, freezing syncs). -EBADMSG: not a layer, damaged, or the stack does not fit together. */
int disk_open(struct disk **ret, const struct disk_layer_fd *layers, unsigned n, bool read_only,
              bool durable, struct err *e) MUST_CHECK;
void disk_close(struct disk *d); /* NULL is fine */

/* Puts an empty copy-on-write layer on top of a writable disk: it takes every later write, what was
 * the top is only read from here on. fd (O_RDWR) is owned by the disk on success. Between two
 * requests. -EBADMSG: not an empty layer of this size, -ENOSPC: DISK_LAYERS_MAX reached; the disk
 * is as before. */
int disk_push(struct disk *d, int fd, struct err *e) MUST_CHECK;

uint64_t disk_bytes(const struct disk *d); /* virtual size, a multiple of 512 */
bool disk_is_read_only(const struct disk *d);

/* offset and lengths are multiples of 512 and inside the disk (-EINVAL otherwise). All or -errno;
 * -EROFS when read-only, -ENOSPC when the host's disk is full: nothing of that request need have
 * been written, and the same request may be tried again. */
int disk_readv(struct disk *d, const struct iovec *iov, unsigned n_iov, uint64_t offset) MUST_CHECK;
int disk_writev(struct disk *d, const struct iovec *iov, unsigned n_iov,
                uint64_t offset) MUST_CHECK;
int disk_flush(struct disk *d) MUST_CHECK;
/* Reads as zeroes afterwards; space is given back. -EOPNOTSUPP: the host's file system cannot punch
 * holes; zeroes can be written then. */
int disk_write_zeroes(struct disk *d, uint64_t offset, uint64_t bytes) MUST_CHECK;
/* A hint; what reads afterwards is either the old contents or zeroes. */
int disk_discard(struct disk *d, uint64_t offset, uint64_t bytes) MUST_CHECK;

#endif
