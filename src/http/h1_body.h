/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of HTTP/1.1 message framing that requests and responses share: finding the end of a
 * head, and decoding a body (RFC 9112 §6, §7). Sans-IO, pull style: each call yields at most one
 * piece of data, so that a caller can stop anywhere.
 */
#ifndef HTTP_H1_BODY_H
#define HTTP_H1_BODY_H

#include "http/fields.h"

/* Finds the empty line that ends a block of field lines. Strict: CRLF only, no folding, no NUL. */
struct h1_scan {
    bool lenient;    /* accept bare LF and folding (responses of old applications) */
    bool cr, filled; /* last byte was CR; the current line has characters */
    bool later;      /* at least one line is complete */
    bool odd;        /* something only the lenient form allows was seen */
};
/* Looks at up to n bytes; *took counts those belonging to the block. 1 = the block is complete,
 * 0 = more is needed, -EINVAL. */
int h1_scan_block(struct h1_scan *s, const char *p, size_t n, size_t *took) MUST_CHECK;

enum h1_body_kind { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_EOF };

struct h1_body {
    enum h1_body_kind kind;
    int state;     /* private */
    uint64_t left; /* LENGTH: of the body; CHUNKED: of the chunk */
    unsigned digits;
    size_t extension_bytes;
    struct h1_scan scan;
    struct buf block; /* trailer section as received */
    struct fields trailers;
};

#define H1_BODY_MORE 0
#define H1_BODY_DATA 1
#define H1_BODY_DONE 2

void h1_body_init(struct h1_body *b, size_t max_trailer_bytes, unsigned max_trailers);
void h1_body_start(struct h1_body *b, enum h1_body_kind kind, uint64_t length);
/* *used bytes of p were consumed. H1_BODY_DATA with *data (inside p), H1_BODY_DONE at the end of
 * the message (trailers filled), H1_BODY_MORE when all of p is used; -EINVAL, -EMSGSIZE, -ENOMEM.
 */
int h1_body_feed(struct h1_body *b, const char *p, size_t n, size_t *used,
                 struct slice *data) MUST_CHECK;
/* The peer closed: 0 when that ends the body properly, else -EPROTO. */
int h1_body_eof(const struct h1_body *b) MUST_CHECK;
void h1_body_done(struct h1_body *b);

#endif
