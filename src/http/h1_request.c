/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The head of a message is collected in one buffer, checked byte by byte for
 * the line discipline llhttp leaves lax (CRLF only, no folding, no NUL), and parsed by llhttp in
 * one piece: every slice handed out points into that buffer and nothing is copied twice. The body
 * is decoded by h1_body and handed on without a copy.
 *
 * Limits: head bytes and field count as configured; trailers have the same limits again.
 */
#include "http/h1_request.h"

#include <ctype.h>
#include <errno.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "http/fields.h"
#include "http/h1_body.h"

#define KEEP_HEAD_CAP ((size_t)8 * 1024) /* per idle connection */

struct h1_request {
    llhttp_t parser;
    llhttp_settings_t settings;
    struct http_limits limits;
    const struct h1_request_ops *ops; /* borrowed */
    void *arg;
    enum h1_state state;
    int status; /* why it failed */
    bool paused;

    unsigned n_crlf; /* bytes of the empty line before the request line */
    struct h1_scan scan;
    struct buf head;             /* owned */
    struct http_header *headers; /* owned, limits.headers entries; point into head */
    unsigned n_headers;
    struct slice url;
    struct h1_body body;
};

static int fail(struct h1_request *c, int status)
{
    if (!c->status)
        c->status = status;
    c->state = H1_FAILED;
    return -1;
}

