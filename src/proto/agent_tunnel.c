/* SPDX-License-Identifier: Apache-2.0 */
/* TCP tunnels: CONNECT streams with callbacks on the loop thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/agent_internal.h"

struct agent_tunnel {
    struct h2s s;
    struct agent *a; /* a reference until on_close has returned */
    const struct agent_tunnel_ops *ops;
    void *ctx;
    struct buf in; /* received while paused; at most the stream window */
    bool paused;
    bool open_told;
    bool want_writable;
    bool guest_ended, end_told;
    bool aborted;
    bool finished; /* the HTTP/2 stream is gone, on_close is still owed */
    bool ticking;  /* a posted tick() is on its way */
};

static void tick(void *arg);

/* Callbacks that are not answers to input come from a fresh stack. */
static void tick_later(struct agent_tunnel *t)
{
    if (!t->ticking) {
        t->ticking = true;
        loop_post(t->a->loop, tick, t);
    }
}

static void tell_open(struct agent_tunnel *t, int status)
{
    if (t->open_told || t->aborted)
        return;
    t->open_told = true;
    if (t->ops->on_open)
        t->ops->on_open(t, status, t->ctx);
}

static void on_status(struct h2s *s, int status)
{
    struct agent_tunnel *t = CONTAINER_OF(s, struct agent_tunnel, s);
    tell_open(t, status);
    if (status != 200)
        agent_tunnel_abort(t);
}

static void on_data(struct h2s *s, const char *p, size_t n)
{
    struct agent_tunnel *t = CONTAINER_OF(s, struct agent_tunnel, s);
    if (t->aborted || !t->open_told) {
        h2s_consume(s, n);
        return;
    }
    if (t->paused || t->in.len) {
        if (buf_add(&t->in, p, n) < 0)
            agent_tunnel_abort(t);
        return;
    }
    h2s_consume(s, n);
    t->ops->on_data(t, p, n, t->ctx);
}

static void tell_end(struct agent_tunnel *t)
{
    if (!t->guest_ended || t->end_told || t->aborted || t->paused || t->in.len)
        return;
    t->end_told = true;
    if (t->ops->on_end)
        t->ops->on_end(t, t->ctx);
}

static void on_end(struct h2s *s)
{
    struct agent_tunnel *t = CONTAINER_OF(s, struct agent_tunnel, s);
    t->guest_ended = true;
    tell_end(t);
}

static void on_drained(struct h2s *s)
{
    struct agent_tunnel *t = CONTAINER_OF(s, struct agent_tunnel, s);
    tick_later(t);
}

static void on_closed(struct h2s *s, int code, bool dead)
{
    struct agent_tunnel *t = CONTAINER_OF(s, struct agent_tunnel, s);
    t->finished = true;
    if (code || dead || !t->guest_ended)
        t->aborted = t->aborted || t->open_told; /* what was not delivered yet is void */
    tick_later(t);
}

static const struct h2s_ops TUNNEL_OPS = {
    .status = on_status,
    .data = on_data,
    .end = on_end,
    .drained = on_drained,
    .closed = on_closed,
};

static void deliver(struct agent_tunnel *t)
{
    while (t->in.len && !t->paused && !t->aborted) {
        struct buf part = t->in;
        t->in = (struct buf){0};
        h2s_consume(&t->s, part.len);
        t->ops->on_data(t, part.data, part.len, t->ctx);
        buf_done(&part);
    }
    tell_end(t);
}

static void tick(void *arg)
{
    struct agent_tunnel *t = arg;
    t->ticking = false;
    if (t->want_writable && !t->aborted && !t->finished && t->s.out.len <= H2S_OUT_LOW) {
        t->want_writable = false;
        if (t->ops->on_writable)
            t->ops->on_writable(t, t->ctx);
    }
    deliver(t);
    if (t->finished)
        tell_open(t, 0); /* only when no answer ever came */
    if (!t->finished || t->ticking)
        return;
    if (t->guest_ended && !t->end_told && !t->aborted)
        return; /* paused with data held: resume or abort goes on from here */
    t->ops->on_close(t, t->ctx);
    struct agent *a = t->a;
    buf_done(&t->in);
    free(t);
    agent_unref(a);
}

struct agent_tunnel *agent_tunnel_open(struct agent *a, uint16_t port,
                                       const struct agent_tunnel_ops *ops, void *ctx)
{
    struct agent_tunnel *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* as loop_post(): a small fixed size, and the caller is owed its callbacks */
    t->a = agent_ref(a);
    t->ops = ops;
    t->ctx = ctx;
    char authority[32];
    snprintf(authority, sizeof authority, "127.0.0.1:%u", port);
    if (!h2s_start(&t->s, a, &TUNNEL_OPS, "CONNECT", NULL, authority, true)) {
        t->finished = true;
        tick_later(t);
    }
    return t;
}

bool agent_tunnel_write(struct agent_tunnel *t, const char *p, size_t n)
{
    if (t->finished || t->aborted)
        return true;
    (void)h2s_send(&t->s, p, n); /* a failure comes back as on_close */
    if (t->s.out.len < H2S_OUT_HIGH)
        return true;
    t->want_writable = t->s.was_full = true;
    return false;
}

void agent_tunnel_end(struct agent_tunnel *t)
{
    h2s_send_end(&t->s);
}

void agent_tunnel_pause(struct agent_tunnel *t)
{
    t->paused = true;
}

void agent_tunnel_resume(struct agent_tunnel *t)
{
    t->paused = false;
    if (t->in.len || t->guest_ended || t->finished)
        tick_later(t);
}

void agent_tunnel_abort(struct agent_tunnel *t)
{
    t->aborted = true;
    h2s_reset(&t->s);
    if (t->finished)
        tick_later(t);
}
