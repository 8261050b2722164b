/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digest of a sparse memory file (docs/design/snapshot-format.md): independent of where the
 * file has holes, and as fast as its non-zero pages can be hashed. Blocking.
 */
#ifndef ENGINE_SPARSE_H
#define ENGINE_SPARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

#define SPARSE_PAGE 4096u
#define SPARSE_SEGMENT (32u << 20) /* address range of one inner digest */

struct sparse_result {
    char digest[SHA256_HEX_LEN + 1];
    uint64_t bytes; /* file size */
    uint64_t data;  /* non-zero pages, in bytes */
};

/* punch: also turn runs of zero pages into holes (fd must be writable). */
int sparse_digest(int fd, bool punch, struct sparse_result *ret, struct err *e) MUST_CHECK;
/* The same of a file that had this many bytes and that somebody may still make longer. */
int sparse_digest_start(int fd, uint64_t bytes, bool punch, struct sparse_result *ret,
                        struct err *e) MUST_CHECK;

#endif