static int on_url(llhttp_t *p, const char *at, size_t n)
{
    struct h1_request *c = p->data;
    c->url = (struct slice){at, n};
    return 0;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
    struct h1_request *c = p->data;
    if (c->n_headers >= c->limits.headers)
        return fail(c, 431);
    if (!field_name_valid((struct slice){at, n})) /* llhttp 8 lets an empty name pass */
        return fail(c, 400);
    char *name = c->head.data + (at - c->head.data); /* ours: lower-cased in place */
    for (size_t i = 0; i < n; i++)
        name[i] = (char)tolower((unsigned char)name[i]);
    c->headers[c->n_headers++] = (struct http_header){.name = {name, n}, .value = {at + n, 0}};
    return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
    struct h1_request *c = p->data;
    if (!c->n_headers)
        return fail(c, 400);
    struct slice *v = &c->headers[c->n_headers - 1].value;
    if (!v->n)
        v->p = at;
    const char *end = at + n; /* a value may come in pieces; they are neighbours in the head */
    while (end > v->p && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    v->n = (size_t)(end - v->p);
    return 0;
}

/* What the framing and routing fields say together; filled by one walk over the fields. */
struct framing {
    unsigned n_host, n_te, n_cl, n_expect;
    struct slice host, te, cl, expect;
    bool close, keep_alive, conn_upgrade, has_upgrade;
};

static void framing_read(const struct h1_request *c, struct framing *f)
{
    for (unsigned i = 0; i < c->n_headers; i++) {
        struct slice name = c->headers[i].name, value = c->headers[i].value;
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

/* Origin form, asterisk form, or absolute form, whose authority then overrides Host
 * (RFC 9112 §3.2.2). */
static int target_read(struct slice url, const char *method, struct http_request *r)
{
    static const char *const schemes[] = {"http://", "https://"};
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

static int on_headers_complete(llhttp_t *p)
{
    struct h1_request *c = p->data;
    struct framing f = {0};
    struct h1_head h = {0};
    uint64_t length = 0;
    const char *method = llhttp_method_name(llhttp_get_method(p));
    int version = p->http_major == 1 && p->http_minor <= 1 ? 10 + p->http_minor : 0;
    if (!version)
        return fail(c, 505);
    framing_read(c, &f);
    int status = framing_check(&f, version, &length);
    if (!status) {
        h.request.authority = f.host;
        status = target_read(c->url, method, &h.request);
    }
    if (status)
        return fail(c, status);
    bool has_body = f.n_te || length > 0;
    h.request.version = version;
    h.request.method = slice_from(method);
    h.request.headers = c->headers;
    h.request.n_headers = c->n_headers;
    h.request.expects_body = has_body;
    h.request.upgrade = version == 11 && f.conn_upgrade && f.has_upgrade && !has_body;
    h.keep_alive = version == 11 ? !f.close : f.keep_alive && !f.close;
    h.expect_continue = f.n_expect && has_body && version == 11;
    h1_body_start(&c->body, f.n_te ? H1_BODY_CHUNKED : H1_BODY_LENGTH, length);
    c->state = H1_BODY;
    c->ops->on_head(&h, c->arg);
    return HPE_PAUSED; /* llhttp's part is done: upgrades and bodies are not its business */
}

int h1_request_new(const struct http_limits *l, const struct h1_request_ops *ops, void *arg,
                   struct h1_request **ret)
{
    struct h1_request *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->headers = calloc(l->headers, sizeof *c->headers);
    if (!c->headers) {
        free(c);
        return -ENOMEM;
    }
    c->limits = *l;
    c->ops = ops;
    c->arg = arg;
    c->head.max = l->header_bytes;
    h1_body_init(&c->body, l->header_bytes, l->headers);
    llhttp_settings_init(&c->settings);
    c->settings.on_url = on_url;
    c->settings.on_header_field = on_field;
    c->settings.on_header_value = on_value;
    c->settings.on_headers_complete = on_headers_complete;
    llhttp_init(&c->parser, HTTP_REQUEST, &c->settings);
    c->parser.data = c;
    *ret = c;
    return 0;
}

void h1_request_free(struct h1_request *c)
{
    if (!c)
        return;
    buf_done(&c->head);
    h1_body_done(&c->body);
    free(c->headers);
    free(c);
}

enum h1_state h1_request_state(const struct h1_request *c)
{
    return c->state;
}

bool h1_request_is_fresh(const struct h1_request *c)
{
    return c->state == H1_HEAD && c->head.len == 0;
}

void h1_request_next(struct h1_request *c)
{
    c->state = H1_HEAD;
    c->scan = (struct h1_scan){0};
    c->n_crlf = 0;
    c->n_headers = 0;
    c->url = (struct slice){0};
    if (c->head.cap > KEEP_HEAD_CAP)
        buf_done(&c->head);
    buf_clear(&c->head);
}

void h1_request_pause(struct h1_request *c, bool paused)
{
    c->paused = paused;
}

static int head_parse(struct h1_request *c)
{
    llhttp_reset(&c->parser);
    llhttp_errno_t r = llhttp_execute(&c->parser, c->head.data, c->head.len);
    if (c->state == H1_HEAD) /* an error of llhttp's, or an end that only the scanner saw */
        fail(c, r == HPE_INVALID_VERSION ? 505 : 400);
    return c->status;
}

/* An empty line before the request line is what some old clients send after a body
 * (RFC 9112 §2.2); one is skipped. */
static bool skip_empty_line(struct h1_request *c, char byte)
{
    if (c->head.len || c->n_crlf > 1 || byte != "\r\n"[c->n_crlf])
        return false;
    c->n_crlf++;
    return true;
}

static int head_feed(struct h1_request *c, const char *p, size_t n, size_t *used)
{
    size_t skip = 0, took = 0;
    while (skip < n && skip_empty_line(c, p[skip]))
        skip++;
    *used = skip;
    if (skip == n)
        return 0;
    if (c->n_crlf == 1)
        return fail(c, 400), c->status;
    int r = h1_scan_block(&c->scan, p + skip, n - skip, &took);
    *used += took;
    if (r < 0)
        return fail(c, 400), c->status;
    int added = buf_add(&c->head, p + skip, took);
    if (added < 0)
        return fail(c, added == -EMSGSIZE ? 431 : 500), c->status;
    return r ? head_parse(c) : 0;
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
        return fail(c, r == -EMSGSIZE ? 431 : r == -ENOMEM ? 500 : 400), c->status;
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
