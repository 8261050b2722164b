/* SPDX-License-Identifier: Apache-2.0 */
#include "api/page.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/encode.h"

#define MAC_LEN 16
#define TOKEN_MAX 800

/* MAC over "<scope>\0<created>:<key>": the NUL keeps the two apart, neither part contains one. */
static int cursor_mac(const unsigned char key[PAGE_KEY_LEN], const char *scope, const char *cursor,
                      unsigned char out[SHA256_LEN])
{
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(0);
    int r = buf_add(&text, scope, strlen(scope) + 1);
    if (r == 0)
        r = buf_adds(&text, cursor);
    if (r == 0)
        hmac_sha256(key, PAGE_KEY_LEN, text.data, text.len, out);
    return r;
}

int page_token_make(const unsigned char key[PAGE_KEY_LEN], const char *scope,
                    const struct page_cursor *c, struct buf *out)
{
    char cursor[PAGE_CURSOR_KEY_MAX + 32];
    snprintf(cursor, sizeof cursor, "%" PRId64 ":%s", c->created, c->key);
    unsigned char mac[SHA256_LEN];
    int r = cursor_mac(key, scope, cursor, mac);
    CLEANUP(buf_done)
    struct buf raw = BUF_INIT(0);
    if (r == 0)
        r = buf_add(&raw, mac, MAC_LEN);
    if (r == 0)
        r = buf_adds(&raw, cursor);
    return r < 0 ? r : base64url_encode(out, raw.data, raw.len);
}

int page_token_open(const unsigned char key[PAGE_KEY_LEN], const char *scope, const char *token,
                    struct page_cursor *ret, struct err *e)
{
    static const char BAD[] = "The nextToken is not valid for this request";
    CLEANUP(buf_done)
    struct buf raw = BUF_INIT(TOKEN_MAX);
    size_t n = strlen(token);
    if (n > TOKEN_MAX || base64url_decode(&raw, token, n) < 0 || raw.len <= MAC_LEN ||
        raw.len - MAC_LEN > PAGE_CURSOR_KEY_MAX + 31 ||
        memchr(raw.data + MAC_LEN, 0, raw.len - MAC_LEN))
        return err_set(e, EINVAL, "%s", BAD);
    unsigned char mac[SHA256_LEN];
    const char *cursor = raw.data + MAC_LEN;
    if (cursor_mac(key, scope, cursor, mac) < 0)
        return err_set(e, ENOMEM, "out of memory");
    if (CRYPTO_memcmp(mac, raw.data, MAC_LEN) != 0)
        return err_set(e, EINVAL, "%s", BAD);
    char *end;
    struct page_cursor c = {.created = strtoll(cursor, &end, 10)};
    if (*end != ':' || strlen(end + 1) > PAGE_CURSOR_KEY_MAX)
        return err_set(e, EINVAL, "%s", BAD);
    snprintf(c.key, sizeof c.key, "%s", end + 1);
    *ret = c;
    return 0;
}
