/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the server side of one HTTP/1.x connection. One exchange at a time; bytes of
 * a pipelined request wait in `in` (the driver stops reading as long as that is not empty) until
 * the exchange before it is over and its response has mostly left.
 *
 * An exchange ends when its response and its request have both ended. A response that ends first
 * (413, an application that answers early) makes the connection linger: the response is sent, our
 * side is closed, and the rest of the body is thrown away for a moment, because closing at once
 * would make the kernel reset the connection and the client lose the response.
 */
#include <assert.h>
#include <stdlib.h>

#include "http/h1_request.h"
#include "http/h1_write.h"
#include "http/session.h"

struct h1_exchange {
    struct http_exchange base;
    struct h1_session *session;
    struct h1_framing framing;
    int version;
    bool head_only, keep_alive;
    bool expect_continue; /* the client waits for 100 and has not got it */
    bool responded, ended;
    bool req_ended; /* on_end was called (or skipped because of an upgrade) */
    bool upgraded, peer_ended;
    bool paused, blocked, aborted;
};

struct h1_session {
    struct session base;
    struct h1_request *codec; /* owned */
    struct queue in;          /* received, not yet usable */
    struct h1_exchange *x;    /* owned; the open exchange or NULL */
    bool eof;
    enum session_state closing; /* IDLE while open */
};

static const struct http_exchange_ops no_ops;

static void wake(struct h1_session *s)
{
    s->base.env.wake(s->base.env.wake_arg);
}

static void close_exchange(struct h1_session *s)
{
    struct h1_exchange *x = TAKE(s->x);
    if (x && x->base.ops->on_close)
        x->base.ops->on_close(&x->base, x->base.ctx);
    free(x);
}

static void give_up(struct h1_exchange *x)
{
    x->aborted = true;
    wake(x->session);
}

/* ---- what the user calls ---- */

static void x_interim(struct h1_exchange *x, int status, const struct http_header *h, size_t n)
{
    if (x->version < 11 || (status == 100 && !x->expect_continue))
        return; /* HTTP/1.0 knows no interim responses; nobody waits for a second 100 */
    if (status == 100)
        x->expect_continue = false;
    if (h1_write_interim(&x->session->base.out, status, h, n) < 0)
        give_up(x);
}

static void x_respond(struct http_exchange *base, int status, const struct http_header *h, size_t n)
{
    struct h1_exchange *x = CONTAINER_OF(base, struct h1_exchange, base);
    assert(!x->responded && status >= 100 && status <= 999 && status != 101);
    wake(x->session);
    if (x->aborted)
        return;
    if (status < 200) {
        x_interim(x, status, h, n);
        return;
    }
    struct h1_response_head r = {.status = status,
                                 .version = x->version,
                                 .head_only = x->head_only,
                                 .keep_alive = x->keep_alive,
                                 .headers = h,
                                 .n_headers = n};
    /* A client that waits for 100 may or may not send its body now: nobody can tell where the next
     * request would begin. */
    if (x->expect_continue)
        r.keep_alive = false;
    x->responded = true;
    if (h1_write_response(&x->session->base.out, &r, &x->framing, &x->keep_alive) < 0)
        give_up(x);
}

static bool x_write(struct http_exchange *base, const char *p, size_t n)
{
    struct h1_exchange *x = CONTAINER_OF(base, struct h1_exchange, base);
    struct queue *out = &x->session->base.out;
    if (x->aborted)
        return true;
    assert(x->responded && !x->ended);
    int r = x->upgraded ? queue_add(out, p, n) : h1_write_body(out, &x->framing, p, n);
    if (r < 0)
        give_up(x);
    wake(x->session);
    x->blocked = out->len > HTTP_HIGH_MARK;
    return !x->blocked;
}

static void x_pause(struct http_exchange *base, bool paused)
{
    struct h1_exchange *x = CONTAINER_OF(base, struct h1_exchange, base);
    x->paused = paused;
    h1_request_pause(x->session->codec, paused);
    wake(x->session);
}

static void x_end(struct http_exchange *base, const struct http_header *trailers, size_t n)
{
    struct h1_exchange *x = CONTAINER_OF(base, struct h1_exchange, base);
    assert(x->aborted || (x->responded && !x->ended));
    x->ended = true;
    x->blocked = false;
    x_pause(base, false); /* what has arrived already is dropped, and the connection may live on */
    if (x->aborted || x->upgraded)
        return;
    if (h1_write_end(&x->session->base.out, &x->framing, trailers, n) < 0)
        give_up(x);
}

