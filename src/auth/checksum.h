/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksums S3 clients send in "x-amz-checksum-*" fields, as header or trailer. The text form
 * is the base64 of the big-endian value. One owner per computation; not thread-safe.
 */
#ifndef AUTH_CHECKSUM_H
#define AUTH_CHECKSUM_H

#include "base/buf.h"

enum checksum_kind {
    CHECKSUM_CRC32,
    CHECKSUM_CRC32C,
    CHECKSUM_CRC64NVME,
    CHECKSUM_SHA1,
    CHECKSUM_SHA256,
    CHECKSUM_KINDS,
};

#define CHECKSUM_TEXT_MAX 48

struct checksum;

/* Kind of a field name ("x-amz-checksum-crc32", any case), -EINVAL for any other name. */
int checksum_kind_of(struct slice field_name);
const char *checksum_field(enum checksum_kind k);

struct checksum *checksum_new(enum checksum_kind k); /* never NULL */
void checksum_add(struct checksum *c, const void *p, size_t n);
/* Base64 text; frees c. */
void checksum_end(struct checksum *c, char out[CHECKSUM_TEXT_MAX]);
void checksum_free(struct checksum *c); /* NULL is fine */

#endif
