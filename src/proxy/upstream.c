/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A connection is opening, then carries one request after the other, and in
 * between is idle in the proxy's list, for a second at most: shorter than any server's keep-alive
 * time, so that a request hardly ever meets a connection that is being closed.
 *
 * Not every application that closes a connection says so in its response. A request that cannot be
 * sent twice must not be the one to find out: it gets a new connection, in place of an idle one.
 *
 * An idle connection may occupy the only worker of a single-threaded application. Therefore it is
 * not kept while another connection to the same port has waited a while for its first byte.
 *
 * Ways it can die, each with one path: refused (on_open), closed or cut by the application
 * (on_end, on_close), session lost (on_close), client gone or response invalid (abandon).
 */
#include <errno.h>
#include <stdlib.h>

#include "proxy/internal.h"

#define IDLE_MS 1000
#define STARVING_MS 50

static const struct http_limits response_limits = {.header_bytes = 256 * 1024, .headers = 256};

static void upstream_free(struct upstream *up)
{
    struct proxy *p = up->p;
    *up->prev = up->next;
    if (up->next)
        up->next->prev = up->prev;
    h1_response_free(up->codec);
    queue_done(&up->in);
    p->b.unref(up->vm);
    free(up);
    proxy_gone(p);
}

static struct request *detach(struct upstream *up)
{
    struct request *q = TAKE(up->q);
    if (q)
        q->up = NULL;
    return q;
}

void upstream_abandon(struct upstream *up)
{
    detach(up);
    up->idle = false;
    if (up->tunnel)
        up->p->b.tunnel_abort(up->tunnel); /* on_close frees */
    else
        upstream_free(up);
}

/* The application failed the request. A connection that was idle may have been closed just as the
 * request was sent; one that changes nothing when done twice is sent again. */
static void fail(struct upstream *up, const char *code)
{
    bool fresh = h1_response_is_fresh(up->codec);
    bool reused = up->reused;
    struct request *q = detach(up);
    if (q && reused && fresh && q->repeatable && !q->retried) {
        q->retried = true;
        q->sent_all = false;
        request_connect(q);
    } else if (q) {
        request_fail(q, code);
    }
    upstream_abandon(up);
}

static bool someone_starves(const struct upstream *me)
{
    int64_t now = clock_mono_ms();
    for (const struct upstream *u = me->p->upstreams; u; u = u->next)
        if (u != me && u->q && u->vm == me->vm && u->port == me->port && !u->reused &&
            h1_response_is_fresh(u->codec) && now - u->since_ms > STARVING_MS)
            return true;
    return false;
}

static void set_paused(struct upstream *up, bool paused)
{
    if (!up->tunnel || up->paused == paused)
        return;
    up->paused = paused;
    if (paused)
        up->p->b.tunnel_pause(up->tunnel);
    else
        up->p->b.tunnel_resume(up->tunnel);
}

/* The response is complete. */
static void finish(struct upstream *up)
{
    struct request *q = detach(up);
    bool keep = q && q->sent_all && h1_response_keep_alive(up->codec) && !up->peer_ended &&
                !up->in.len && up->tunnel && !up->p->stopping && !someone_starves(up);
    if (!keep) {
        upstream_abandon(up);
        return;
    }
    set_paused(up, false); /* its last bytes may have waited for a slow client */
    queue_done(&up->in);
    up->idle = true;
    up->since_ms = clock_mono_ms();
    if (!uv_is_active((uv_handle_t *)&up->p->reaper))
        uv_timer_again(&up->p->reaper);
}

/* Uses what it can of n bytes. *used says how much; false when up may be gone. */
static bool consume(struct upstream *up, const char *p, size_t n, size_t *used)
{
    *used = 0;
    while (*used < n && !up->q->client_blocked) {
        size_t took = 0;
        if (up->raw) {
            request_raw(up->q, p + *used, n - *used);
            *used = n;
            return true;
        }
        int r = h1_response_feed(up->codec, p + *used, n - *used, &took);
        *used += took;
        if (r < 0) {
            fail(up, CODE_BAD_RESPONSE);
            return false;
        }
        enum h1_state state = h1_response_state(up->codec);
        if (state == H1_END) {
            up->peer_ended |= *used < n; /* bytes nobody asked for: not a connection to keep */
            finish(up);
            return false;
        }
        up->raw = state == H1_UPGRADED;
        if (!took && !up->raw)
            break;
    }
    return true;
}

static void handle_end(struct upstream *up)
{
    if (up->raw) {
        request_raw_end(up->q);
    } else if (h1_response_eof(up->codec) == 0) {
        finish(up);
    } else {
        fail(up, CODE_APP);
    }
}

