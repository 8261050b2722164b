/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP server for HTTP/1.1 (RFC 9112, llhttp) and HTTP/2 (RFC 9113, nghttp2), plain or over TLS
 * with ALPN. The user sees one exchange = one request and its response, whatever the version.
 *
 * Thread: the loop's, for every function and callback. Order of calls per exchange:
 *   handler.on_request  (the user must call http_exchange_set() in it)
 *   ops.on_body*, ops.on_end            request body; on_end once, unless the peer dies first
 *   http_respond, http_write*, http_end response; may start before the request body has ended
 *   ops.on_close                        exactly once, last; the exchange is freed afterwards
 * After an upgrade (http_upgrade) on_body and http_write carry raw bytes in both directions.
 *
 * Limits: see struct http_limits; a request beyond them is answered 431/413/400/408 by the server.
 * Hop-by-hop fields (RFC 9110 §7.6.1), te, and upgrade are visible in h1 requests; the user of the
 * exchange decides what to forward. Header names are lower case.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/loop.h"

struct http_server;
struct http_exchange;

struct http_header {
    struct slice name, value;
};

struct http_request {
    int version; /* 11 or 20 (10 for HTTP/1.0) */
    struct slice method;
    struct slice target;               /* raw request target: path and query, never decoded */
    struct slice authority;            /* Host or :authority; may be empty */
    struct slice sni;                  /* server name of the TLS handshake; empty without TLS */
    const struct http_header *headers; /* borrowed until the callback returns */
    size_t n_headers;
    bool upgrade;      /* h1: Connection: upgrade with an Upgrade field */
    bool expects_body; /* a body may follow (content-length > 0, chunked, h2 without END_STREAM) */
};

/* First value of a (lower-case) header; false when absent. */
bool http_header_find(const struct http_header *h, size_t n, const char *name, struct slice *ret);

struct http_exchange_ops {
    void (*on_body)(struct http_exchange *x, const char *p, size_t n, void *ctx);
    /* Request complete; trailers may be empty. After an upgrade: the peer half-closed. */
    void (*on_end)(struct http_exchange *x, const struct http_header *trailers, size_t n,
                   void *ctx);
    /* Output queue fell below the low mark after http_write() had returned false. */
    void (*on_writable)(struct http_exchange *x, void *ctx);
    void (*on_close)(struct http_exchange *x, void *ctx);
};

struct http_handler {
    void (*on_request)(struct http_exchange *x, const struct http_request *r, void *arg);
    void *arg;
};

struct http_limits {
    size_t header_bytes;        /* request line and all fields together; default 64 KiB */
    unsigned headers;           /* default 100 */
    unsigned streams;           /* concurrent h2 streams per connection; default 128 */
    unsigned connections;       /* default 4096 */
    unsigned header_timeout_ms; /* from connection or previous response to complete header; 60 s */
    unsigned body_timeout_ms;   /* for a few KiB of a body that is wanted; default 0 = for ever */
};

struct http_server_config {
    struct loop *loop;
    const char *address;       /* numeric */
    uint16_t port;             /* 0 = any free one */
    SSL_CTX *tls;              /* borrowed; NULL = plain; ALPN is set by the server */
    bool h2;                   /* offer h2 (TLS: ALPN; plain: prior knowledge) */
    struct http_limits limits; /* zero members take their defaults */
    struct http_handler handler;
};

int http_server_start(const struct http_server_config *c, struct http_server **ret,
                      struct err *e) MUST_CHECK;
uint16_t http_server_port(const struct http_server *s);
/* Stops listening and closes every connection; on_close comes for each exchange. done(arg) is
 * called on the loop once everything is closed, and s is freed. */
void http_server_stop(struct http_server *s, void (*done)(void *arg), void *arg);

void http_exchange_set(struct http_exchange *x, const struct http_exchange_ops *ops, void *ctx);

/* Sends status and header fields; content-length or chunked framing follows from the headers given.
 * A response without a body is http_respond() + http_end(). Interim (1xx) statuses may precede. */
void http_respond(struct http_exchange *x, int status, const struct http_header *h, size_t n);
/* Queues a copy; true = go on, false = above the high mark (256 KiB): wait for on_writable. */
bool http_write(struct http_exchange *x, const char *p, size_t n);
void http_end(struct http_exchange *x, const struct http_header *trailers, size_t n);
/* h1 only: answers 101 with these fields and turns the exchange into a raw byte stream. After it
 * http_end() half-closes. */
void http_upgrade(struct http_exchange *x, const struct http_header *h, size_t n);
/* Stops / restarts on_body; unread data stays bounded by the window (h2) or the socket (h1). */
void http_body_pause(struct http_exchange *x);
void http_body_resume(struct http_exchange *x);
/* h2: RST_STREAM; h1: connection closed. on_close follows (not from within this call). */
void http_abort(struct http_exchange *x);

#endif
