/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the server side of one HTTP/2 connection on nghttp2. Every request stream is
 * an exchange. nghttp2 checks the messages (RFC 9113 §8); this file stores fields, moves bodies and
 * keeps both directions bounded:
 *   in   stream window 256 KiB, connection window 4 MiB; windows are given back as the user takes
 *        the data, so a paused exchange holds at most one stream window
 *   out  each exchange has its own queue (http_write()'s marks); frames are made only while the
 *        connection's out queue is short, so that streams share the connection fairly
 *
 * Floods (many cheap frames: resets, pings, settings, empty data, continuations) draw on one token
 * bucket; an empty bucket ends the connection with ENHANCE_YOUR_CALM. Header blocks are bounded
 * as they are decoded; a request beyond the limit gets 431 and, far beyond it, a dead connection.
 *
 * Callbacks to the user are never made while nghttp2 is making frames: closed streams are put
 * aside and reported in work().
 */
#include <assert.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http/fields.h"
#include "http/session.h"

#define STREAM_WINDOW (256 * 1024)
#define CONN_WINDOW (4 * 1024 * 1024)
#define FRAME_MARK ((size_t)64 * 1024) /* no more frames are made while out is longer */
#define MAX_DROPPED ((size_t)4 * 1024 * 1024)
#define FLOOD_BURST 2000
#define FLOOD_PER_SECOND 200

struct h2_stream {
    struct http_exchange base;
    struct h2_session *session;
    struct h2_stream *next, **prev; /* session's list */
    int32_t id;
    bool begun;     /* its header block is complete: it counts as open */
    bool known;     /* the user has seen it */
    bool closed;    /* nghttp2 has forgotten it */
    bool too_large; /* header limit exceeded */
    bool head_only;

    struct fields fields; /* request fields, later trailers */
    struct buf method, path, authority;
    bool in_end, in_end_told, paused;
    size_t dropped;  /* body bytes received after the response had ended */
    unsigned early;  /* ticks (+1) since the response ended before the request */
    struct queue in; /* body received while paused */

    bool responded, ended, blocked, aborted;
    struct queue out;
    struct fields trailers;
};

struct h2_session {
    struct session base;
    nghttp2_session *ng; /* owned */
    struct h2_stream *streams;
    unsigned n_begun;
    bool attention; /* some stream has something to report in work() */
    bool dead, draining;
    int64_t flood_at_ms;
    int flood_tokens;
    unsigned block_frames; /* frames of the header block being received */
};

static const struct http_exchange_ops no_ops;

static void wake(struct h2_session *s)
{
    s->base.env.wake(s->base.env.wake_arg);
}

/* ---- streams ---- */

static struct h2_stream *stream_new(struct h2_session *s, int32_t id)
{
    struct h2_stream *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    st->session = s;
    st->id = id;
    st->base.ops = &no_ops;
    st->base.loop = s->base.env.loop;
    st->fields.max_n = s->base.env.limits.headers;
    st->fields.max_bytes = s->base.env.limits.header_bytes;
    st->next = s->streams;
    st->prev = &s->streams;
    if (st->next)
        st->next->prev = &st->next;
    s->streams = st;
    return st;
}

static void stream_free(struct h2_stream *st)
{
    *st->prev = st->next;
    if (st->next)
        st->next->prev = st->prev;
    st->session->n_begun -= st->begun;
    fields_done(&st->fields);
    fields_done(&st->trailers);
    buf_done(&st->method);
    buf_done(&st->path);
    buf_done(&st->authority);
    queue_done(&st->in);
    queue_done(&st->out);
    free(st);
}

static void stream_report_closed(struct h2_stream *st)
{
    if (st->known && st->base.ops->on_close)
        st->base.ops->on_close(&st->base, st->base.ctx);
    stream_free(st);
}

static void stream_reset(struct h2_stream *st, uint32_t code)
{
    struct h2_session *s = st->session;
    if (!st->closed && nghttp2_submit_rst_stream(s->ng, NGHTTP2_FLAG_NONE, st->id, code) != 0)
        s->dead = true;
    wake(s);
}

static bool flood_count(struct h2_session *s, int cost)
{
    int64_t now = clock_mono_ms();
    int64_t gained = (now - s->flood_at_ms) * FLOOD_PER_SECOND / 1000;
    if (gained > 0) {
        s->flood_tokens = gained > FLOOD_BURST ? FLOOD_BURST : s->flood_tokens + (int)gained;
        if (s->flood_tokens > FLOOD_BURST)
            s->flood_tokens = FLOOD_BURST;
        s->flood_at_ms = now;
    }
    s->flood_tokens -= cost;
    return s->flood_tokens > 0;
}

/* ---- what the user calls ---- */

static nghttp2_nv nv_make(struct slice name, struct slice value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.p,
                        .value = (uint8_t *)(uintptr_t)value.p,
                        .namelen = name.n,
                        .valuelen = value.n};
}

