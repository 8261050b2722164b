/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories of our own state. Blocking: never on a loop thread. Any other thread. */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* "<a>/<b>" into out; -ENAMETOOLONG. */
int path_join(char *out, size_t cap, const char *a, const char *b, struct err *e) MUST_CHECK;

int fs_mkdir_p(const char *path, mode_t mode, struct err *e) MUST_CHECK;
/* Removes a tree without following links; a missing path is success. */
int fs_remove_tree(const char *path, struct err *e) MUST_CHECK;
/* Whole file into out (respecting out->max). */
int fs_read_file(const char *path, struct buf *out, struct err *e) MUST_CHECK;
/* Temporary file in the same directory, fsync, rename, fsync of the directory. */
int fs_write_file(const char *path, const void *p, size_t n, mode_t mode, struct err *e) MUST_CHECK;
/* Copies data, sharing extents where the file system can, keeping holes. dst must not exist. */
int fs_copy_file(const char *src, const char *dst, mode_t mode, struct err *e) MUST_CHECK;
int fs_fsync_dir(const char *path, struct err *e) MUST_CHECK;
bool fs_exists(const char *path);
/* Bytes allocated on disk below path (st_blocks), links not followed; 0 when missing. */
uint64_t fs_tree_bytes(const char *path);
/* Bytes an unprivileged writer may still use on path's file system. */
int fs_free_bytes(const char *path, uint64_t *ret, struct err *e) MUST_CHECK;
int fs_write_all(int fd, const void *p, size_t n) MUST_CHECK; /* 0 or -errno */
/* Exactly n bytes from, to offset. 0 or -errno; -EBADMSG: the file ends before. */
int fs_read_at(int fd, void *p, size_t n, uint64_t offset) MUST_CHECK;
int fs_write_at(int fd, const void *p, size_t n, uint64_t offset) MUST_CHECK;

#endif
