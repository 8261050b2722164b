/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A request is routed and judged, waits (its body paused) until the backend
 * has a session with the machine, gets a connection to the port, and then both directions flow by
 * themselves, each stopped by the other end's queue:
 *
 *   client --on_body--> upstream_write   full: body paused,    on_writable of the tunnel resumes
 *   client <-http_write-- response parser full: parser and tunnel paused, on_writable resumes
 *
 * The response may begin and end while the request is still being sent. After 101 both directions
 * carry raw bytes and end independently.
 *
 * Everything in flight is bounded: the exchange's queue, the tunnel's queue, one stream window in
 * upstream.in, and the serialised head.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/internal.h"

#define ACTIVITY_MS 200

/* ---- answers of our own ---- */

static void answer(struct http_exchange *x, const char *id, int status, const char *code,
                   const char *text)
{
    char length[24];
    snprintf(length, sizeof length, "%zu", strlen(text));
    struct http_header h[6] = {
        {SLICE("content-length"), slice_from(length)},
        {SLICE(FORWARD_REQUEST_ID), slice_from(id)},
        {SLICE("x-aws-proxy-error"), slice_from(code)},
        {SLICE("content-type"), SLICE("text/plain")},
        {SLICE("cache-control"), SLICE("private, no-store")},
    };
    http_respond(x, status, h, *text ? 5 : 3);
    http_write(x, text, strlen(text));
    http_end(x, NULL, 0);
}

static const struct {
    enum proxy_verdict verdict;
    int status;
    const char *code, *text;
} denials[] = {
    {PROXY_TOKEN_MISSING, 403, CODE_UNAUTHORIZED, "Request missing authentication"},
    {PROXY_TOKEN_REFUSED, 403, CODE_UNAUTHORIZED, "Token authentication failed"},
    {PROXY_PORT_DENIED, 403, CODE_PORT_DENIED, "Access to port denied"},
    {PROXY_NOT_FOR_HTTP, 502, CODE_MICROVM, ""},
};

/* False when the request was answered. */
static bool admit(struct request *q, const struct proxy_route *t)
{
    struct proxy *p = q->p;
    enum proxy_verdict v = PROXY_TOKEN_MISSING;
    if (t->token.n && !t->port) {
        char text[128];
        int shown = t->port_text.n < 64 ? (int)t->port_text.n : 64;
        snprintf(text, sizeof text, "Invalid x-aws-proxy-port: %.*s", shown, t->port_text.p);
        answer(q->x, q->id, 400, CODE_BAD_PORT, text);
        return false;
    }
    if (t->token.n) {
        q->vm = p->b.find(p->b.arg, t->label);
        v = p->b.authorize(p->b.arg, q->vm, t->token, t->port);
        if (v == PROXY_ALLOWED && !q->vm)
            v = PROXY_TOKEN_REFUSED;
    }
    for (size_t i = 0; i < ARRAY_LEN(denials); i++) {
        if (denials[i].verdict != v)
            continue;
        answer(q->x, q->id, denials[i].status, denials[i].code, denials[i].text);
        return false;
    }
    return true;
}

/* ---- life ---- */

static void request_free(struct request *q)
{
    struct proxy *p = q->p;
    queue_done(&q->head);
    if (q->vm)
        p->b.unref(q->vm);
    free(q);
    proxy_gone(p);
}

void request_activity(struct request *q)
{
    int64_t now = clock_mono_ms();
    if (now - q->activity_ms < ACTIVITY_MS)
        return;
    q->activity_ms = now;
    q->p->b.activity(q->vm);
}

void request_fail(struct request *q, const char *code)
{
    if (!q->x || q->ended)
        return;
    if (q->responded) {
        http_abort(q->x); /* the client must see that what it has is not all */
        return;
    }
    q->responded = q->ended = true;
    answer(q->x, q->id, 502, code, "");
}

