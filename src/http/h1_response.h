/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.x response parser (RFC 9112), for a proxy's upstream side. Sans-IO: bytes in, callbacks
 * out. The upstream is an arbitrary application and not trusted: everything is bounded, and a
 * response whose end cannot be known for certain makes the connection unfit for another request.
 *
 * Order: h1_response_start(), feed until H1_END (or H1_UPGRADED: the rest is a raw stream), start()
 * again for the next response on the same connection. Callbacks must not call feed, eof or free.
 */
#ifndef HTTP_H1_RESPONSE_H
#define HTTP_H1_RESPONSE_H

#include "http/h1_request.h"

struct h1_response_info {
    int status;
    int version;                       /* 10 or 11 */
    const struct http_header *headers; /* borrowed for the duration of the callback */
    size_t n_headers;
    bool has_body;
    bool has_length; /* the body's size is known: length */
    uint64_t length; /* also for HEAD and 304, as announced */
};

struct h1_response_ops {
    void (*on_interim)(const struct h1_response_info *r,
                       void *arg);                                /* 1xx except 101; any number */
    void (*on_head)(const struct h1_response_info *r, void *arg); /* final status, or 101 */
    void (*on_body)(const char *p, size_t n, void *arg);
    void (*on_end)(const struct http_header *trailers, size_t n, void *arg);
};

struct h1_response;

/* header_bytes and headers of l apply. -ENOMEM. */
int h1_response_new(const struct http_limits *l, const struct h1_response_ops *ops, void *arg,
                    struct h1_response **ret) MUST_CHECK;
void h1_response_free(struct h1_response *c);
/* head_only: the request was HEAD. may_switch: it asked for an upgrade (else 101 is an error). */
void h1_response_start(struct h1_response *c, bool head_only, bool may_switch);

/* Consumes up to n bytes, *used of them; stops at H1_END, H1_UPGRADED and when paused. 0,
 * -EINVAL malformed, -EMSGSIZE beyond a limit, -EPROTONOSUPPORT, -ENOMEM. */
int h1_response_feed(struct h1_response *c, const char *p, size_t n, size_t *used) MUST_CHECK;
/* The upstream ended its side: 0 when that ends the response (on_end is called) or nothing was
 * open, -EPROTO when the response is cut short. */
int h1_response_eof(struct h1_response *c) MUST_CHECK;
void h1_response_pause(struct h1_response *c, bool paused); /* as h1_request_pause() */
enum h1_state h1_response_state(const struct h1_response *c);
bool h1_response_is_fresh(const struct h1_response *c); /* no byte seen since start */
/* At H1_END: the connection may carry another request. */
bool h1_response_keep_alive(const struct h1_response *c);

#endif
