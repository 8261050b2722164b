/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head is read by h1_head, the body by h1_body and handed on without a copy; this file decides
 * what the fields mean for framing and routing, and refuses what could mean two things.
 *
 * Limits: head bytes and field count as configured; trailers have the same limits again.
 */
#include "http/h1_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/h1_head.h"

struct h1_request {
    const struct h1_request_ops *ops; /* borrowed */
    void *arg;
    enum h1_state state;
    int status; /* why it failed */
    bool paused;
    struct h1_head_parser head;
    struct h1_body body;
};

static int fail(struct h1_request *c, int status)
{
    c->status = status;
    c->state = H1_FAILED;
    return status;
}

/* The status that answers an error of the parsers below. */
static int status_of(int error)
{
    switch (error) {
    case -EMSGSIZE:
        return 431;
    case -EPROTONOSUPPORT:
        return 505;
    case -ENOMEM:
        return 500;
    default:
        return 400;
    }
}

/* What the framing and routing fields say together; filled by one walk over the fields. */
struct framing {
    unsigned n_host, n_te, n_cl, n_expect;
    struct slice host, te, cl, expect;
    bool close, keep_alive, conn_upgrade, has_upgrade;
};

static void framing_read(const struct h1_request *c, struct framing *f)
{
    for (unsigned i = 0; i < c->head.n_headers; i++) {
        struct slice name = c->head.headers[i].name, value = c->head.headers[i].value;
        if (slice_eq(name, "host")) {
            f->n_host++;
            f->host = value;
        } else if (slice_eq(name, "transfer-encoding")) {
            f->n_te++;
            f->te = value;
        } else if (slice_eq(name, "content-length")) {
            f->n_cl++;
            f->cl = value;
        } else if (slice_eq(name, "expect")) {
            f->n_expect++;
            f->expect = value;
        } else if (slice_eq(name, "upgrade")) {
            f->has_upgrade = value.n > 0;
        } else if (slice_eq(name, "connection")) {
            f->close |= field_list_has(value, "close");
            f->keep_alive |= field_list_has(value, "keep-alive");
            f->conn_upgrade |= field_list_has(value, "upgrade");
        }
    }
}

/* RFC 9112 §6.1, §6.3: anything that smells of request smuggling is refused, never repaired. */
static int framing_check(const struct framing *f, int version, uint64_t *length)
{
    if (f->n_te > 1 || f->n_cl > 1 || (f->n_te && f->n_cl))
        return 400;
    if (f->n_te && (version == 10 || !slice_eq_nocase(f->te, "chunked")))
        return 400;
    if (f->n_cl && field_parse_length(f->cl, length) < 0)
        return 400;
    if (f->n_host > 1 || (version == 11 && !f->n_host))
        return 400;
    if (f->host.n && !field_authority_valid(f->host))
        return 400;
    if (f->n_expect && (f->n_expect > 1 || !slice_eq_nocase(f->expect, "100-continue")))
        return 417;
    return 0;
}

/* Never a tunnel: a response to CONNECT has no body, whatever its fields say (RFC 9112 §6.3), and
 * nobody behind us is asked to open one.
 * Origin form, asterisk form, or absolute form, whose authority then overrides Host
 * (RFC 9112 §3.2.2). */
static int target_read(struct slice url, const char *method, struct http_request *r)
{
    static const char *const schemes[] = {"http://", "https://"};
    if (strcmp(method, "CONNECT") == 0)
        return 400;
    if (url.n && url.p[0] == '/') {
        r->target = url;
        return 0;
    }
    if (slice_eq(url, "*") && strcmp(method, "OPTIONS") == 0) {
        r->target = url;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (url.n <= n || strncasecmp(url.p, schemes[i], n) != 0)
            continue;
        size_t end = n;
        while (end < url.n && url.p[end] != '/' && url.p[end] != '?' && url.p[end] != '#')
            end++;
        r->authority = (struct slice){url.p + n, end - n};
        if (!field_authority_valid(r->authority) || (end < url.n && url.p[end] != '/'))
            return 400;
        r->target = end < url.n ? (struct slice){url.p + end, url.n - end} : SLICE("/");
        return 0;
    }
    return 400;
}

