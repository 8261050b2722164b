/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 message serialisation (RFC 9112), for responses of the server and requests towards an
 * upstream. Framing fields are always ours: Connection, Transfer-Encoding, Upgrade and the like
 * given by the user are dropped (h1_write_switch() excepted), and a Content-Length is kept only
 * when it is one valid number. Fields with an invalid name or value are dropped.
 */
#ifndef HTTP_H1_WRITE_H
#define HTTP_H1_WRITE_H

#include "http/fields.h"
#include "http/queue.h"

enum h1_framing_kind { H1_FRAMING_NONE, H1_FRAMING_LENGTH, H1_FRAMING_CHUNKED, H1_FRAMING_CLOSE };

struct h1_framing {
    enum h1_framing_kind kind;
    uint64_t left; /* LENGTH: bytes still owed */
};

struct h1_response_head {
    int status;
    int version;     /* of the request: 10 or 11 */
    bool head_only;  /* the request was HEAD */
    bool keep_alive; /* what we want; *ret_keep_alive says what it became */
    const struct http_header *headers;
    size_t n_headers;
};

/* All: 0, -ENOMEM. */
int h1_write_interim(struct queue *out, int status, const struct http_header *h,
                     size_t n) MUST_CHECK;
int h1_write_response(struct queue *out, const struct h1_response_head *r, struct h1_framing *ret,
                      bool *ret_keep_alive) MUST_CHECK;
/* 101 with an Upgrade field from h, and "Connection: Upgrade". */
int h1_write_switch(struct queue *out, const struct http_header *h, size_t n) MUST_CHECK;

struct h1_request_head {
    struct slice method, target, host;
    const struct http_header *headers; /* "host" and "content-length" in them are ignored */
    size_t n_headers;
    enum h1_framing_kind framing; /* NONE, LENGTH or CHUNKED */
    uint64_t length;
    bool upgrade; /* "Connection: Upgrade" and the Upgrade field of headers */
    bool close;   /* "Connection: close" */
};
int h1_write_request(struct queue *out, const struct h1_request_head *r,
                     struct h1_framing *ret) MUST_CHECK;

/* Body bytes; -EPROTO when more than the announced length is written (nothing is added then). */
int h1_write_body(struct queue *out, struct h1_framing *f, const char *p, size_t n) MUST_CHECK;
/* End of the body; trailers only reach the peer with chunked framing. -EPROTO when bytes of the
 * announced length are missing. */
int h1_write_end(struct queue *out, struct h1_framing *f, const struct http_header *trailers,
                 size_t n) MUST_CHECK;

const char *h1_reason(int status); /* never NULL */

#endif
