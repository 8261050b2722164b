/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and HMAC-SHA-256 (FIPS 180-4, RFC 2104) on OpenSSL's EVP. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SHA256_LEN 32
#define SHA256_HEX_LEN 64

struct sha256;
struct sha256 *sha256_new(void); /* never NULL: aborts when the library refuses */
void sha256_add(struct sha256 *h, const void *p, size_t n);
void sha256_end(struct sha256 *h, unsigned char out[SHA256_LEN]); /* frees h */
void sha256_free(struct sha256 *h);                               /* NULL is fine */

void sha256_of(const void *p, size_t n, unsigned char out[SHA256_LEN]);
void sha256_hex_of(const void *p, size_t n, char out[SHA256_HEX_LEN + 1]);
/* From the current start of the file, whatever the offset of fd; holes read as zeroes. */
int sha256_hex_fd(int fd, char out[SHA256_HEX_LEN + 1], struct err *e) MUST_CHECK;
/* The same of its first bytes at most: for a file that somebody may still make longer. */
int sha256_hex_fd_start(int fd, uint64_t bytes, char out[SHA256_HEX_LEN + 1],
                        struct err *e) MUST_CHECK;
void hmac_sha256(const void *key, size_t key_n, const void *p, size_t n,
                 unsigned char out[SHA256_LEN]);

#endif