static void on_connected(struct agent *a, void *ctx)
{
    struct request *q = ctx;
    q->connecting = false;
    if (!q->x) {
        request_free(q);
        return;
    }
    int r = a ? upstream_get(q, a) : -EHOSTUNREACH;
    if (r < 0)
        request_fail(q, r == -ENOMEM ? CODE_INTERNAL : CODE_MICROVM);
}

void request_connect(struct request *q)
{
    q->connecting = true;
    q->p->b.connect(q->p->b.arg, q->vm, on_connected, q);
}

void request_send(struct request *q)
{
    bool more = upstream_write(q->up, queue_head(&q->head), q->head.len);
    if (!q->repeatable)
        queue_done(&q->head);
    if (q->retried)
        q->sent_all = true; /* the client's on_end has been; a repeatable request has no body */
    if (more)
        http_body_resume(q->x);
}

/* ---- the response, from the parser ---- */

static void on_interim(const struct h1_response_info *r, void *arg)
{
    struct request *q = ((struct upstream *)arg)->q;
    size_t n;
    if (r->status == 100)
        return; /* the server answers Expect by itself */
    struct http_header *h = forward_response(r, q->id, false, &n);
    if (h)
        http_respond(q->x, r->status, h, n);
    free(h);
}

static void on_head(const struct h1_response_info *r, void *arg)
{
    struct request *q = ((struct upstream *)arg)->q;
    size_t n = 0;
    struct http_header *h = forward_response(r, q->id, q->marker, &n);
    q->responded = true;
    queue_done(&q->head);
    if (!h) {
        http_abort(q->x);
    } else if (r->status == 101) {
        q->raw = true;
        http_upgrade(q->x, h, n);
    } else {
        http_respond(q->x, r->status, h, n);
    }
    free(h);
}

void request_raw(struct request *q, const char *p, size_t n)
{
    q->client_blocked = !http_write(q->x, p, n);
}

static void on_body(const char *p, size_t n, void *arg)
{
    struct upstream *up = arg;
    request_raw(up->q, p, n);
    if (up->q->client_blocked)
        h1_response_pause(up->codec, true);
}

static void on_end(const struct http_header *trailers, size_t n, void *arg)
{
    struct request *q = ((struct upstream *)arg)->q;
    q->ended = true;
    http_end(q->x, trailers, n);
}

const struct h1_response_ops request_response_ops = {
    .on_interim = on_interim,
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
};

void request_raw_end(struct request *q)
{
    if (q->ended)
        return;
    q->ended = true;
    http_end(q->x, NULL, 0);
}

/* ---- the request, from the client ---- */

static void x_body(struct http_exchange *x, const char *p, size_t n, void *ctx)
{
    struct request *q = ctx;
    struct queue framed = {0};
    request_activity(q);
    if (!q->up)
        return; /* failed or already answered: the rest has no receiver */
    bool more = true;
    if (q->raw || q->framing.kind != H1_FRAMING_CHUNKED) {
        if (!q->raw && q->framing.kind == H1_FRAMING_LENGTH)
            q->framing.left -= n < q->framing.left ? n : q->framing.left;
        more = upstream_write(q->up, p, n);
    } else if (h1_write_body(&framed, &q->framing, p, n) == 0) {
        more = upstream_write(q->up, queue_head(&framed), framed.len);
    } else {
        http_abort(x);
    }
    queue_done(&framed);
    if (!more)
        http_body_pause(x);
}

static void x_end(struct http_exchange *x, const struct http_header *trailers, size_t n, void *ctx)
{
    struct request *q = ctx;
    struct queue framed = {0};
    if (!q->up)
        return;
    if (q->raw) {
        upstream_end(q->up);
        return;
    }
    if (h1_write_end(&framed, &q->framing, trailers, n) == 0) {
        (void)upstream_write(q->up, queue_head(&framed), framed.len); /* nothing follows it */
        q->sent_all = true;
    } else {
        http_abort(x);
    }
    queue_done(&framed);
}

