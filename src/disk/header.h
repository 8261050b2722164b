/* SPDX-License-Identifier: Apache-2.0 */
/* Layout of a layer's header block (docs/design/disk-format.md); private to src/disk. All numbers
 * are little-endian. */
#ifndef DISK_HEADER_H
#define DISK_HEADER_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "disk/layer.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the bitmap is used as it is on disk");

#define HEADER_MAGIC "tbxlayer"
#define HEADER_VERSION 1u

enum {
    HEADER_AT_MAGIC = 0,
    HEADER_AT_VERSION = 8,
    HEADER_AT_CHECKSUM = 12, /* CRC-32C of the whole block, this field zero */
    HEADER_AT_FEATURES = 16, /* 64 bits, none is defined: unknown ones refuse the file */
    HEADER_AT_BYTES = 24,
    HEADER_AT_BLOCK = 32,
    HEADER_AT_BASE_FORMAT = 36, /* 0 raw, 1 layer */
    HEADER_AT_NAME_LEN = 40,
    HEADER_AT_MAC = 48,
    HEADER_MAC_LEN = 32,
    HEADER_AT_NAME = 128,
};

/* Size and name as both directions demand them. -EINVAL. */
int header_check_info(const struct layer_info *in, struct err *e) MUST_CHECK;
uint32_t header_checksum(const unsigned char p[LAYER_BLOCK]);

static inline uint32_t header_get32(const unsigned char *p, size_t at)
{
    uint32_t v;
    memcpy(&v, p + at, sizeof v);
    return v;
}

static inline uint64_t header_get64(const unsigned char *p, size_t at)
{
    uint64_t v;
    memcpy(&v, p + at, sizeof v);
    return v;
}

#endif