/* 0, or the status to refuse the request with. */
static int head_done(struct h1_request *c)
{
    struct framing f = {0};
    struct h1_head h = {0};
    uint64_t length = 0;
    int version = c->head.version;
    const char *method = h1_head_method(&c->head);
    framing_read(c, &f);
    int status = framing_check(&f, version, &length);
    if (!status) {
        h.request.authority = f.host;
        status = target_read(c->head.url, method, &h.request);
    }
    if (status)
        return status;
    bool has_body = f.n_te || length > 0;
    h.request.version = version;
    h.request.method = slice_from(method);
    h.request.headers = c->head.headers;
    h.request.n_headers = c->head.n_headers;
    h.request.expects_body = has_body;
    h.request.upgrade = version == 11 && f.conn_upgrade && f.has_upgrade && !has_body;
    h.keep_alive = version == 11 ? !f.close : f.keep_alive && !f.close;
    h.expect_continue = f.n_expect && has_body && version == 11;
    h1_body_start(&c->body, f.n_te ? H1_BODY_CHUNKED : H1_BODY_LENGTH, length);
    c->state = H1_BODY;
    c->ops->on_head(&h, c->arg);
    return 0;
}

int h1_request_new(const struct http_limits *l, const struct h1_request_ops *ops, void *arg,
                   struct h1_request **ret)
{
    struct h1_request *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    if (h1_head_init(&c->head, true, l->header_bytes, l->headers) < 0) {
        free(c);
        return -ENOMEM;
    }
    c->ops = ops;
    c->arg = arg;
    h1_body_init(&c->body, l->header_bytes, l->headers);
    *ret = c;
    return 0;
}

void h1_request_free(struct h1_request *c)
{
    if (!c)
        return;
    h1_head_done(&c->head);
    h1_body_done(&c->body);
    free(c);
}

enum h1_state h1_request_state(const struct h1_request *c)
{
    return c->state;
}

bool h1_request_is_fresh(const struct h1_request *c)
{
    return c->state == H1_HEAD && c->head.text.len == 0;
}

void h1_request_next(struct h1_request *c)
{
    c->state = H1_HEAD;
    h1_head_reset(&c->head);
}

void h1_request_pause(struct h1_request *c, bool paused)
{
    c->paused = paused;
}

static int head_feed(struct h1_request *c, const char *p, size_t n, size_t *used)
{
    int r = h1_head_feed(&c->head, p, n, used);
    int status = r < 0 ? status_of(r) : r ? head_done(c) : 0;
    return status ? fail(c, status) : 0;
}

static int body_feed(struct h1_request *c, const char *p, size_t n, size_t *used)
{
    int r = H1_BODY_DATA;
    while (r == H1_BODY_DATA && !c->paused) {
        size_t took;
        struct slice data;
        r = h1_body_feed(&c->body, p + *used, n - *used, &took, &data);
        *used += took;
        if (r == H1_BODY_DATA)
            c->ops->on_body(data.p, data.n, c->arg);
    }
    if (r < 0)
        return fail(c, status_of(r));
    if (r == H1_BODY_DONE) {
        c->state = H1_END;
        c->ops->on_end(fields_view(&c->body.trailers), c->body.trailers.n, c->arg);
    }
    return 0;
}

int h1_request_feed(struct h1_request *c, const char *p, size_t n, size_t *used)
{
    *used = 0;
    if (c->state == H1_FAILED)
        return c->status;
    if (c->state == H1_END || c->paused)
        return 0;
    if (c->state == H1_HEAD) {
        int status = n ? head_feed(c, p, n, used) : 0;
        if (status || c->state != H1_BODY || c->paused)
            return status;
    }
    return body_feed(c, p, n, used);
}
