/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks: the qcow2 version 3 header of an empty overlay, written and read by us
 * (QEMU docs/interop/qcow2.txt). The process that runs a machine writes to its overlay and may be
 * owned by the guest, so the name of the backing file in it is not to be believed: a header
 * extension carries an HMAC over name, format and size, and a chain is only followed where it
 * holds. The codec is pure. Chains of overlays: engine/disks.h.
 */
#ifndef ENGINE_OVERLAY_H
#define ENGINE_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"

#define OVERLAY_PATH_MAX 1023 /* qcow2's own limit for the name */
#define OVERLAY_CHAIN_MAX 64
#define OVERLAY_CLUSTER 65536u
#define OVERLAY_FILE_BYTES (4u * OVERLAY_CLUSTER) /* header, refcount table and block, L1 table */
#define OVERLAY_SIZE_MAX (UINT64_C(1) << 42)      /* what one cluster of L1 table maps: 4 TiB */
#define OVERLAY_KEY_LEN 32

struct overlay_key {
    unsigned char bytes[OVERLAY_KEY_LEN];
};

struct overlay_info {
    uint64_t bytes; /* virtual size, a multiple of 512 */
    char base[OVERLAY_PATH_MAX + 1];
    enum engine_disk_format base_format;
};

/* Reads the key in dir, making it at the first call. */
int overlay_key_load(const char *dir, struct overlay_key *ret, struct err *e) MUST_CHECK;

/* The first cluster of an empty overlay. */
int overlay_encode(const struct overlay_info *in, const struct overlay_key *k,
                   unsigned char out[OVERLAY_CLUSTER], struct err *e) MUST_CHECK;
/* Of the first n bytes of a file. -EBADMSG when it is not a header of ours. */
int overlay_decode(const unsigned char *p, size_t n, const struct overlay_key *k,
                   struct overlay_info *ret, struct err *e) MUST_CHECK;

bool overlay_is_one(const unsigned char *p, size_t n); /* by its magic: for error texts only */

/* path must not exist. */
int overlay_create(const char *path, const struct overlay_info *in, const struct overlay_key *k,
                   struct err *e) MUST_CHECK;

struct overlay_node {
    char *path; /* owned */
    enum engine_disk_format format;
};
struct overlay_chain {
    struct overlay_node node[OVERLAY_CHAIN_MAX]; /* [0] is the disk itself */
    unsigned n;
    uint64_t bytes; /* virtual size of the disk */
};

#endif
