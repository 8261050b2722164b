/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HIGH ((size_t)256 * 1024)

struct agent_tunnel {
    struct fake *f;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_timer_t refusal;
    const struct agent_tunnel_ops *ops;
    void *ctx;
    size_t unsent;
    unsigned handles;
    bool open, full, ended, closing, paused;
};

struct write {
    uv_write_t req;
    size_t n;
    char data[];
};

struct vm {
    struct fake *f;
    int delay_ms; /* -1: never */
};

static struct vm vms[3];

static void *find(void *arg, struct slice label)
{
    struct fake *f = arg;
    static const char *const names[] = {"vm", "slow", "dead"};
    static const int delays[] = {0, 150, -1};
    for (size_t i = 0; i < 3; i++) {
        if (!slice_eq_nocase(label, names[i]))
            continue;
        vms[i] = (struct vm){f, delays[i]};
        atomic_fetch_add(&f->vms, 1);
        return &vms[i];
    }
    return NULL;
}

static void ref(void *vm)
{
    atomic_fetch_add(&((struct vm *)vm)->f->vms, 1);
}

static void unref(void *vm)
{
    atomic_fetch_sub(&((struct vm *)vm)->f->vms, 1);
}

static enum proxy_verdict authorize(void *arg, void *vm, struct slice token, uint16_t port)
{
    (void)arg;
    if (slice_eq(token, "shell"))
        return PROXY_NOT_FOR_HTTP;
    if (slice_eq(token, "other") || (slice_eq(token, "good") && !vm))
        return PROXY_TOKEN_REFUSED;
    if (!slice_eq(token, "good"))
        return PROXY_TOKEN_MISSING;
    return port == 9999 ? PROXY_PORT_DENIED : PROXY_ALLOWED;
}

struct delayed {
    uv_timer_t timer;
    struct fake *f;
    void (*fn)(struct agent *a, void *ctx);
    void *ctx;
};

static void on_delayed_closed(uv_handle_t *h)
{
    free(h->data);
}

static void on_delay(uv_timer_t *t)
{
    struct delayed *d = t->data;
    d->fn((struct agent *)d->f, d->ctx);
    uv_close((uv_handle_t *)t, on_delayed_closed);
}

static void connect_vm(void *arg, void *p, void (*fn)(struct agent *a, void *ctx), void *ctx)
{
    struct vm *vm = p;
    (void)arg;
    if (vm->delay_ms <= 0) {
        fn(vm->delay_ms < 0 ? NULL : (struct agent *)vm->f, ctx);
        return;
    }
    struct delayed *d = calloc(1, sizeof *d);
    assert(d);
    *d = (struct delayed){.f = vm->f, .fn = fn, .ctx = ctx};
    uv_timer_init(loop_uv(vm->f->loop), &d->timer);
    d->timer.data = d;
    uv_timer_start(&d->timer, on_delay, (uint64_t)vm->delay_ms, 0);
}

static void activity(void *vm)
{
    atomic_fetch_add(&((struct vm *)vm)->f->activity, 1);
}

/* ---- tunnels ---- */

static void on_handle_closed(uv_handle_t *h)
{
    struct agent_tunnel *t = h->data;
    if (--t->handles)
        return;
    t->ops->on_close(t, t->ctx);
    atomic_fetch_sub(&t->f->tunnels, 1);
    free(t);
}

static void tunnel_abort(struct agent_tunnel *t)
{
    if (t->closing)
        return;
    t->closing = true;
    uv_close((uv_handle_t *)&t->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&t->refusal, on_handle_closed);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
    (void)h, (void)hint;
    *b = uv_buf_init(malloc(65536), 65536);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct agent_tunnel *t = s->data;
    if (n > 0)
        atomic_fetch_add(&t->f->delivered, (uint64_t)n);
    if (n > 0)
        t->ops->on_data(t, b->base, (size_t)n, t->ctx);
    free(b->base);
    if (n == UV_EOF) {
        uv_read_stop(s);
        t->ops->on_end(t, t->ctx);
        if (t->ended)
            tunnel_abort(t);
    } else if (n < 0) {
        tunnel_abort(t);
    }
}

