/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One nghttp2 client session per channel, on the loop thread. Bytes come in
 * through uv_read, go through sync (until the guest's hello answer) and into nghttp2, whose
 * callbacks hand them to the stream they belong to. Nothing is sent from inside a callback: work
 * marks the session dirty and the prepare handle, which libuv runs before it blocks, sends what
 * one loop round produced in a single write. That makes every public function re-entrant and
 * coalesces small writes for free.
 *
 * Bounds against a hostile guest: unread data of a stream is at most its window
 * (WIRE_STREAM_WINDOW; the connection window is given back at once, so one slow reader never stops
 * the others), streams are opened by us only, push is off, header blocks and control floods are
 * bounded by nghttp2, one write of at most OUT_MAX is in flight. Reasons to end a session: end of
 * file, any protocol error, GOAWAY, an I/O error, agent_close(). Then every stream's closed() runs
 * exactly once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "proto/agent_internal.h"

#define OUT_MAX (256 * 1024)
#define RETRY_FIRST_MS 300
#define RETRY_MAX_MS 5000

void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

int64_t deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms;
}

int cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_ms)
{
    if (deadline_ms < 0)
        return -pthread_cond_wait(c, m);
    const struct timespec t = {.tv_sec = deadline_ms / 1000,
                               .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
    return -pthread_cond_timedwait(c, m, &t);
}

static void mem_drop(struct agent *a)
{
    if (atomic_fetch_sub(&a->mem, 1) != 1)
        return;
    if (a->h2)
        nghttp2_session_del(a->h2);
    buf_done(&a->out);
    pthread_cond_destroy(&a->open_cond);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void on_handle_closed(uv_handle_t *h)
{
    mem_drop(h->data);
}

static void unlink_stream(struct h2s *s)
{
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    s->open = false;
}

static void close_stream(struct h2s *s, int code, bool dead)
{
    struct agent *a = s->a;
    unlink_stream(s);
    buf_done(&s->out);
    s->ops->closed(s, code, dead); /* may free s */
    agent_unref(a);
}

/* Ends the session for good. Never called from inside nghttp2. */
static void session_fail(struct agent *a, int code, const char *text)
{
    if (a->closing)
        return;
    a->closing = true;
    pthread_mutex_lock(&a->lock);
    err_set(&a->why, code, "%s", text);
    if (a->open_state == 0)
        a->open_state = -code;
    atomic_store(&a->dead, true);
    pthread_cond_broadcast(&a->open_cond);
    pthread_mutex_unlock(&a->lock);
    uv_close((uv_handle_t *)&a->pipe, on_handle_closed); /* closes the descriptor now */
    uv_close((uv_handle_t *)&a->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&a->retry, on_handle_closed);
    while (a->streams)
        close_stream(a->streams, EPIPE, true);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags UNUSED,
                     void *ctx UNUSED)
{
    struct h2s *s = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
    static const char status[] = ":status";
    if (!s || name_n != sizeof status - 1 || memcmp(name, status, name_n) != 0 || value_n != 3)
        return 0;
    int code = 0;
    for (size_t i = 0; i < 3; i++)
        code = code * 10 + (value[i] - '0'); /* nghttp2 has checked that these are digits */
    if (code >= 200 && frame->headers.cat == NGHTTP2_HCAT_RESPONSE)
        s->ops->status(s, code);
    return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *ctx)
{
    struct agent *a = ctx;
    if (frame->hd.type == NGHTTP2_SETTINGS)
        a->settings = true;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct h2s *s = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
    if (s && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        s->ops->end(s);
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags UNUSED, int32_t id, const uint8_t *p,
                   size_t n, void *ctx UNUSED)
{
    (void)nghttp2_session_consume_connection(h2, n); /* fails only without memory: next call does */
    struct h2s *s = nghttp2_session_get_stream_user_data(h2, id);
    if (s)
        s->ops->data(s, (const char *)p, n);
    return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *ctx UNUSED)
{
    struct h2s *s = nghttp2_session_get_stream_user_data(h2, id);
    if (!s)
        return 0;
    (void)nghttp2_session_set_stream_user_data(h2, id, NULL);
    /* Refused is what nghttp2 calls the streams a GOAWAY cut off: the session is about to end. */
    bool refused = code == NGHTTP2_REFUSED_STREAM;
    close_stream(s, code == NGHTTP2_NO_ERROR ? 0 : refused ? EPIPE : ECONNRESET, false);
    return 0;
}

static ssize_t read_body(nghttp2_session *h2 UNUSED, int32_t id UNUSED, uint8_t *p, size_t n,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx UNUSED)
{
    struct h2s *s = source->ptr;
    size_t part = s->out.len < n ? s->out.len : n;
    if (part) {
        memcpy(p, s->out.data, part);
        buf_consume(&s->out, part);
    }
    if (s->was_full && s->out.len <= H2S_OUT_LOW) {
        s->was_full = false;
        s->ops->drained(s);
    }
    if (s->out.len == 0 && s->out_end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (part == 0) {
        s->waiting = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)part;
}

#define NV(k, v)                                                                    \
    {                                                                               \
        (uint8_t *)(uintptr_t)(k), (uint8_t *)(uintptr_t)(v), strlen(k), strlen(v), \
            NGHTTP2_NV_FLAG_NONE                                                    \
    }

bool h2s_start(struct h2s *s, struct agent *a, const struct h2s_ops *ops, const char *method,
               const char *path, const char *authority, bool has_body)
{
    if (a->closing)
        return false;
    s->a = a;
    s->ops = ops;
    const nghttp2_nv connect[] = {NV(":method", method),
                                  NV(":authority", authority ? authority : "")};
    const nghttp2_nv plain[] = {NV(":method", method), NV(":scheme", "http"),
                                NV(":authority", WIRE_PORT_NAME), NV(":path", path ? path : "")};
    const nghttp2_data_provider body = {.source.ptr = s, .read_callback = read_body};
    s->id = nghttp2_submit_request(a->h2, NULL, authority ? connect : plain,
                                   authority ? ARRAY_LEN(connect) : ARRAY_LEN(plain),
                                   has_body ? &body : NULL, s);
    if (s->id < 0)
        return false;
    s->next = a->streams;
    s->link = &a->streams;
    if (s->next)
        s->next->link = &s->next;
    a->streams = s;
    s->open = true;
    agent_ref(a);
    a->dirty = true;
    return true;
}

static void wake_body(struct h2s *s)
{
    if (!s->open)
        return;
    s->a->dirty = true;
    if (s->waiting) {
        s->waiting = false;
        (void)nghttp2_session_resume_data(s->a->h2, s->id); /* refused only when already closing */
    }
}

bool h2s_send(struct h2s *s, const void *p, size_t n)
{
    if (!s->open || s->out_end)
        return true; /* nobody will read it: closed() tells the story */
    if (buf_add(&s->out, p, n) < 0) {
        h2s_reset(s);
        return false;
    }
    wake_body(s);
    return true;
}

void h2s_send_end(struct h2s *s)
{
    s->out_end = true;
    wake_body(s);
}

void h2s_reset(struct h2s *s)
{
    if (!s->open)
        return;
    s->a->dirty = true;
    (void)nghttp2_submit_rst_stream(s->a->h2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
}

void h2s_consume(struct h2s *s, size_t n)
{
    if (!s->open)
        return;
    s->a->dirty = true;
    (void)nghttp2_session_consume_stream(s->a->h2, s->id, n);
}

static void on_written(uv_write_t *w, int status)
{
    struct agent *a = w->data;
    a->writing = false;
    buf_clear(&a->out);
    if (status < 0)
        session_fail(a, EPIPE, "the guest channel broke while writing");
    else
        a->dirty = true;
}

static void write_out(struct agent *a)
{
    if (a->out.len == 0 || a->closing)
        return;
    uv_buf_t b = uv_buf_init(a->out.data, (unsigned)a->out.len);
    a->write.data = a;
    a->writing = true;
    if (uv_write(&a->write, (uv_stream_t *)&a->pipe, &b, 1, on_written) < 0) {
        a->writing = false;
        session_fail(a, EPIPE, "the guest channel refuses data");
    }
}

static void send_more(struct agent *a)
{
    a->dirty = false;
    while (a->out.len < OUT_MAX) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(a->h2, &p);
        if (n < 0 || (n > 0 && buf_add(&a->out, p, (size_t)n) < 0)) {
            session_fail(a, EPROTO, n < 0 ? nghttp2_strerror((int)n) : "out of memory");
            return;
        }
        if (n == 0)
            break;
    }
    if (a->out.len >= OUT_MAX)
        a->dirty = true;
    write_out(a);
    if (!a->closing && a->out.len == 0 && !nghttp2_session_want_read(a->h2) &&
        !nghttp2_session_want_write(a->h2))
        session_fail(a, EPIPE, "the guest ended the session");
}

static void on_prepare(uv_prepare_t *h)
{
    struct agent *a = h->data;
    if (a->dirty && a->ready && !a->writing && !a->closing)
        send_more(a);
}

static void on_alloc(uv_handle_t *h, size_t suggested UNUSED, uv_buf_t *b)
{
    struct agent *a = h->data;
    *b = uv_buf_init(a->in, sizeof a->in);
}

static int start_http2(struct agent *a)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    int r = nghttp2_session_callbacks_new(&cb);
    if (r == 0)
        r = nghttp2_option_new(&opt);
    if (r < 0)
        goto out;
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_peer_max_concurrent_streams(opt, WIRE_MAX_STREAMS);
    nghttp2_option_set_max_send_header_block_length(opt, 16384);
    r = nghttp2_session_client_new2(&a->h2, cb, a, opt);
    if (r < 0)
        goto out;
    const nghttp2_settings_entry set[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WIRE_STREAM_WINDOW}};
    r = nghttp2_submit_settings(a->h2, NGHTTP2_FLAG_NONE, set, ARRAY_LEN(set));
    if (r == 0)
        r = nghttp2_session_set_local_window_size(a->h2, NGHTTP2_FLAG_NONE, 0, WIRE_CONN_WINDOW);
out:
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return r;
}

static void opened(struct agent *a)
{
    pthread_mutex_lock(&a->lock);
    a->open_state = 1;
    pthread_cond_broadcast(&a->open_cond);
    pthread_mutex_unlock(&a->lock);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct agent *a = h->data;
    if (n < 0) {
        session_fail(a, EPIPE,
                     n == UV_EOF ? "the guest channel was closed"
                                 : "the guest channel broke while reading");
        return;
    }
    size_t used = 0;
    if (!a->ready) {
        bool found = false;
        used = sync_host_feed(&a->sync, b->base, (size_t)n, &found);
        if (!found)
            return;
        a->ready = true;
        a->dirty = true;
        uv_timer_stop(&a->retry);
    }
    ssize_t r = nghttp2_session_mem_recv(a->h2, (const uint8_t *)b->base + used, (size_t)n - used);
    if (r < 0) {
        session_fail(a, EPROTO, nghttp2_strerror((int)r));
        return;
    }
    a->dirty = true;
    if (a->open_state == 0 && a->settings)
        opened(a);
    /* A GOAWAY: what is left of the session is of no use, the owner opens another one. */
    if (nghttp2_session_check_request_allowed(a->h2) == 0)
        session_fail(a, EPIPE, "the guest ended the session");
}

static void put_hello(struct agent *a)
{
    static const char zeros[4096];
    size_t filler = a->retries ? SYNC_FILLER : 0;
    int r = 0;
    while (filler && r == 0) {
        size_t part = filler < sizeof zeros ? filler : sizeof zeros;
        r = buf_add(&a->out, zeros, part);
        filler -= part;
    }
    if (r == 0)
        r = buf_add(&a->out, a->sync.hello, SYNC_HELLO_LEN);
    if (r < 0)
        session_fail(a, ENOMEM, "out of memory");
    else
        write_out(a);
}

static void on_retry(uv_timer_t *t)
{
    struct agent *a = t->data;
    if (a->ready || a->closing)
        return;
    unsigned ms = RETRY_FIRST_MS << (a->retries < 5 ? a->retries : 5);
    if (!a->writing) { /* else the guest does not even read: nothing was lost */
        a->retries++;
        put_hello(a);
    }
    if (!a->closing)
        uv_timer_start(t, on_retry, ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS, 0);
}

struct opening {
    struct agent *a;
    int fd;
};

static void begin_on_loop(void *arg)
{
    struct opening *o = arg;
    struct agent *a = o->a;
    uv_loop_t *uv = loop_uv(a->loop);
    uv_pipe_init(uv, &a->pipe, 0);
    uv_prepare_init(uv, &a->prepare);
    uv_timer_init(uv, &a->retry);
    a->pipe.data = a->prepare.data = a->retry.data = a;
    unsigned char raw[SYNC_NONCE_HEX / 2];
    char nonce[SYNC_NONCE_HEX + 1];
    random_bytes(raw, sizeof raw);
    hex_encode(nonce, raw, sizeof raw);
    sync_host_init(&a->sync, nonce);
    int r = uv_pipe_open(&a->pipe, o->fd);
    if (r < 0)
        close(o->fd);
    if (r == 0)
        r = uv_read_start((uv_stream_t *)&a->pipe, on_alloc, on_read);
    if (r < 0 || start_http2(a) < 0) {
        session_fail(a, EIO, r < 0 ? uv_strerror(r) : "cannot set up an HTTP/2 session");
        return;
    }
    uv_prepare_start(&a->prepare, on_prepare);
    uv_timer_start(&a->retry, on_retry, RETRY_FIRST_MS, 0);
    put_hello(a);
}

static void close_on_loop(void *arg)
{
    session_fail(arg, EPIPE, "the session was closed");
}

static int wait_open(struct agent *a, int timeout_ms, struct err *e)
{
    int64_t deadline = deadline_after(timeout_ms);
    int r = 0;
    pthread_mutex_lock(&a->lock);
    while (a->open_state == 0 && r == 0)
        r = cond_wait_until(&a->open_cond, &a->lock, deadline);
    int state = a->open_state;
    struct err why = a->why;
    pthread_mutex_unlock(&a->lock);
    if (state == 1)
        return 0;
    if (state < 0)
        return err_copy(e, &why);
    return err_set(e, ETIMEDOUT, "the guest agent did not answer within %d ms", timeout_ms);
}

int agent_open(struct loop *l, int fd, int timeout_ms, struct agent **ret, struct err *e)
{
    struct agent *a = calloc(1, sizeof *a);
    if (!a) {
        close(fd);
        return err_set(e, ENOMEM, "out of memory");
    }
    a->loop = l;
    atomic_init(&a->refs, 1);
    atomic_init(&a->mem, 4);
    pthread_mutex_init(&a->lock, NULL);
    cond_init(&a->open_cond);
    struct opening o = {.a = a, .fd = fd};
    loop_call(l, begin_on_loop, &o);
    int r = wait_open(a, timeout_ms, e);
    if (r < 0) {
        agent_close(a);
        agent_unref(a);
        return r;
    }
    *ret = a;
    return 0;
}

void agent_close(struct agent *a)
{
    if (a)
        loop_call(a->loop, close_on_loop, a);
}

struct agent *agent_ref(struct agent *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

static void last_unref(void *arg)
{
    struct agent *a = arg;
    session_fail(a, EPIPE, "the session was dropped");
    mem_drop(a);
}

void agent_unref(struct agent *a)
{
    if (a && atomic_fetch_sub(&a->refs, 1) == 1)
        loop_post(a->loop, last_unref, a);
}

bool agent_is_dead(const struct agent *a)
{
    return atomic_load(&a->dead);
}

int agent_dead_err(struct agent *a, struct err *e)
{
    pthread_mutex_lock(&a->lock);
    struct err why = a->why;
    pthread_mutex_unlock(&a->lock);
    return err_set(e, EPIPE, "%s", why.code ? why.text : "the session has ended");
}
