/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages in which a clone's memory differs from the file it is a private mapping of: read out of
 * a stopped QEMU, written into one that has not run yet (docs/design/snapshot-format.md, "pages").
 * Both need the right to trace the process, which its parent has. Blocking.
 */
#ifndef ENGINE_QEMU_PAGES_H
#define ENGINE_QEMU_PAGES_H

#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/err.h"

struct pages_target {
    pid_t pid;
    ino_t inode;    /* of the memory file */
    uint64_t bytes; /* its size */
};

struct pages_file {
    uint64_t bytes;
    char digest[SHA256_HEX_LEN + 1];
};

/* Writes fd, an empty file, from its start. */
int pages_save(const struct pages_target *t, int fd, struct pages_file *ret,
               struct err *e) MUST_CHECK;
/* -EBADMSG: the file is not one, or of another memory size. */
int pages_load(const struct pages_target *t, int fd, struct err *e) MUST_CHECK;

#endif
