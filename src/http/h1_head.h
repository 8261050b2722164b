/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Head of an HTTP/1.x message: start line and fields, collected in one buffer and parsed by llhttp
 * in one piece, so that every slice points into that buffer. Sans-IO.
 *
 * Requests are held to the strict grammar (CRLF only, no folding). Responses come from
 * applications of all ages: bare LF is taken, folded lines are joined (RFC 9112 §5.2).
 */
#ifndef HTTP_H1_HEAD_H
#define HTTP_H1_HEAD_H

#include <llhttp.h>

#include "http/h1_body.h"

struct h1_head_parser {
    llhttp_t parser;
    llhttp_settings_t settings;
    struct h1_scan scan;
    struct buf text; /* owned */
    unsigned n_crlf; /* bytes of the empty line skipped before the start line */
    unsigned max_headers;
    bool complete;
    int error;

    /* valid once complete, until reset */
    int version;                 /* 10, 11 */
    struct slice url;            /* requests */
    struct http_header *headers; /* owned array; names in lower case */
    unsigned n_headers;
};

int h1_head_init(struct h1_head_parser *h, bool request, size_t max_bytes,
                 unsigned max_headers) MUST_CHECK; /* -ENOMEM */
void h1_head_done(struct h1_head_parser *h);
void h1_head_reset(struct h1_head_parser *h);
/* 1 = complete, 0 = more is needed (all of p is used), -EINVAL, -EMSGSIZE beyond a limit,
 * -EPROTONOSUPPORT another version, -ENOMEM. */
int h1_head_feed(struct h1_head_parser *h, const char *p, size_t n, size_t *used) MUST_CHECK;
const char *h1_head_method(const struct h1_head_parser *h);
int h1_head_status(const struct h1_head_parser *h);

#endif
