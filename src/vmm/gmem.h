/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest physical memory. RAM is one contiguous range of host addresses, reserved before its
 * contents are known (so that KVM's memory slots can exist in a pooled monitor) and then mapped
 * over. In the guest it lies in one or two regions around the hole below 4 GiB where the devices
 * are.
 *
 * gmem_ptr() is the only door: every guest physical address that comes from a guest goes through
 * it. The returned memory may change under the reader at any time: copy once, decide on the copy.
 *
 * Threads: set up by the control thread before any other runs, read-only afterwards.
 */
#ifndef VMM_GMEM_H
#define VMM_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define GMEM_PAGE 4096u
#define GMEM_HOLE_START UINT64_C(0xc0000000) /* 3 GiB */
#define GMEM_HOLE_END UINT64_C(0x100000000)  /* 4 GiB */
#define GMEM_MAX_BYTES (UINT64_C(64) << 30)

struct gmem_region {
    uint64_t gpa;    /* where the guest sees it */
    uint64_t bytes;  /* a multiple of GMEM_PAGE */
    uint64_t offset; /* of its first byte in RAM, and so in a memory file */
};

struct gmem {
    uint8_t *host; /* owned; bytes long */
    uint64_t bytes;
    struct gmem_region region[2];
    unsigned n_regions;
};

/* Reserves address space (no memory). bytes: a multiple of 2 MiB up to GMEM_MAX_BYTES. */
int gmem_reserve(struct gmem *m, uint64_t bytes, struct err *e) MUST_CHECK;
/* RAM full of zeroes. huge: transparent huge pages are asked for. */
int gmem_map_zero(struct gmem *m, bool huge, struct err *e) MUST_CHECK;
/* RAM that starts as the contents of fd (byte n of the file is offset n), copy-on-write: the file
 * is never written. -EBADMSG when it is not exactly as long as RAM. */
int gmem_map_file(struct gmem *m, int fd, struct err *e) MUST_CHECK;
void gmem_done(struct gmem *m);

/* Host address of guest physical [gpa, gpa+len), NULL unless all of it is RAM of one region. len 0
 * is NULL. */
void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len);

#endif
