/* SPDX-License-Identifier: Apache-2.0 */
#include "base/encode.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const char STD[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char URL[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int encode64(struct buf *out, const unsigned char *p, size_t n, const char *abc, bool pad)
{
    int r = buf_reserve(out, (n + 2) / 3 * 4);
    for (size_t i = 0; r == 0 && i < n; i += 3) {
        size_t k = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)p[i] << 16;
        if (k > 1)
            v |= (uint32_t)p[i + 1] << 8;
        if (k > 2)
            v |= p[i + 2];
        char q[4] = {abc[v >> 18], abc[v >> 12 & 63], abc[v >> 6 & 63], abc[v & 63]};
        if (pad && k < 3)
            q[3] = '=';
        if (pad && k < 2)
            q[2] = '=';
        r = buf_add(out, q, pad ? 4 : k + 1);
    }
    return r;
}

static int digit64(char c, const char *abc)
{
    const char *at = c ? strchr(abc, c) : NULL;
    return at ? (int)(at - abc) : -1;
}

/* Strict: no white space, no missing or extra padding, and unused trailing bits must be zero, so
 * that one byte string has exactly one encoding. */
static int decode64(struct buf *out, const char *s, size_t n, const char *abc)
{
    size_t start = out->len;
    if (n % 4 == 1)
        return -EINVAL;
    int r = buf_reserve(out, n / 4 * 3 + 3);
    for (size_t i = 0; r == 0 && i < n; i += 4) {
        size_t k = n - i < 4 ? n - i : 4;
        uint32_t v = 0;
        for (size_t j = 0; j < 4; j++) {
            int d = j < k ? digit64(s[i + j], abc) : 0;
            if (d < 0)
                r = -EINVAL;
            v = v << 6 | (uint32_t)(d & 63);
        }
        if ((k == 2 && v & 0xffff) || (k == 3 && v & 0xff))
            r = -EINVAL;
        unsigned char b[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
        if (r == 0)
            r = buf_add(out, b, k - 1);
    }
    if (r < 0)
        out->len = start;
    return r;
}

int base64_encode(struct buf *out, const void *p, size_t n)
{
    return encode64(out, p, n, STD, true);
}

int base64_decode(struct buf *out, const char *s, size_t n)
{
    if (n % 4)
        return -EINVAL;
    while (n && n % 4 != 2 && s[n - 1] == '=')
        n--;
    return decode64(out, s, n, STD);
}

int base64url_encode(struct buf *out, const void *p, size_t n)
{
    return encode64(out, p, n, URL, false);
}

int base64url_decode(struct buf *out, const char *s, size_t n)
{
    return decode64(out, s, n, URL);
}

void hex_encode(char *out, const void *p, size_t n)
{
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        *out++ = "0123456789abcdef"[b[i] >> 4];
        *out++ = "0123456789abcdef"[b[i] & 15];
    }
    *out = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int hex_decode(void *out, size_t n, const char *hex)
{
    unsigned char *b = out;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_digit(hex[2 * i]);
        int lo = hi < 0 ? -1 : hex_digit(hex[2 * i + 1]);
        if (lo < 0)
            return -EINVAL;
        b[i] = (unsigned char)(hi << 4 | lo);
    }
    return hex[2 * n] ? -EINVAL : 0;
}

static bool unreserved(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

int percent_encode(struct buf *out, const char *s, size_t n, const char *keep)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (unreserved(s[i]) || (s[i] && strchr(keep, s[i])))
            r = buf_add(out, s + i, 1);
        else
            r = buf_addf(out, "%%%02X", (unsigned char)s[i]);
    }
    return r;
}

int percent_decode(struct buf *out, const char *s, size_t n)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (s[i] != '%') {
            r = buf_add(out, s + i, 1);
            continue;
        }
        int hi = n - i > 2 ? hex_digit(s[i + 1]) : -1;
        int lo = hi < 0 ? -1 : hex_digit(s[i + 2]);
        char c = (char)(lo < 0 ? 0 : hi << 4 | lo);
        if (!c)
            return -EINVAL;
        r = buf_add(out, &c, 1);
        i += 2;
    }
    return r;
}
