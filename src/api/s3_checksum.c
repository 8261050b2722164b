/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All three CRCs are reflected, start and end inverted, and differ in polynomial and width only
 * (RFC 1952 for CRC-32, RFC 3720 for CRC-32C, NVM Express Command Set for CRC-64), so one loop over
 * a table of 256 entries, made once per polynomial, does for all.
 */
#include "api/s3_checksum.h"

#include <pthread.h>
#include <stdlib.h>

#define N_CRC 3

static const struct s3_algorithm ALGORITHMS[] = {
    {"x-amz-checksum-crc32", 4, 0xedb88320u, NULL},
    {"x-amz-checksum-crc32c", 4, 0x82f63b78u, NULL},
    {"x-amz-checksum-crc64nvme", 8, 0x9a6c9329ac4bc9b5u, NULL},
    {"x-amz-checksum-sha1", 20, 0, EVP_sha1},
    {"x-amz-checksum-sha256", 32, 0, EVP_sha256},
};
const struct s3_algorithm S3_MD5 = {NULL, 16, 0, EVP_md5};

static uint64_t tables[N_CRC][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (unsigned t = 0; t < N_CRC; t++)
        for (unsigned i = 0; i < 256; i++) {
            uint64_t v = i;
            for (unsigned bit = 0; bit < 8; bit++)
                v = v & 1 ? v >> 1 ^ ALGORITHMS[t].polynomial : v >> 1;
            tables[t][i] = v;
        }
}

const struct s3_algorithm *s3_algorithm_at(size_t i)
{
    return i < ARRAY_LEN(ALGORITHMS) ? &ALGORITHMS[i] : NULL;
}

const struct s3_algorithm *s3_algorithm_find(struct slice header)
{
    for (size_t i = 0; i < ARRAY_LEN(ALGORITHMS); i++)
        if (slice_eq_nocase(header, ALGORITHMS[i].header))
            return &ALGORITHMS[i];
    return NULL;
}

void s3_checksum_begin(struct s3_checksum *c, const struct s3_algorithm *a)
{
    *c = (struct s3_checksum){.algorithm = a};
    if (!a)
        return;
    if (a->md) {
        c->md = EVP_MD_CTX_new();
        if (!c->md || EVP_DigestInit_ex(c->md, a->md(), NULL) != 1)
            abort(); /* as base/digest: a library that refuses a digest is no library */
        return;
    }
    pthread_once(&once, make_tables);
    c->table = tables[a - ALGORITHMS];
    c->crc = a->bytes == 8 ? UINT64_MAX : UINT32_MAX;
}

void s3_checksum_add(struct s3_checksum *c, const void *p, size_t n)
{
    if (c->md && EVP_DigestUpdate(c->md, p, n) != 1)
        abort();
    if (!c->table)
        return;
    const unsigned char *b = p;
    uint64_t crc = c->crc;
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ c->table[(crc ^ b[i]) & 0xff];
    c->crc = crc;
}

void s3_checksum_end(struct s3_checksum *c, unsigned char out[EVP_MAX_MD_SIZE])
{
    if (c->md && EVP_DigestFinal_ex(c->md, out, NULL) != 1)
        abort();
    for (unsigned i = 0; c->table && i < c->algorithm->bytes; i++)
        out[i] = (unsigned char)(~c->crc >> 8 * (c->algorithm->bytes - 1 - i));
    s3_checksum_done(c);
}

void s3_checksum_done(struct s3_checksum *c)
{
    EVP_MD_CTX_free(c->md);
    c->md = NULL;
    c->table = NULL;
}