/* Copies usable fields behind room for `reserve` pseudo fields; NULL = out of memory. */
static nghttp2_nv *nv_list(const struct http_header *h, size_t n, size_t reserve, size_t *ret_n)
{
    size_t k = reserve, total;
    if (ckd_add(&total, n, reserve))
        return NULL;
    nghttp2_nv *nv = calloc(total ? total : 1, sizeof *nv);
    for (size_t i = 0; nv && i < n; i++)
        if (!field_is_framing(h[i].name) && field_name_valid(h[i].name) &&
            field_value_valid(h[i].value))
            nv[k++] = nv_make(h[i].name, h[i].value);
    *ret_n = k;
    return nv;
}

static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *to, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct h2_stream *st = source->ptr;
    (void)user;
    if (!st->out.len && !st->ended)
        return NGHTTP2_ERR_DEFERRED;
    size_t n = st->out.len < max ? st->out.len : max;
    if (n) {
        memcpy(to, queue_head(&st->out), n);
        queue_consume(&st->out, n);
    }
    if (st->blocked && st->out.len <= HTTP_LOW_MARK)
        st->session->attention = true;
    if (st->out.len || !st->ended)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!st->trailers.n)
        return (ssize_t)n;
    size_t n_nv;
    CLEANUP(cleanup_free)
    nghttp2_nv *nv = nv_list(fields_view(&st->trailers), st->trailers.n, 0, &n_nv);
    if (nv && nghttp2_submit_trailer(ng, id, nv, n_nv) == 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return (ssize_t)n;
}

