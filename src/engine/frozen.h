/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frozen machine on disk: a directory that appears atomically with its manifest, and the check
 * of such a directory before it is used. Any thread; blocking.
 */
#ifndef ENGINE_FROZEN_H
#define ENGINE_FROZEN_H

#include "engine/manifest.h"

/* Files whose digest this process has already seen to be right, by inode and times. */
struct frozen_cache;
struct frozen_cache *frozen_cache_new(void); /* NULL when out of memory */
void frozen_cache_free(struct frozen_cache *c);

/* One freeze in progress, in "<final>.<nonce>.part". */
struct frozen {
    char final[4096], part[4096];
    bool open;
};
int frozen_begin(struct frozen *f, const char *final, struct err *e) MUST_CHECK; /* -EEXIST */
/* A new file in it; the descriptor is the caller's. */
int frozen_create(struct frozen *f, const char *name, struct err *e) MUST_CHECK;
/* The disk works on a file while others are written and hashed; the sync at the end then has less
 * to wait for. */
void frozen_start_writeback(int fd);
/* Moves (or copies, across file systems) an existing file into it. */
int frozen_move_in(struct frozen *f, const char *path, const char *name, struct err *e) MUST_CHECK;
/* Another name for an open file, which must still have one; -ENOENT, -EXDEV. */
int frozen_link_in(struct frozen *f, int fd, const char *name, struct err *e) MUST_CHECK;
void frozen_discard(struct frozen *f, const char *name);
/* Hashes a file of it into the manifest. -EBADMSG when it is longer than max, which bounds the
 * work: a monitor that wrote it may be owned by its guest. */
int frozen_add_digest(struct frozen *f, struct manifest *m, const char *name, uint64_t max,
                      enum manifest_digest how, struct err *e) MUST_CHECK;
/* Syncs the files, writes the manifest and renames. The files count as checked from here on. */
int frozen_commit(struct frozen *f, const struct manifest *m, struct frozen_cache *c,
                  struct err *e) MUST_CHECK;
void frozen_abandon(struct frozen *f); /* after commit or on a zeroed one: does nothing */

int frozen_read_manifest(const char *dir, struct manifest *ret, struct err *e) MUST_CHECK;
/* All of it: a frozen machine of this kind, with a state file, that continues as what need
 * describes, undamaged. -EBADMSG with what differs. */
int frozen_check(const char *dir, enum manifest_kind kind, const struct manifest *need,
                 struct frozen_cache *c, struct manifest *ret, struct err *e) MUST_CHECK;
/* Opens a file of it for reading; the descriptor is the caller's. */
int frozen_open(const char *dir, const char *name, struct err *e) MUST_CHECK;
/* Sizes always; digests once per process and again when a file's inode, size or mtime changed. (Not
 * its ctime: a link to the memory of a snapshot comes and goes with every suspended clone.) */
int frozen_verify(const char *dir, const struct manifest *m, struct frozen_cache *c,
                  struct err *e) MUST_CHECK;

#endif
