/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/session.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/wire.h"

struct session {
    nghttp2_session *h2;
    session_router *router;
    void *app;
    struct stream *streams;
    bool dirty;
};

static int on_begin(nghttp2_session *h2, const nghttp2_frame *frame, void *ctx)
{
    struct session *s = ctx;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct stream *st = calloc(1, sizeof *st);
    if (!st)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    st->session = s;
    st->id = frame->hd.stream_id;
    st->next = s->streams;
    st->link = &s->streams;
    if (st->next)
        st->next->link = &st->next;
    s->streams = st;
    (void)nghttp2_session_set_stream_user_data(h2, st->id, st); /* the stream was just made */
    return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags UNUSED,
                     void *ctx UNUSED)
{
    struct stream *st = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
    if (!st)
        return 0;
    const struct {
        const char *name;
        char *to;
        size_t cap;
    } map[] = {{":method", st->method, sizeof st->method},
               {":path", st->path, sizeof st->path},
               {":authority", st->authority, sizeof st->authority}};
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (!slice_eq((struct slice){(const char *)name, name_n}, map[i].name))
            continue;
        if (value_n >= map[i].cap)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets this stream only */
        memcpy(map[i].to, value, value_n);
        map[i].to[value_n] = '\0';
    }
    return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *ctx)
{
    struct session *s = ctx;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct stream *st = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
    if (!st)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        s->router(st, s->app);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && st->ops && st->ops->end)
        st->ops->end(st);
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags UNUSED, int32_t id, const uint8_t *p,
                   size_t n, void *ctx UNUSED)
{
    (void)nghttp2_session_consume_connection(h2, n); /* one slow stream must not stop the others */
    struct stream *st = nghttp2_session_get_stream_user_data(h2, id);
    if (st && st->ops && st->ops->data)
        st->ops->data(st, (const char *)p, n);
    else
        (void)nghttp2_session_consume_stream(h2, id, n);
    return 0;
}

static void stream_free(struct stream *st)
{
    *st->link = st->next;
    if (st->next)
        st->next->link = st->link;
    if (st->ops)
        st->ops->closed(st);
    buf_done(&st->body);
    buf_done(&st->out);
    free(st);
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code UNUSED, void *ctx UNUSED)
{
    struct stream *st = nghttp2_session_get_stream_user_data(h2, id);
    if (st) {
        (void)nghttp2_session_set_stream_user_data(h2, id, NULL);
        stream_free(st);
    }
    return 0;
}

static ssize_t read_body(nghttp2_session *h2 UNUSED, int32_t id UNUSED, uint8_t *p, size_t n,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx UNUSED)
{
    struct stream *st = source->ptr;
    size_t part = st->out.len < n ? st->out.len : n;
    if (part) {
        memcpy(p, st->out.data, part);
        buf_consume(&st->out, part);
    }
    if (st->was_full && st->out.len <= STREAM_OUT_LOW) {
        st->was_full = false;
        if (st->ops && st->ops->drained)
            st->ops->drained(st);
    }
    if (st->out.len == 0 && st->out_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (part == 0) {
        st->waiting = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)part;
}

static int make_h2(struct session *s)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    int r = nghttp2_session_callbacks_new(&cb);
    if (r == 0)
        r = nghttp2_option_new(&opt);
    if (r < 0)
        goto out;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    r = nghttp2_session_server_new2(&s->h2, cb, s, opt);
    if (r < 0)
        goto out;
    const nghttp2_settings_entry set[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, WIRE_MAX_STREAMS},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WIRE_STREAM_WINDOW}};
    r = nghttp2_submit_settings(s->h2, NGHTTP2_FLAG_NONE, set, ARRAY_LEN(set));
    if (r == 0)
        r = nghttp2_session_set_local_window_size(s->h2, NGHTTP2_FLAG_NONE, 0, WIRE_CONN_WINDOW);
out:
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return r;
}