void upstream_pump(struct upstream *up)
{
    h1_response_pause(up->codec, false);
    if (up->in.len) {
        size_t used;
        struct queue in = up->in; /* finish() must see that nothing is left */
        up->in = (struct queue){0};
        if (!consume(up, queue_head(&in), in.len, &used)) {
            queue_done(&in);
            return;
        }
        queue_consume(&in, used);
        up->in = in;
    }
    if (up->in.len)
        return;
    if (!up->q->client_blocked) {
        set_paused(up, false);
        if (up->peer_ended)
            handle_end(up);
    }
}

/* ---- what the tunnel reports ---- */

static void on_open(struct agent_tunnel *t, int status, void *ctx)
{
    struct upstream *up = ctx;
    (void)t;
    if (!up->q)
        return;
    if (status != 200) {
        request_fail(detach(up), status == 503 ? CODE_APP : CODE_MICROVM);
        return; /* on_close follows */
    }
    up->open = true;
    up->since_ms = clock_mono_ms();
    request_send(up->q);
}

static void on_data(struct agent_tunnel *t, const char *p, size_t n, void *ctx)
{
    struct upstream *up = ctx;
    size_t used = 0;
    (void)t;
    if (!up->q) {
        upstream_abandon(up); /* bytes on an idle connection belong to nothing */
        return;
    }
    request_activity(up->q);
    if (!up->in.len && !consume(up, p, n, &used))
        return;
    if (queue_add(&up->in, p + used, n - used) < 0)
        fail(up, CODE_INTERNAL);
    else if (up->q->client_blocked)
        set_paused(up, true);
}

static void on_end(struct agent_tunnel *t, void *ctx)
{
    struct upstream *up = ctx;
    (void)t;
    up->peer_ended = true;
    if (!up->q)
        upstream_abandon(up);
    else if (!up->in.len && !up->q->client_blocked)
        handle_end(up);
}

static void on_writable(struct agent_tunnel *t, void *ctx)
{
    struct upstream *up = ctx;
    (void)t;
    if (up->q && up->q->x)
        http_body_resume(up->q->x);
}

static void on_close(struct agent_tunnel *t, void *ctx)
{
    struct upstream *up = ctx;
    (void)t;
    up->tunnel = NULL;
    if (!up->q)
        upstream_free(up);
    else if (up->peer_ended && (up->raw ? up->q->ended : up->in.len > 0 || up->q->client_blocked))
        return; /* all was received; the client is still taking it */
    else
        fail(up, up->open ? CODE_APP : CODE_MICROVM);
}

static const struct agent_tunnel_ops tunnel_ops = {
    .on_open = on_open,
    .on_data = on_data,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_close = on_close,
};

/* ---- what the request asks for ---- */

static void attach(struct upstream *up, struct request *q)
{
    up->q = q;
    q->up = up;
    up->idle = false;
    up->since_ms = clock_mono_ms();
    h1_response_start(up->codec, q->head_only, q->upgrade);
}

static struct upstream *find_idle(struct request *q)
{
    for (struct upstream *u = q->p->upstreams; u; u = u->next)
        if (u->idle && u->vm == q->vm && u->port == q->port)
            return u;
    return NULL;
}

int upstream_get(struct request *q, struct agent *a)
{
    struct proxy *p = q->p;
    struct upstream *up = q->retried ? NULL : find_idle(q);
    if (up && a && !q->repeatable) {
        upstream_abandon(up);
        up = NULL;
    }
    if (up) {
        up->reused = true;
        attach(up, q);
        request_send(q);
        return 0;
    }
    if (!a)
        return -ENOENT;
    up = calloc(1, sizeof *up);
    if (!up)
        return -ENOMEM;
    if (h1_response_new(&response_limits, &request_response_ops, up, &up->codec) < 0) {
        free(up);
        return -ENOMEM;
    }
    up->p = p;
    up->vm = q->vm;
    p->b.ref(up->vm);
    up->port = q->port;
    up->next = p->upstreams;
    up->prev = &p->upstreams;
    if (up->next)
        up->next->prev = &up->next;
    p->upstreams = up;
    p->n_live++;
    attach(up, q);
    up->tunnel = p->b.tunnel_open(a, q->port, &tunnel_ops, up);
    return 0;
}

bool upstream_write(struct upstream *up, const char *p, size_t n)
{
    return !up->tunnel || up->p->b.tunnel_write(up->tunnel, p, n);
}

void upstream_end(struct upstream *up)
{
    if (up->tunnel)
        up->p->b.tunnel_end(up->tunnel);
}

void upstream_reap(struct proxy *p, bool all)
{
    int64_t now = clock_mono_ms();
    bool left = false;
    for (struct upstream *u = p->upstreams, *next; u; u = next) {
        next = u->next;
        if (u->idle && (all || now - u->since_ms >= IDLE_MS))
            upstream_abandon(u);
        else
            left |= u->idle;
    }
    if (!left)
        uv_timer_stop(&p->reaper);
}