static void x_respond(struct http_exchange *base, int status, const struct http_header *h, size_t n)
{
    struct h2_stream *st = CONTAINER_OF(base, struct h2_stream, base);
    struct h2_session *s = st->session;
    char text[12];
    size_t n_nv;
    assert(!st->responded && status >= 100 && status <= 999 && status != 101);
    st->responded = status >= 200;
    wake(s);
    if (st->closed || st->aborted)
        return;
    CLEANUP(cleanup_free)
    nghttp2_nv *nv = nv_list(h, n, 1, &n_nv);
    if (!nv) {
        stream_reset(st, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    snprintf(text, sizeof text, "%d", status);
    nv[0] = nv_make(SLICE(":status"), slice_from(text));
    nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_body};
    bool bodyless = st->head_only || status == 204 || status == 304;
    int r = status < 200
                ? nghttp2_submit_headers(s->ng, NGHTTP2_FLAG_NONE, st->id, NULL, nv, n_nv, NULL)
                : nghttp2_submit_response(s->ng, st->id, nv, n_nv, bodyless ? NULL : &body);
    if (bodyless)
        st->head_only = true;
    if (r != 0)
        stream_reset(st, NGHTTP2_INTERNAL_ERROR);
}

static bool x_write(struct http_exchange *base, const char *p, size_t n)
{
    struct h2_stream *st = CONTAINER_OF(base, struct h2_stream, base);
    if (st->aborted)
        return true;
    assert(st->responded && !st->ended);
    if (st->closed || st->head_only || !n)
        return true;
    if (queue_add(&st->out, p, n) < 0) {
        stream_reset(st, NGHTTP2_INTERNAL_ERROR);
        return true;
    }
    nghttp2_session_resume_data(st->session->ng, st->id);
    wake(st->session);
    st->blocked = st->out.len > HTTP_HIGH_MARK;
    return !st->blocked;
}

/* Body bytes that were handed to the user, or dropped: the peer may send as many again. */
static void give_back(struct h2_stream *st, size_t n)
{
    if (!n)
        return;
    if (st->closed)
        nghttp2_session_consume_connection(st->session->ng, n);
    else
        nghttp2_session_consume(st->session->ng, st->id, n);
}

static void x_pause(struct http_exchange *base, bool paused)
{
    struct h2_stream *st = CONTAINER_OF(base, struct h2_stream, base);
    st->paused = paused;
    if (!paused) {
        st->session->attention = true;
        wake(st->session);
    }
}

static void x_end(struct http_exchange *base, const struct http_header *trailers, size_t n)
{
    struct h2_stream *st = CONTAINER_OF(base, struct h2_stream, base);
    assert(st->aborted || (st->responded && !st->ended));
    st->ended = true;
    st->blocked = false;
    x_pause(base, false); /* the rest of the request is dropped, not left to fill a window */
    if (st->closed || st->aborted || st->head_only)
        return;
    for (size_t i = 0; i < n; i++)
        if (fields_add(&st->trailers, trailers[i].name.p, trailers[i].name.n, trailers[i].value.p,
                       trailers[i].value.n) < 0)
            stream_reset(st, NGHTTP2_INTERNAL_ERROR);
    nghttp2_session_resume_data(st->session->ng, st->id);
}

static void x_abort(struct http_exchange *base)
{
    struct h2_stream *st = CONTAINER_OF(base, struct h2_stream, base);
    st->aborted = true;
    stream_reset(st, NGHTTP2_INTERNAL_ERROR);
}

static void x_upgrade(struct http_exchange *base, const struct http_header *h, size_t n)
{
    (void)h, (void)n; /* requests over HTTP/2 never have .upgrade set */
    x_abort(base);
}

static const struct exchange_vt h2_exchange_vt = {
    .respond = x_respond,
    .write = x_write,
    .end = x_end,
    .upgrade = x_upgrade,
    .pause = x_pause,
    .abort = x_abort,
};

/* ---- what nghttp2 calls ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
    struct h2_session *s = user;
    s->block_frames = 1;
    if (f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);
        if (st)
            fields_clear(&st->fields); /* the head was handed over; trailers follow */
        return 0;
    }
    struct h2_stream *st = stream_new(s, f->hd.stream_id);
    if (!st)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    st->base.vt = &h2_exchange_vt;
    nghttp2_session_set_stream_user_data(ng, f->hd.stream_id, st);
    return 0;
}

static int pseudo_set(struct buf *b, struct slice v, size_t max)
{
    b->max = max;
    buf_clear(b);
    return buf_add(b, v.p, v.n);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nn,
                     const uint8_t *value, size_t vn, uint8_t flags, void *user)
{
    struct h2_session *s = user;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);
    struct slice k = {(const char *)name, nn}, v = {(const char *)value, vn};
    size_t max = s->base.env.limits.header_bytes;
    (void)flags;
    if (!st)
        return 0;
    int r = 0;
    if (slice_eq(k, ":method"))
        r = pseudo_set(&st->method, v, max);
    else if (slice_eq(k, ":path"))
        r = pseudo_set(&st->path, v, max);
    else if (slice_eq(k, ":authority"))
        r = pseudo_set(&st->authority, v, max);
    else if (nn && name[0] != ':' && !st->too_large)
        r = fields_add(&st->fields, k.p, k.n, v.p, v.n);
    if (r == 0 && !st->too_large)
        return 0;
    /* Decoding must go on, or the connection's header table would be lost; a block that never ends
     * is paid for with flood tokens. */
    st->too_large = true;
    return flood_count(s, 1) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static void bare_status(struct h2_stream *st, int status)
{
    static const struct http_header empty = {SLICE("content-length"), SLICE("0")};
    x_respond(&st->base, status, &empty, 1);
    x_end(&st->base, NULL, 0);
}

