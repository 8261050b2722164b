/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.x request parser (RFC 9112), server side. Sans-IO: bytes in, callbacks out, one message at
 * a time. Stricter than most: a message that two parsers could read in two ways is refused (bare
 * LF, folded fields, both Content-Length and Transfer-Encoding, repeated or odd ones, ...).
 *
 * Order: h1_request_feed() until it reports H1_END, then h1_request_next() for the following
 * message. Callbacks must not call feed, next or done.
 */
#ifndef HTTP_H1_REQUEST_H
#define HTTP_H1_REQUEST_H

#include "http/server.h"

enum h1_state { H1_HEAD, H1_BODY, H1_END, H1_UPGRADED, H1_FAILED };

struct h1_head {
    struct http_request request; /* slices borrowed for the duration of on_head */
    bool keep_alive;
    bool expect_continue;
};

struct h1_request_ops {
    void (*on_head)(const struct h1_head *h, void *arg);
    void (*on_body)(const char *p, size_t n, void *arg);
    void (*on_end)(const struct http_header *trailers, size_t n, void *arg);
};

struct h1_request;

int h1_request_new(const struct http_limits *l, const struct h1_request_ops *ops, void *arg,
                   struct h1_request **ret) MUST_CHECK; /* -ENOMEM; ops borrowed, limits copied */
void h1_request_free(struct h1_request *c);

/* Consumes up to n bytes, *used of them; stops at the end of the message and when paused. Returns
 * 0, or the status a malformed request is to be answered with (400, 417, 431, 500, 505): the
 * connection cannot be used for another message then. */
int h1_request_feed(struct h1_request *c, const char *p, size_t n, size_t *used);
enum h1_state h1_request_state(const struct h1_request *c);
bool h1_request_is_fresh(const struct h1_request *c); /* no byte of a message seen yet */
void h1_request_next(struct h1_request *c);

/* While paused feed() consumes nothing; may be called from on_head and on_body. */
void h1_request_pause(struct h1_request *c, bool paused);

#endif