static void x_upgrade(struct http_exchange *base, const struct http_header *h, size_t n)
{
    struct h1_exchange *x = CONTAINER_OF(base, struct h1_exchange, base);
    assert(!x->responded && x->version == 11);
    x->responded = x->upgraded = x->req_ended = true;
    x->keep_alive = false;
    if (!x->aborted && h1_write_switch(&x->session->base.out, h, n) < 0)
        give_up(x);
    wake(x->session);
}

static void x_abort(struct http_exchange *base)
{
    give_up(CONTAINER_OF(base, struct h1_exchange, base));
}

static const struct exchange_vt h1_exchange_vt = {
    .respond = x_respond,
    .write = x_write,
    .end = x_end,
    .upgrade = x_upgrade,
    .pause = x_pause,
    .abort = x_abort,
};

/* ---- what the request parser calls ---- */

static void on_head(const struct h1_head *h, void *arg)
{
    struct h1_session *s = arg;
    struct h1_exchange *x = calloc(1, sizeof *x);
    if (!x) {
        s->closing = SESSION_DEAD;
        return;
    }
    struct http_request r = h->request;
    r.sni = s->base.env.sni;
    x->base.vt = &h1_exchange_vt;
    x->base.ops = &no_ops;
    x->base.loop = s->base.env.loop;
    x->session = s;
    x->version = r.version;
    x->head_only = slice_eq(r.method, "HEAD");
    x->keep_alive = h->keep_alive;
    x->expect_continue = h->expect_continue;
    s->x = x;
    s->base.exchanges++;
    s->base.env.handler.on_request(&x->base, &r, s->base.env.handler.arg);
}

static void on_body(const char *p, size_t n, void *arg)
{
    struct h1_session *s = arg;
    struct h1_exchange *x = s->x;
    if (!x || x->aborted)
        return;
    s->base.received += n;
    x->expect_continue = false;
    if (!x->ended && x->base.ops->on_body)
        x->base.ops->on_body(&x->base, p, n, x->base.ctx);
}

static void on_end(const struct http_header *trailers, size_t n, void *arg)
{
    struct h1_session *s = arg;
    struct h1_exchange *x = s->x;
    if (!x || x->aborted || x->req_ended)
        return;
    x->req_ended = true;
    if (x->base.ops->on_end)
        x->base.ops->on_end(&x->base, trailers, n, x->base.ctx);
}

static const struct h1_request_ops codec_ops = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end};

/* ---- the session ---- */

/* Answers with a bare status, unless a response has begun, and closes. */
static void reject(struct h1_session *s, int status)
{
    static const struct http_header empty = {SLICE("content-length"), SLICE("0")};
    struct h1_response_head r = {
        .status = status, .version = 11, .headers = &empty, .n_headers = 1};
    struct h1_framing f;
    bool keep;
    s->closing = SESSION_LINGER;
    if ((s->x && s->x->responded) || h1_write_response(&s->base.out, &r, &f, &keep) < 0)
        s->closing = SESSION_DEAD;
    close_exchange(s);
}

/* Returns how many of n bytes were used; the rest has to wait. */
static size_t consume(struct h1_session *s, const char *p, size_t n)
{
    size_t used = 0;
    while (!s->closing) {
        struct h1_exchange *x = s->x;
        if (x && x->aborted)
            break;
        if (x && x->upgraded) {
            if (x->paused || used == n)
                break;
            if (x->base.ops->on_body)
                x->base.ops->on_body(&x->base, p + used, n - used, x->base.ctx);
            return n;
        }
        if (x ? x->req_ended || x->paused : used == n || s->base.out.len > HTTP_LOW_MARK)
            break;
        size_t took;
        int status = h1_request_feed(s->codec, p + used, n - used, &took);
        used += took;
        if (status)
            reject(s, status);
        if (!took)
            break;
    }
    return s->closing ? n : used;
}

static void h1_feed(struct session *base, const char *p, size_t n)
{
    struct h1_session *s = CONTAINER_OF(base, struct h1_session, base);
    size_t used = s->in.len ? 0 : consume(s, p, n);
    if (used < n && queue_add(&s->in, p + used, n - used) < 0)
        s->closing = SESSION_DEAD;
}

static void h1_eof(struct session *base)
{
    struct h1_session *s = CONTAINER_OF(base, struct h1_session, base);
    s->eof = true;
}