static bool authority_read(struct h2_stream *st, struct http_request *r)
{
    struct slice host;
    r->authority = (struct slice){st->authority.data, st->authority.len};
    if (!r->authority.n && http_header_find(r->headers, r->n_headers, "host", &host))
        r->authority = host;
    return !r->authority.n || field_authority_valid(r->authority);
}

/* nghttp2 looks at the form of :path for http and https only; with any other scheme it could be
 * what HTTP/1.1 would take for an absolute target. */
static bool target_valid(const struct http_request *r)
{
    if (!r->target.n)
        return false;
    return r->target.p[0] == '/' || (slice_eq(r->target, "*") && slice_eq(r->method, "OPTIONS"));
}

static void request_begin(struct h2_stream *st, bool end)
{
    struct h2_session *s = st->session;
    struct http_request r = {
        .version = 20,
        .method = {st->method.data, st->method.len},
        .target = {st->path.data, st->path.len},
        .sni = s->base.env.sni,
        .headers = fields_view(&st->fields),
        .n_headers = st->fields.n,
        .expects_body = !end,
    };
    st->begun = true;
    s->n_begun++;
    s->base.exchanges++;
    st->head_only = slice_eq(r.method, "HEAD");
    if (st->too_large) {
        bare_status(st, 431);
    } else if (!target_valid(&r) || slice_eq(r.method, "CONNECT") || !authority_read(st, &r)) {
        bare_status(st, 400);
    } else {
        st->known = true;
        s->base.env.handler.on_request(&st->base, &r, s->base.env.handler.arg);
    }
}

/* Hands over what waits in `in`, then the end. */
static void request_flush(struct h2_stream *st)
{
    if (st->in.len && (!st->paused || st->ended)) {
        size_t n = st->in.len;
        struct queue q = st->in; /* the callback may pause and make new data queue up */
        st->in = (struct queue){0};
        if (st->known && !st->ended && st->base.ops->on_body)
            st->base.ops->on_body(&st->base, queue_head(&q), n, st->base.ctx);
        queue_done(&q);
        give_back(st, n);
    }
    if (!st->in_end || st->in_end_told || st->in.len || st->paused || !st->known)
        return;
    st->in_end_told = true;
    if (st->base.ops->on_end)
        st->base.ops->on_end(&st->base, fields_view(&st->fields), st->fields.n, st->base.ctx);
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct h2_session *s = user;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, id);
    (void)flags;
    s->base.received += n;
    if (!st || !st->known || st->ended) {
        nghttp2_session_consume(ng, id, n);
        if (st && (st->dropped += n) > MAX_DROPPED)
            stream_reset(st, NGHTTP2_NO_ERROR);
        wake(s);
        return 0;
    }
    if (st->paused || st->in.len) {
        if (queue_add(&st->in, p, n) < 0)
            stream_reset(st, NGHTTP2_INTERNAL_ERROR);
        return 0;
    }
    if (st->base.ops->on_body)
        st->base.ops->on_body(&st->base, (const char *)p, n, st->base.ctx);
    give_back(st, n);
    wake(s);
    return 0;
}

