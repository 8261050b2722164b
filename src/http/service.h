/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request/response services on top of http/server.h: the whole body is collected first (in memory
 * up to a limit, then spooled to an unlinked temporary file), the handler runs on a worker thread
 * where it may block, and the answer is sent from memory or from a file.
 */
#ifndef HTTP_SERVICE_H
#define HTTP_SERVICE_H

#include "base/workers.h"
#include "http/server.h"

struct http_call {
    /* request: owned copies, NUL-terminated; valid for the duration of the handler */
    const char *method, *target, *authority;
    const struct http_header *headers;
    size_t n_headers;
    bool refused;    /* admit said no: body is empty whatever was sent */
    struct buf body; /* when body_fd < 0 */
    int body_fd;     /* spooled body, offset 0; closed after the handler unless set to -1 */
    uint64_t body_size;
    char body_sha256[65]; /* lower-case hex of the body as received */

    /* response, filled by the handler */
    int status;
    struct buf reply; /* body when reply_fd < 0 */
    int reply_fd;     /* -1, or a file to send: reply_size bytes from reply_offset; closed after */
    uint64_t reply_offset, reply_size;
    struct buf reply_headers; /* "Name: value\r\n" lines, added with http_call_header() */
    bool head_only;           /* HEAD: send headers (content-length of reply) without body */
};

/* Adds one response header. A value with CR, LF or NUL is an internal error: status 500 is sent. */
void http_call_header(struct http_call *c, const char *name, const char *fmt, ...) PRINTF(3, 4);

typedef void (*http_call_fn)(struct http_call *c, void *arg); /* on a worker thread */

/* Asked on the loop when a request with a body has its head: may that body be taken? Else the
 * handler runs at once, without a body, and has to refuse. Must be quick. */
typedef bool (*http_admit_fn)(const struct http_call *c, void *arg);

struct http_service_config {
    struct workers *workers; /* borrowed */
    http_call_fn fn;
    http_admit_fn admit; /* NULL = everything */
    void *arg;
    uint64_t max_body; /* larger: 413 */
    /* Requests whose bodies may have max_large bytes instead; NULL = none. Loop thread. */
    bool (*is_large)(struct slice method, struct slice target);
    uint64_t max_large;
    size_t max_in_memory;  /* larger bodies are spooled */
    const char *spool_dir; /* for O_TMPFILE; borrowed */
};

struct http_service;
int http_service_new(const struct http_service_config *c, struct http_service **ret,
                     struct err *e) MUST_CHECK;
void http_service_free(struct http_service *s); /* after its servers have stopped */
struct http_handler http_service_handler(struct http_service *s);

#endif
