/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/encode.h"

struct sha256 {
    EVP_MD_CTX *ctx; /* owned */
};

struct sha256 *sha256_new(void)
{
    struct sha256 *h = malloc(sizeof *h);
    if (!h || !(h->ctx = EVP_MD_CTX_new()) || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
        abort();
    return h;
}

void sha256_add(struct sha256 *h, const void *p, size_t n)
{
    if (EVP_DigestUpdate(h->ctx, p, n) != 1)
        abort();
}

void sha256_end(struct sha256 *h, unsigned char out[SHA256_LEN])
{
    if (EVP_DigestFinal_ex(h->ctx, out, NULL) != 1)
        abort();
    sha256_free(h);
}

void sha256_free(struct sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_of(const void *p, size_t n, unsigned char out[SHA256_LEN])
{
    if (EVP_Digest(p, n, out, NULL, EVP_sha256(), NULL) != 1)
        abort();
}

void sha256_hex_of(const void *p, size_t n, char out[SHA256_HEX_LEN + 1])
{
    unsigned char d[SHA256_LEN];
    sha256_of(p, n, d);
    hex_encode(out, d, sizeof d);
}

int sha256_hex_fd(int fd, char out[SHA256_HEX_LEN + 1], struct err *e)
{
    return sha256_hex_fd_start(fd, UINT64_MAX, out, e);
}

int sha256_hex_fd_start(int fd, uint64_t bytes, char out[SHA256_HEX_LEN + 1], struct err *e)
{
    enum { CHUNK = 1 << 18 };
    char *chunk = malloc(CHUNK);
    if (!chunk)
        return err_set(e, ENOMEM, "out of memory while hashing a file");
    struct sha256 *h = sha256_new();
    off_t at = 0;
    ssize_t n;
    while ((n = pread(fd, chunk, bytes < CHUNK ? (size_t)bytes : CHUNK, at)) > 0) {
        sha256_add(h, chunk, (size_t)n);
        at += n;
        bytes -= (uint64_t)n;
    }
    int saved = errno;
    free(chunk);
    unsigned char d[SHA256_LEN];
    sha256_end(h, d);
    if (n < 0)
        return err_set_errno(e, saved, "read while hashing");
    hex_encode(out, d, sizeof d);
    return 0;
}

void hmac_sha256(const void *key, size_t key_n, const void *p, size_t n,
                 unsigned char out[SHA256_LEN])
{
    unsigned len = SHA256_LEN;
    if (!HMAC(EVP_sha256(), key, (int)key_n, p, n, out, &len))
        abort();
}