static int frame_cost(const nghttp2_frame *f)
{
    switch (f->hd.type) {
    case NGHTTP2_DATA:
        return f->hd.length == 0 && !(f->hd.flags & NGHTTP2_FLAG_END_STREAM);
    case NGHTTP2_RST_STREAM:
        return 5;
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PRIORITY:
        return 1;
    default:
        return 0;
    }
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
    struct h2_session *s = user;
    int cost = frame_cost(f);
    if (cost && !flood_count(s, cost))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA)
        return 0;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);
    if (!st)
        return 0;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
        request_begin(st, end);
        fields_clear(&st->fields);
    }
    if (end)
        st->in_end = true;
    request_flush(st);
    return 0;
}

/* A block is bounded by its frames as well: empty CONTINUATIONs decode to nothing. */
static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *user)
{
    struct h2_session *s = user;
    (void)ng;
    if (hd->type == NGHTTP2_CONTINUATION && ++s->block_frames > 64)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *user)
{
    struct h2_session *s = user;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, id);
    (void)code;
    if (!st)
        return 0;
    st->closed = true;
    s->attention = true;
    return 0;
}

static int on_frame_send(nghttp2_session *ng, const nghttp2_frame *f, void *user)
{
    struct h2_session *s = user;
    /* Our own resets for a client's broken frames cost it as much as its resets would. */
    if (f->hd.type == NGHTTP2_RST_STREAM && f->rst_stream.error_code != NGHTTP2_NO_ERROR)
        return flood_count(s, 5) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    bool last = (f->hd.type == NGHTTP2_DATA || f->hd.type == NGHTTP2_HEADERS) &&
                (f->hd.flags & NGHTTP2_FLAG_END_STREAM);
    struct h2_stream *st = last ? nghttp2_session_get_stream_user_data(ng, f->hd.stream_id) : NULL;
    if (st && !st->in_end) {
        st->early = 1;
        s->base.want_tick = true;
    }
    return 0;
}

static int ng_open(struct h2_session *s)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    if (nghttp2_session_callbacks_new(&cb) != 0)
        return -1;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    if (nghttp2_option_new(&opt) != 0) {
        nghttp2_session_callbacks_del(cb);
        return -1;
    }
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(opt, 4096);
    nghttp2_option_set_no_closed_streams(opt, 1);
    int r = nghttp2_session_server_new2(&s->ng, cb, s, opt);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return r;
}

static int ng_announce(struct h2_session *s)
{
    const struct http_limits *l = &s->base.env.limits;
    nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)l->header_bytes},
    };
    if (nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, iv, ARRAY_LEN(iv)) != 0)
        return -1;
    return nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW);
}

/* ---- the session ---- */

static void h2_feed(struct session *base, const char *p, size_t n)
{
    struct h2_session *s = CONTAINER_OF(base, struct h2_session, base);
    if (s->dead)
        return;
    ssize_t r = nghttp2_session_mem_recv(s->ng, (const uint8_t *)p, n);
    if (r >= 0 && (size_t)r == n)
        return;
    /* Either a flood stopped by a callback of ours or a library failure: protocol errors proper
     * are answered with GOAWAY by nghttp2 itself. */
    nghttp2_session_terminate_session(s->ng, NGHTTP2_ENHANCE_YOUR_CALM);
    s->draining = true;
}

static void h2_eof(struct session *base)
{
    CONTAINER_OF(base, struct h2_session, base)->dead = true;
}

static void make_frames(struct h2_session *s)
{
    while (s->base.out.len < FRAME_MARK && !s->dead) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(s->ng, &p);
        if (n == 0)
            return;
        if (n < 0 || queue_add(&s->base.out, p, (size_t)n) < 0)
            s->dead = true;
    }
}

static void stream_events(struct h2_stream *st)
{
    request_flush(st);
    if (st->blocked && !st->closed && st->out.len <= HTTP_LOW_MARK) {
        st->blocked = false;
        if (st->base.ops->on_writable)
            st->base.ops->on_writable(&st->base, st->base.ctx);
    }
}