static void finish_exchange(struct h1_session *s)
{
    bool next = s->x->keep_alive && s->x->req_ended && !s->eof;
    close_exchange(s);
    queue_trim(&s->in);
    if (next)
        h1_request_next(s->codec);
    else
        s->closing = s->eof ? SESSION_CLOSE : SESSION_LINGER;
}

/* The peer sends no more: what does that mean for where we are? */
static void handle_eof(struct h1_session *s)
{
    struct h1_exchange *x = s->x;
    if (!x) {
        s->closing = SESSION_CLOSE;
    } else if (x->upgraded) {
        x->peer_ended = true;
        if (x->base.ops->on_end)
            x->base.ops->on_end(&x->base, NULL, 0, x->base.ctx);
    } else if (!x->req_ended) {
        close_exchange(s); /* the rest of the body will never come */
        s->closing = SESSION_DEAD;
    }
}

static void exchange_events(struct h1_session *s)
{
    struct h1_exchange *x = s->x;
    if (x->expect_continue && !x->responded && !x->paused && !x->req_ended)
        x_interim(x, 100, NULL, 0);
    if (x->blocked && s->base.out.len <= HTTP_LOW_MARK) {
        x->blocked = false;
        if (x->base.ops->on_writable)
            x->base.ops->on_writable(&x->base, x->base.ctx);
    }
}

/* True when the exchange is gone. */
static bool exchange_over(struct h1_session *s)
{
    struct h1_exchange *x = s->x;
    if (x->aborted) {
        close_exchange(s);
        s->closing = SESSION_DEAD;
        return true;
    }
    if (!x->ended)
        return false;
    if (x->upgraded && !x->peer_ended) {
        s->base.shut_write = true;
        return false;
    }
    finish_exchange(s);
    return true;
}

static void h1_work(struct session *base)
{
    struct h1_session *s = CONTAINER_OF(base, struct h1_session, base);
    bool again = true;
    while (again && !s->closing) {
        again = false;
        size_t used = consume(s, queue_head(&s->in), s->in.len);
        if (s->closing)
            break;
        if (used) {
            queue_consume(&s->in, used);
            again = true;
        }
        if (s->x)
            exchange_events(s);
        if (s->x && exchange_over(s))
            again = true;
        bool told = s->x && s->x->peer_ended;
        bool waits = s->x && (s->x->paused || s->x->aborted);
        if (s->eof && !s->closing && !told && !waits && !s->in.len) {
            handle_eof(s);
            again = s->x && s->x->upgraded;
        }
    }
}

static bool h1_want_read(const struct session *base)
{
    const struct h1_session *s = CONTAINER_OF(base, const struct h1_session, base);
    return !s->eof && s->in.len == 0 && !(s->x && s->x->paused);
}

static enum session_state h1_state(const struct session *base)
{
    const struct h1_session *s = CONTAINER_OF(base, const struct h1_session, base);
    if (s->closing || !s->x)
        return s->closing;
    return s->x->upgraded ? SESSION_TUNNEL : SESSION_BUSY;
}

static bool h1_wants_body(const struct session *base)
{
    const struct h1_session *s = CONTAINER_OF(base, const struct h1_session, base);
    return s->x && !s->x->req_ended && !s->x->paused && !s->x->ended;
}

static void h1_timeout(struct session *base)
{
    struct h1_session *s = CONTAINER_OF(base, struct h1_session, base);
    if (h1_request_is_fresh(s->codec))
        s->closing = SESSION_CLOSE; /* an idle keep-alive connection: nothing to tell */
    else
        reject(s, 408);
}

static void h1_kill(struct session *base)
{
    struct h1_session *s = CONTAINER_OF(base, struct h1_session, base);
    close_exchange(s);
    s->closing = SESSION_DEAD;
}

static void h1_free(struct session *base)
{
    struct h1_session *s = CONTAINER_OF(base, struct h1_session, base);
    assert(!s->x);
    h1_request_free(s->codec);
    queue_done(&s->in);
    queue_done(&s->base.out);
    free(s);
}

static const struct session_vt h1_session_vt = {
    .feed = h1_feed,
    .eof = h1_eof,
    .work = h1_work,
    .want_read = h1_want_read,
    .state = h1_state,
    .wants_body = h1_wants_body,
    .timeout = h1_timeout,
    .kill = h1_kill,
    .free = h1_free,
};

struct session *h1_session_new(const struct session_env *env)
{
    struct h1_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->base.vt = &h1_session_vt;
    s->base.env = *env;
    if (h1_request_new(&env->limits, &codec_ops, s, &s->codec) < 0) {
        free(s);
        return NULL;
    }
    return &s->base;
}