static void refuse(uv_timer_t *timer)
{
    struct agent_tunnel *t = timer->data;
    t->ops->on_open(t, 503, t->ctx);
    tunnel_abort(t);
}

static void on_connect(uv_connect_t *c, int status)
{
    struct agent_tunnel *t = c->data;
    if (t->closing)
        return;
    if (status < 0) {
        refuse(&t->refusal);
        return;
    }
    t->open = true;
    uv_tcp_nodelay(&t->tcp, 1);
    if (!t->paused)
        uv_read_start((uv_stream_t *)&t->tcp, on_alloc, on_read);
    t->ops->on_open(t, 200, t->ctx);
}

static struct agent_tunnel *tunnel_open(struct agent *a, uint16_t port,
                                        const struct agent_tunnel_ops *ops, void *ctx)
{
    struct fake *f = (struct fake *)a;
    struct agent_tunnel *t = calloc(1, sizeof *t);
    assert(t);
    uint16_t to = port == 8080 ? f->app : port == 8081 ? f->script : 0;
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    t->f = f;
    t->ops = ops;
    t->ctx = ctx;
    t->handles = 2;
    atomic_fetch_add(&f->tunnels, 1);
    atomic_fetch_add(&f->opened, 1);
    uv_tcp_init(loop_uv(f->loop), &t->tcp);
    uv_timer_init(loop_uv(f->loop), &t->refusal);
    t->tcp.data = t->connect.data = t->refusal.data = t;
    if (!to || uv_tcp_connect(&t->connect, &t->tcp, (struct sockaddr *)&sa, on_connect) < 0)
        uv_timer_start(&t->refusal, refuse, 0, 0);
    return t;
}

static void on_written(uv_write_t *req, int status)
{
    struct write *w = (struct write *)req;
    struct agent_tunnel *t = req->handle->data;
    (void)status;
    t->unsent -= w->n;
    free(w);
    if (t->full && !t->unsent && !t->closing) {
        t->full = false;
        t->ops->on_writable(t, t->ctx);
    }
}

static bool tunnel_write(struct agent_tunnel *t, const char *p, size_t n)
{
    if (t->closing || !n)
        return true;
    struct write *w = malloc(sizeof *w + n);
    assert(w);
    memcpy(w->data, p, n);
    w->n = n;
    t->unsent += n;
    uv_buf_t b = uv_buf_init(w->data, (unsigned)n);
    if (uv_write(&w->req, (uv_stream_t *)&t->tcp, &b, 1, on_written) < 0) {
        t->unsent -= n;
        free(w);
        tunnel_abort(t);
        return true;
    }
    t->full = t->unsent > HIGH;
    return !t->full;
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)status;
    free(req);
}

static void tunnel_end(struct agent_tunnel *t)
{
    uv_shutdown_t *req = malloc(sizeof *req);
    assert(req);
    t->ended = true;
    if (t->closing || uv_shutdown(req, (uv_stream_t *)&t->tcp, on_shutdown) < 0)
        free(req);
}

static void tunnel_pause(struct agent_tunnel *t)
{
    t->paused = true;
    if (t->open && !t->closing)
        uv_read_stop((uv_stream_t *)&t->tcp);
}

static void tunnel_resume(struct agent_tunnel *t)
{
    t->paused = false;
    if (t->open && !t->closing)
        uv_read_start((uv_stream_t *)&t->tcp, on_alloc, on_read);
}

struct proxy_backend fake_backend(struct fake *f)
{
    return (struct proxy_backend){
        .arg = f,
        .find = find,
        .ref = ref,
        .unref = unref,
        .authorize = authorize,
        .connect = connect_vm,
        .activity = activity,
        .tunnel_open = tunnel_open,
        .tunnel_write = tunnel_write,
        .tunnel_end = tunnel_end,
        .tunnel_pause = tunnel_pause,
        .tunnel_resume = tunnel_resume,
        .tunnel_abort = tunnel_abort,
    };
}
