/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums. The three CRCs are reflected, start and end inverted, and share one slicing-by-8 loop:
 * a 32-bit CRC is a 64-bit one whose upper half stays zero.
 */
#include "auth/checksum.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"

static const struct checksum_row {
    const char *field;
    uint64_t poly; /* reflected; 0 = a digest */
    unsigned bytes;
} rows[CHECKSUM_KINDS] = {
    [CHECKSUM_CRC32] = {"x-amz-checksum-crc32", 0xedb88320, 4},
    [CHECKSUM_CRC32C] = {"x-amz-checksum-crc32c", 0x82f63b78, 4},
    [CHECKSUM_CRC64NVME] = {"x-amz-checksum-crc64nvme", 0x9a6c9329ac4bc9b5, 8},
    [CHECKSUM_SHA1] = {"x-amz-checksum-sha1", 0, 20},
    [CHECKSUM_SHA256] = {"x-amz-checksum-sha256", 0, 32},
};

struct checksum {
    enum checksum_kind kind;
    uint64_t crc;
    EVP_MD_CTX *md; /* owned; NULL for CRCs */
};

static uint64_t tables[CHECKSUM_CRC64NVME + 1][8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (unsigned kind = 0; kind <= CHECKSUM_CRC64NVME; kind++) {
        for (unsigned b = 0; b < 256; b++) {
            uint64_t v = b;
            for (int i = 0; i < 8; i++)
                v = v >> 1 ^ (v & 1 ? rows[kind].poly : 0);
            tables[kind][0][b] = v;
        }
        for (unsigned k = 1; k < 8; k++) {
            for (unsigned b = 0; b < 256; b++) {
                uint64_t v = tables[kind][k - 1][b];
                tables[kind][k][b] = v >> 8 ^ tables[kind][0][v & 0xff];
            }
        }
    }
}

static uint64_t crc_add(const uint64_t t[8][256], uint64_t crc, const unsigned char *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t x = crc ^ ((uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 |
                            (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 |
                            (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56);
        crc = t[7][x & 0xff] ^ t[6][x >> 8 & 0xff] ^ t[5][x >> 16 & 0xff] ^ t[4][x >> 24 & 0xff] ^
              t[3][x >> 32 & 0xff] ^ t[2][x >> 40 & 0xff] ^ t[1][x >> 48 & 0xff] ^ t[0][x >> 56];
    }
    for (; n; p++, n--)
        crc = crc >> 8 ^ t[0][(crc ^ *p) & 0xff];
    return crc;
}

int checksum_kind_of(struct slice field_name)
{
    for (int k = 0; k < CHECKSUM_KINDS; k++) {
        if (slice_eq_nocase(field_name, rows[k].field))
            return k;
    }
    return -EINVAL;
}

const char *checksum_field(enum checksum_kind k)
{
    return rows[k].field;
}

static uint64_t all_ones(enum checksum_kind k)
{
    return rows[k].bytes == 4 ? UINT32_MAX : UINT64_MAX;
}

struct checksum *checksum_new(enum checksum_kind k)
{
    pthread_once(&tables_once, fill_tables);
    struct checksum *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->kind = k;
    c->crc = all_ones(k);
    if (rows[k].poly)
        return c;
    c->md = EVP_MD_CTX_new();
    const EVP_MD *md = k == CHECKSUM_SHA1 ? EVP_sha1() : EVP_sha256();
    if (!c->md || EVP_DigestInit_ex(c->md, md, NULL) != 1)
        abort();
    return c;
}

void checksum_add(struct checksum *c, const void *p, size_t n)
{
    if (!c->md)
        c->crc = crc_add(tables[c->kind], c->crc, p, n);
    else if (EVP_DigestUpdate(c->md, p, n) != 1)
        abort();
}

void checksum_end(struct checksum *c, char out[CHECKSUM_TEXT_MAX])
{
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned n = rows[c->kind].bytes;
    uint64_t crc = c->crc ^ all_ones(c->kind);
    if (c->md && EVP_DigestFinal_ex(c->md, value, NULL) != 1)
        abort();
    for (unsigned i = n; !c->md && i-- > 0; crc >>= 8)
        value[i] = (unsigned char)crc;
    struct buf text = BUF_INIT(CHECKSUM_TEXT_MAX - 1);
    if (base64_encode(&text, value, n) < 0)
        abort();
    memcpy(out, text.data, text.len + 1);
    buf_done(&text);
    checksum_free(c);
}

void checksum_free(struct checksum *c)
{
    if (!c)
        return;
    EVP_MD_CTX_free(c->md);
    free(c);
}