static void h2_work(struct session *base)
{
    struct h2_session *s = CONTAINER_OF(base, struct h2_session, base);
    make_frames(s);
    while (s->attention) {
        s->attention = false;
        for (struct h2_stream *st = s->streams, *next; st; st = next) {
            next = st->next;
            if (!st->closed) {
                stream_events(st);
                continue;
            }
            size_t lost = st->in.len;
            if (lost && !s->dead)
                nghttp2_session_consume_connection(s->ng, lost);
            stream_report_closed(st);
        }
        make_frames(s);
    }
}

static bool h2_want_read(const struct session *base)
{
    const struct h2_session *s = CONTAINER_OF(base, const struct h2_session, base);
    /* A peer that does not read its answers may not make us queue more of them. */
    return !s->dead && !s->draining && s->base.out.len < HTTP_HIGH_MARK;
}

static enum session_state h2_state(const struct session *base)
{
    const struct h2_session *s = CONTAINER_OF(base, const struct h2_session, base);
    if (s->dead)
        return SESSION_DEAD;
    if (s->draining || (!nghttp2_session_want_read(s->ng) && !nghttp2_session_want_write(s->ng)))
        return SESSION_LINGER;
    /* A block without an end is a head that does not come: the header timer's business. */
    return s->n_begun ? SESSION_BUSY : SESSION_IDLE;
}

static bool h2_wants_body(const struct session *base)
{
    const struct h2_session *s = CONTAINER_OF(base, const struct h2_session, base);
    for (const struct h2_stream *st = s->streams; st; st = st->next)
        if (st->known && !st->in_end && !st->paused && !st->ended && !st->closed)
            return true;
    return false;
}

static void h2_timeout(struct session *base)
{
    struct h2_session *s = CONTAINER_OF(base, struct h2_session, base);
    nghttp2_session_terminate_session(s->ng, NGHTTP2_NO_ERROR);
}

/*
 * Streams whose response ended while the client was still uploading are reset without error
 * (RFC 9113 §8.1), but not before a moment has passed: some clients lose a response that comes
 * together with the reset, and some wait for ever without one.
 */
static void h2_tick(struct session *base)
{
    struct h2_session *s = CONTAINER_OF(base, struct h2_session, base);
    base->want_tick = false;
    for (struct h2_stream *st = s->streams; st; st = st->next) {
        if (!st->early || st->in_end || st->closed)
            continue;
        base->want_tick = true;
        if (++st->early == 3)
            stream_reset(st, NGHTTP2_NO_ERROR);
    }
}

static void h2_kill(struct session *base)
{
    struct h2_session *s = CONTAINER_OF(base, struct h2_session, base);
    s->dead = true;
    while (s->streams) {
        s->streams->closed = true;
        stream_report_closed(s->streams);
    }
}

static void h2_free(struct session *base)
{
    struct h2_session *s = CONTAINER_OF(base, struct h2_session, base);
    assert(!s->streams);
    nghttp2_session_del(s->ng);
    queue_done(&s->base.out);
    free(s);
}

static const struct session_vt h2_session_vt = {
    .feed = h2_feed,
    .eof = h2_eof,
    .work = h2_work,
    .want_read = h2_want_read,
    .state = h2_state,
    .wants_body = h2_wants_body,
    .timeout = h2_timeout,
    .tick = h2_tick,
    .kill = h2_kill,
    .free = h2_free,
};

struct session *h2_session_new(const struct session_env *env)
{
    struct h2_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->base.vt = &h2_session_vt;
    s->base.env = *env;
    s->flood_at_ms = clock_mono_ms();
    s->flood_tokens = FLOOD_BURST;
    if (ng_open(s) == 0 && ng_announce(s) == 0)
        return &s->base;
    if (s->ng)
        nghttp2_session_del(s->ng);
    free(s);
    return NULL;
}
