/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec of a copy-on-write layer's header (docs/design/disk-format.md): sizes, the name of the file
 * below, and an HMAC over both, because the process that runs a machine can rewrite its own layer.
 * Also checking. Pure but for the functions that take paths or descriptors. Any thread.
 *
 * File: header block of 4 KiB, bitmap (one bit per 4 KiB block of the disk: "is here", else below),
 * data area in which block n of the disk is block n (sparse). Creating one writes the header only.
 *
 * Two libraries: disk_core has what needs no key, for the monitor and tinderbox-disk, which hold
 * none and follow no names; disk adds what makes and verifies the HMAC, for who builds stacks.
 */
#ifndef DISK_LAYER_H
#define DISK_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LAYER_BLOCK 4096u
#define LAYER_NAME_MAX 1023
#define LAYER_BYTES_MAX (UINT64_C(1) << 42) /* 4 TiB */
#define LAYER_KEY_LEN 32

struct layer_info {
    uint64_t bytes;                /* virtual size, a multiple of 512 */
    bool base_cow;                 /* the file below is a layer, too; else raw */
    char base[LAYER_NAME_MAX + 1]; /* absolute path of the file below */
};

struct layer_geometry {
    uint64_t bytes, blocks;
    uint64_t bitmap_offset, bitmap_bytes, data_offset, file_bytes;
};

/* disk_core. Structure and checksum only: ret->base is whatever the file says, not to be opened.
 * Of the first n bytes of a file. -EBADMSG. */
int layer_decode(const unsigned char *p, size_t n, struct layer_info *ret,
                 struct err *e) MUST_CHECK;
bool layer_is_one(const unsigned char *p, size_t n); /* by its magic: for error texts only */
int layer_geometry(uint64_t bytes, struct layer_geometry *ret) MUST_CHECK; /* -EINVAL */

struct layer_check {
    struct layer_info info;
    uint64_t blocks, present; /* of the virtual disk; with data in this layer */
    uint64_t leaked; /* data without its bit: a write that was cut short; takes space, harms nothing
                      */
    uint64_t errors; /* wrong file size, bits or data past the end of the disk */
    char first[200]; /* what the first error is; "" when none */
};
/* disk_core. Reads the whole layer. -EBADMSG only when the header is unusable; -EIO, -errno when
 * the file cannot be read. */
int layer_check(int fd, struct layer_check *ret, struct err *e) MUST_CHECK;

/* disk. The header of an empty layer. -EINVAL: size or name out of range. */
int layer_encode(const struct layer_info *in, const unsigned char key[LAYER_KEY_LEN],
                 unsigned char out[LAYER_BLOCK], struct err *e) MUST_CHECK;
/* disk. layer_decode(), and that it was made with this key: ret->base can be followed. -EBADMSG. */
int layer_verify(const unsigned char *p, size_t n, const unsigned char key[LAYER_KEY_LEN],
                 struct layer_info *ret, struct err *e) MUST_CHECK;
/* disk. A new empty layer at path, which must not exist (-EEXIST). Not synced. */
int layer_create(const char *path, const struct layer_info *in,
                 const unsigned char key[LAYER_KEY_LEN], struct err *e) MUST_CHECK;

#endif