static void x_writable(struct http_exchange *x, void *ctx)
{
    struct request *q = ctx;
    (void)x;
    q->client_blocked = false;
    if (q->up)
        upstream_pump(q->up);
}

static void x_close(struct http_exchange *x, void *ctx)
{
    struct request *q = ctx;
    (void)x;
    q->x = NULL;
    if (q->up)
        upstream_abandon(q->up);
    if (!q->connecting)
        request_free(q);
}

static const struct http_exchange_ops exchange_ops = {
    .on_body = x_body,
    .on_end = x_end,
    .on_writable = x_writable,
    .on_close = x_close,
};

/* Safe to send twice, and nothing of it is gone after the first time (RFC 9110 §9.2.2). */
static bool is_repeatable(const struct http_request *r)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (slice_eq(r->method, methods[i]))
            return !r->expects_body && !r->upgrade;
    return false;
}

/* An upgrade to HTTP/2 is a matter of one hop: the application gets an ordinary request. */
static struct http_request without_h2c(const struct http_request *r)
{
    struct http_request copy = *r;
    struct slice to;
    if (http_header_find(r->headers, r->n_headers, "upgrade", &to) && field_list_has(to, "h2c"))
        copy.upgrade = false;
    return copy;
}

static void on_request(struct http_exchange *x, const struct http_request *original, void *arg)
{
    struct proxy *p = arg;
    struct http_request copy = without_h2c(original), *r = &copy;
    struct proxy_route t = {0};
    struct request *q = calloc(1, sizeof *q);
    if (!q) {
        http_abort(x);
        return;
    }
    p->n_live++;
    q->p = p;
    q->x = x;
    uuid_new(q->id);
    http_exchange_set(x, &exchange_ops, q);
    if (route_read(r, p->domain, &t) < 0) {
        answer(x, q->id, 500, CODE_INTERNAL, "");
    } else if (admit(q, &t)) {
        q->port = t.port;
        q->head_only = slice_eq(r->method, "HEAD");
        q->upgrade = r->upgrade;
        q->marker = t.marker;
        q->repeatable = is_repeatable(r);
        request_activity(q);
        http_body_pause(x);
        if (forward_request(&q->head, r, &t, q->id, &q->framing) < 0)
            answer(x, q->id, 500, CODE_INTERNAL, "");
        else
            request_connect(q);
    }
    route_done(&t);
}

/* ---- the proxy ---- */

static void on_reaper(uv_timer_t *timer)
{
    upstream_reap(timer->data, false);
}

int proxy_new(const struct proxy_config *c, struct proxy **ret, struct err *e)
{
    struct proxy *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ENOMEM, "out of memory");
    if (strlen(c->domain) >= sizeof p->domain) {
        free(p);
        return err_set(e, EINVAL, "endpoint domain '%s' is too long", c->domain);
    }
    memcpy(p->domain, c->domain, strlen(c->domain) + 1);
    p->loop = c->loop;
    p->b = c->backend;
    p->reaper.data = p;
    uv_timer_init(loop_uv(c->loop), &p->reaper);
    uv_timer_start(&p->reaper, on_reaper, 500, 500);
    *ret = p;
    return 0;
}

struct http_handler proxy_handler(struct proxy *p)
{
    return (struct http_handler){.on_request = on_request, .arg = p};
}

static void on_closed(uv_handle_t *h)
{
    struct proxy *p = h->data;
    void (*done)(void *) = p->done;
    void *arg = p->done_arg;
    free(p);
    if (done)
        done(arg);
}

static void maybe_finish(struct proxy *p)
{
    if (!p->stopping || p->n_live || p->closed)
        return;
    p->closed = true;
    uv_close((uv_handle_t *)&p->reaper, on_closed);
}

void proxy_gone(struct proxy *p)
{
    p->n_live--;
    maybe_finish(p);
}

void proxy_stop(struct proxy *p, void (*done)(void *arg), void *arg)
{
    p->stopping = true;
    p->done = done;
    p->done_arg = arg;
    upstream_reap(p, true);
    maybe_finish(p);
}
