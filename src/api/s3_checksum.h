/* SPDX-License-Identifier: Apache-2.0 */
/* The checksums S3 clients send: CRC-32, CRC-32C, CRC-64/NVME, SHA-1, SHA-256, and MD5. Pure. */
#ifndef API_S3_CHECKSUM_H
#define API_S3_CHECKSUM_H

#include <openssl/evp.h>
#include <stdint.h>

#include "base/buf.h"

struct s3_algorithm {
    const char *header; /* "x-amz-checksum-crc32"; NULL for MD5 */
    unsigned bytes;
    uint64_t polynomial;       /* reflected CRCs */
    const EVP_MD *(*md)(void); /* or a digest */
};

extern const struct s3_algorithm S3_MD5;
/* By header name, case-insensitively; NULL = unknown. */
const struct s3_algorithm *s3_algorithm_find(struct slice header);
const struct s3_algorithm *s3_algorithm_at(size_t i); /* NULL past the end */

struct s3_checksum {
    const struct s3_algorithm *algorithm; /* NULL = inactive */
    uint64_t crc;
    const uint64_t *table;
    EVP_MD_CTX *md; /* owned */
};

void s3_checksum_begin(struct s3_checksum *c, const struct s3_algorithm *a); /* NULL: inactive */
void s3_checksum_add(struct s3_checksum *c, const void *p, size_t n);
/* Writes algorithm->bytes bytes, big endian. */
void s3_checksum_end(struct s3_checksum *c, unsigned char out[EVP_MAX_MD_SIZE]);
void s3_checksum_done(struct s3_checksum *c);

#endif
