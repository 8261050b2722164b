/* SPDX-License-Identifier: Apache-2.0 */
/* Text encodings: base64 and base64url (RFC 4648 §4, §5), hex, percent (RFC 3986 §2.1). Pure. */
#ifndef BASE_ENCODE_H
#define BASE_ENCODE_H

#include "base/buf.h"

int base64_encode(struct buf *out, const void *p, size_t n) MUST_CHECK;    /* padded */
int base64_decode(struct buf *out, const char *s, size_t n) MUST_CHECK;    /* -EINVAL; strict */
int base64url_encode(struct buf *out, const void *p, size_t n) MUST_CHECK; /* unpadded */
int base64url_decode(struct buf *out, const char *s, size_t n) MUST_CHECK; /* -EINVAL; strict */

void hex_encode(char *out, const void *p, size_t n);             /* writes 2n chars and NUL */
int hex_decode(void *out, size_t n, const char *hex) MUST_CHECK; /* exactly 2n chars */

/* Percent-encodes everything but A-Za-z0-9-._~ and the characters of keep. */
int percent_encode(struct buf *out, const char *s, size_t n, const char *keep) MUST_CHECK;
/* -EINVAL on a bad escape or an encoded NUL. '+' stays '+'. */
int percent_decode(struct buf *out, const char *s, size_t n) MUST_CHECK;

#endif
