/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint tokens. Theory of operation: compact JWE "header..iv.ciphertext.tag", direct encryption.
 * The header is a function of the key's id alone and is compared, never parsed. The claims are
 * packed at fixed places in PLAIN_LEN bytes, so every token has the same length whatever ports it
 * opens; random 96-bit nonces are safe for 2^32 tokens of one key (NIST SP 800-38D §8.3).
 */
#include "auth/token.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"

/* 511 bytes are 682 base64url characters: with the rest 823, the length that AWS's tokens have. */
enum { PLAIN_LEN = 511, IV_LEN = 12, TAG_LEN = 16 };

#define B64(n) (((n)*8 + 5) / 6) /* unpadded */

/* Layout, big-endian: version, flags, number of ranges, 0, expires_at (8), microvm_id (64, NUL
 * padded), ranges (first, last). */
enum { AT_VERSION, AT_FLAGS, AT_COUNT, AT_EXPIRES = 4, AT_ID = 12, AT_RANGES = 76 };
_Static_assert(AT_RANGES + 4 * TOKEN_PORT_RANGES_MAX <= PLAIN_LEN, "claims fit");

enum { VERSION = 1, FLAG_SHELL = 1, FLAG_ALL_PORTS = 2 };

static void put_be(unsigned char *p, uint64_t v, unsigned n)
{
    for (unsigned i = n; i-- > 0; v >>= 8)
        p[i] = (unsigned char)v;
}

static uint64_t get_be(const unsigned char *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static int pack(const struct token_claims *c, unsigned char out[PLAIN_LEN], struct err *e)
{
    if (c->n_ports > TOKEN_PORT_RANGES_MAX)
        return err_set(e, EINVAL, "a token can hold at most %d port ranges", TOKEN_PORT_RANGES_MAX);
    if (memchr(c->microvm_id, '\0', sizeof c->microvm_id) == NULL || !c->microvm_id[0])
        return err_set(e, EINVAL, "the microVM id is empty or too long");
    memset(out, 0, PLAIN_LEN);
    out[AT_VERSION] = VERSION;
    out[AT_FLAGS] =
        (unsigned char)((c->shell ? FLAG_SHELL : 0) | (c->all_ports ? FLAG_ALL_PORTS : 0));
    out[AT_COUNT] = (unsigned char)c->n_ports;
    put_be(out + AT_EXPIRES, (uint64_t)c->expires_at, 8);
    memcpy(out + AT_ID, c->microvm_id, strlen(c->microvm_id));
    for (unsigned i = 0; i < c->n_ports; i++) {
        put_be(out + AT_RANGES + 4 * i, c->ports[i].first, 2);
        put_be(out + AT_RANGES + 4 * i + 2, c->ports[i].last, 2);
    }
    return 0;
}

static int unpack(const unsigned char p[PLAIN_LEN], struct token_claims *ret)
{
    memset(ret, 0, sizeof *ret);
    if (p[AT_VERSION] != VERSION || p[AT_COUNT] > TOKEN_PORT_RANGES_MAX ||
        p[AT_ID + sizeof ret->microvm_id - 1])
        return -EINVAL;
    ret->shell = p[AT_FLAGS] & FLAG_SHELL;
    ret->all_ports = p[AT_FLAGS] & FLAG_ALL_PORTS;
    ret->expires_at = (int64_t)get_be(p + AT_EXPIRES, 8);
    memcpy(ret->microvm_id, p + AT_ID, sizeof ret->microvm_id);
    ret->n_ports = p[AT_COUNT];
    for (unsigned i = 0; i < ret->n_ports; i++) {
        ret->ports[i].first = (uint16_t)get_be(p + AT_RANGES + 4 * i, 2);
        ret->ports[i].last = (uint16_t)get_be(p + AT_RANGES + 4 * i + 2, 2);
    }
    return 0;
}

/* The protected header in base64url, which is also the additional authenticated data. */
static int add_header(const struct token_key *k, struct buf *out)
{
    char json[96];
    int n =
        snprintf(json, sizeof json, "{\"kid\":\"%s\",\"alg\":\"dir\",\"enc\":\"A256GCM\"}", k->kid);
    return base64url_encode(out, json, (size_t)n);
}

struct sealed {
    unsigned char iv[IV_LEN], text[PLAIN_LEN], tag[TAG_LEN];
};

static bool seal(const struct token_key *k, const struct buf *aad,
                 const unsigned char plain[PLAIN_LEN], struct sealed *s)
{
    int n = 0, end = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    random_bytes(s->iv, sizeof s->iv);
    bool ok =
        c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, k->key, s->iv) == 1 &&
        EVP_EncryptUpdate(c, NULL, &n, (const unsigned char *)aad->data, (int)aad->len) == 1 &&
        EVP_EncryptUpdate(c, s->text, &n, plain, PLAIN_LEN) == 1 && n == PLAIN_LEN &&
        EVP_EncryptFinal_ex(c, s->text + n, &end) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_LEN, s->tag) == 1;
    EVP_CIPHER_CTX_free(c);
    return ok;
}