int session_new(session_router *router, void *app, struct session **ret)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->router = router;
    s->app = app;
    s->dirty = true;
    if (make_h2(s) < 0) {
        session_free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    for (struct stream *st = s->streams, *next; st; st = next) {
        next = st->next; /* a closing stream touches no other */
        stream_free(st);
    }
    nghttp2_session_del(s->h2);
    free(s);
}

int session_feed(struct session *s, const char *p, size_t n)
{
    s->dirty = true;
    ssize_t r = nghttp2_session_mem_recv(s->h2, (const uint8_t *)p, n);
    if (r < 0)
        return -EPROTO;
    /* A connection error: nghttp2 has queued GOAWAY and ignores what follows. */
    return nghttp2_session_want_read(s->h2) ? 0 : -EPROTO;
}

int session_pull(struct session *s, struct buf *out, size_t max)
{
    while (out->len < max) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(s->h2, &p);
        if (n < 0)
            return -EPROTO;
        if (n == 0) {
            s->dirty = false;
            return 0;
        }
        int r = buf_add(out, p, (size_t)n);
        if (r < 0)
            return r;
    }
    return 0;
}

bool session_has_output(const struct session *s)
{
    return s->dirty;
}

void stream_answer(struct stream *st, int status)
{
    if (st->answered)
        return;
    st->answered = true;
    st->session->dirty = true;
    char text[16];
    snprintf(text, sizeof text, "%d", status);
    uint8_t name[] = ":status";
    const nghttp2_nv nv = {name, (uint8_t *)text, sizeof name - 1, strlen(text),
                           NGHTTP2_NV_FLAG_NONE};
    const nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_body};
    if (nghttp2_submit_response(st->session->h2, st->id, &nv, 1, &body) < 0)
        stream_reset(st);
}

static void wake_body(struct stream *st)
{
    st->session->dirty = true;
    if (st->waiting) {
        st->waiting = false;
        (void)nghttp2_session_resume_data(st->session->h2, st->id); /* fails when it is closing */
    }
}

void stream_send(struct stream *st, const void *p, size_t n)
{
    if (st->out_end || n == 0)
        return;
    if (buf_add(&st->out, p, n) < 0) {
        stream_reset(st);
        return;
    }
    st->was_full = st->was_full || st->out.len >= STREAM_OUT_HIGH;
    wake_body(st);
}

void stream_send_end(struct stream *st)
{
    st->out_end = true;
    wake_body(st);
}

void stream_reset(struct stream *st)
{
    st->session->dirty = true;
    (void)nghttp2_submit_rst_stream(st->session->h2, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
}

void stream_consume(struct stream *st, size_t n)
{
    st->session->dirty = true;
    (void)nghttp2_session_consume_stream(st->session->h2, st->id, n); /* fails when it is closing */
}

bool stream_is_full(const struct stream *st)
{
    return st->was_full;
}

void stream_json(struct stream *st, int status, json_t *body)
{
    stream_answer(st, status);
    if (body) {
        CLEANUP(cleanup_free)
        char *text = json_text(body);
        stream_send(st, text, strlen(text));
        json_decref(body);
    }
    stream_send_end(st);
}

void stream_error(struct stream *st, int status, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *v = json_pack("{s:s%}", "message", text, strlen(text));
    stream_json(st, status, v ? v : json_pack("{s:s}", "message", "(not valid UTF-8)"));
}

void stream_frame(struct stream *st, int type, const void *p, size_t n)
{
    struct buf b = BUF_INIT(0);
    if (frame_put_all(&b, type, p, n) < 0)
        stream_reset(st);
    else
        stream_send(st, b.data, b.len);
    buf_done(&b);
}

void stream_frame_json(struct stream *st, int type, json_t *v)
{
    CLEANUP(cleanup_free)
    char *text = json_text(v);
    json_decref(v);
    stream_frame(st, type, text, strlen(text));
}

void stream_frame_error(struct stream *st, const char *code, const char *text)
{
    json_t *v = json_pack("{s:s, s:s}", "message", text, "code", code);
    if (!v)
        v = json_pack("{s:s, s:s}", "message", "(not valid UTF-8)", "code", code);
    stream_frame_json(st, WIRE_FRAME_ERROR, v);
    stream_send_end(st);
}