static bool unseal(const struct token_key *k, const struct buf *aad, struct sealed *s,
                   unsigned char plain[PLAIN_LEN])
{
    int n = 0, end = 0;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok =
        c && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, k->key, s->iv) == 1 &&
        EVP_DecryptUpdate(c, NULL, &n, (const unsigned char *)aad->data, (int)aad->len) == 1 &&
        EVP_DecryptUpdate(c, plain, &n, s->text, PLAIN_LEN) == 1 && n == PLAIN_LEN &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_LEN, s->tag) == 1 &&
        EVP_DecryptFinal_ex(c, plain + n, &end) == 1;
    EVP_CIPHER_CTX_free(c);
    return ok;
}

static int add_part(struct buf *out, const char *dots, const void *p, size_t n)
{
    int rc = buf_adds(out, dots);
    return rc < 0 ? rc : base64url_encode(out, p, n);
}

int token_mint(const struct token_key *k, const struct token_claims *c, struct buf *out,
               struct err *e)
{
    unsigned char plain[PLAIN_LEN];
    struct sealed s;
    CLEANUP(buf_done)
    struct buf aad = BUF_INIT(256);
    int rc = pack(c, plain, e);
    if (rc < 0)
        return rc;
    rc = add_header(k, &aad);
    if (rc == 0 && !seal(k, &aad, plain, &s))
        rc = -EIO;
    OPENSSL_cleanse(plain, sizeof plain);
    if (rc == 0)
        rc = buf_add(out, aad.data, aad.len);
    if (rc == 0)
        rc = add_part(out, "..", s.iv, sizeof s.iv);
    if (rc == 0)
        rc = add_part(out, ".", s.text, sizeof s.text);
    if (rc == 0)
        rc = add_part(out, ".", s.tag, sizeof s.tag);
    return rc < 0 ? err_set(e, -rc, "cannot make a token") : 0;
}

/* Takes the text up to the next dot (or the end) and decodes exactly want bytes. */
static bool take_part(struct slice *s, void *out, size_t want)
{
    const char *dot = s->n ? memchr(s->p, '.', s->n) : NULL;
    size_t n = dot ? (size_t)(dot - s->p) : s->n;
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(TOKEN_TEXT_MAX);
    if (base64url_decode(&b, s->p, n) < 0 || b.len != want)
        return false;
    memcpy(out, b.data, want);
    n += dot != NULL;
    *s = (struct slice){s->p + n, s->n - n};
    return true;
}

int token_open(const struct token_key *k, struct slice text, struct token_claims *ret)
{
    struct sealed s;
    unsigned char plain[PLAIN_LEN];
    CLEANUP(buf_done)
    struct buf aad = BUF_INIT(256);
    if (text.n > TOKEN_TEXT_MAX || add_header(k, &aad) < 0)
        return -EINVAL;
    /* One length, so that there is one spelling; header and empty encrypted key byte for byte. */
    if (text.n != aad.len + 2 + B64(IV_LEN) + 1 + B64(PLAIN_LEN) + 1 + B64(TAG_LEN) ||
        memcmp(text.p, aad.data, aad.len) != 0 || memcmp(text.p + aad.len, "..", 2) != 0)
        return -EINVAL;
    text = (struct slice){text.p + aad.len + 2, text.n - aad.len - 2};
    if (!take_part(&text, s.iv, sizeof s.iv) || !take_part(&text, s.text, sizeof s.text) ||
        !take_part(&text, s.tag, sizeof s.tag) || text.n)
        return -EINVAL;
    if (!unseal(k, &aad, &s, plain)) {
        OPENSSL_cleanse(plain, sizeof plain); /* unauthenticated */
        return -EINVAL;
    }
    int rc = unpack(plain, ret);
    OPENSSL_cleanse(plain, sizeof plain);
    return rc;
}

enum token_verdict token_check(const struct token_claims *c, const char *microvm_id, uint16_t port,
                               int64_t now_s)
{
    if (strcmp(c->microvm_id, microvm_id) != 0)
        return TOKEN_OTHER_MICROVM;
    if (now_s >= c->expires_at)
        return TOKEN_EXPIRED;
    if (c->shell || port == 0)
        return c->shell && port == 0 ? TOKEN_OK : TOKEN_PORT_DENIED;
    if (c->all_ports)
        return TOKEN_OK;
    for (unsigned i = 0; i < c->n_ports; i++) {
        if (port >= c->ports[i].first && port <= c->ports[i].last)
            return TOKEN_OK;
    }
    return TOKEN_PORT_DENIED;
}
