/* SPDX-License-Identifier: Apache-2.0 */
#include "tcp.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"

enum { HIGH_MARK = 1 << 20 };

struct tcp {
    struct loop *loop;
    struct agent *agent;
    uint16_t port;
    struct agent_tunnel *tunnel; /* the loop's */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf in;
    int status; /* -1 = not known yet */
    bool writable, paused, ended, closed;
    const void *out; /* of the tcp_send() under way */
    size_t n_out;
};

static void change(struct tcp *t)
{
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void on_open(struct agent_tunnel *tunnel, int status, void *ctx)
{
    struct tcp *t = ctx;
    (void)tunnel;
    pthread_mutex_lock(&t->lock);
    t->status = status;
    change(t);
}

static void on_data(struct agent_tunnel *tunnel, const char *p, size_t n, void *ctx)
{
    struct tcp *t = ctx;
    pthread_mutex_lock(&t->lock);
    if (buf_add(&t->in, p, n) < 0)
        abort();
    if (t->in.len > HIGH_MARK && !t->paused) {
        t->paused = true;
        agent_tunnel_pause(tunnel);
    }
    change(t);
}

static void on_end(struct agent_tunnel *tunnel, void *ctx)
{
    struct tcp *t = ctx;
    (void)tunnel;
    pthread_mutex_lock(&t->lock);
    t->ended = true;
    change(t);
}

static void on_writable(struct agent_tunnel *tunnel, void *ctx)
{
    struct tcp *t = ctx;
    (void)tunnel;
    pthread_mutex_lock(&t->lock);
    t->writable = true;
    change(t);
}

static void on_close(struct agent_tunnel *tunnel, void *ctx)
{
    struct tcp *t = ctx;
    (void)tunnel;
    pthread_mutex_lock(&t->lock);
    t->closed = true;
    if (t->status < 0)
        t->status = 0;
    change(t);
}

static const struct agent_tunnel_ops OPS = {on_open, on_data, on_end, on_writable, on_close};

static void loop_open(void *arg)
{
    struct tcp *t = arg;
    t->tunnel = agent_tunnel_open(t->agent, t->port, &OPS, t);
}

static void loop_write(void *arg)
{
    struct tcp *t = arg;
    if (!t->closed && !agent_tunnel_write(t->tunnel, t->out, t->n_out))
        t->writable = false;
}

static void loop_end(void *arg)
{
    struct tcp *t = arg;
    if (!t->closed)
        agent_tunnel_end(t->tunnel);
}

static void loop_resume(void *arg)
{
    struct tcp *t = arg;
    if (!t->closed)
        agent_tunnel_resume(t->tunnel);
}

static void loop_abort(void *arg)
{
    struct tcp *t = arg;
    if (!t->closed)
        agent_tunnel_abort(t->tunnel);
}

struct tcp *tcp_open(struct loop *l, struct agent *a, uint16_t port)
{
    struct tcp *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    *t = (struct tcp){.loop = l, .agent = agent_ref(a), .port = port, .status = -1};
    t->writable = true;
    t->in = (struct buf)BUF_INIT(0);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    loop_call(l, loop_open, t);
    pthread_mutex_lock(&t->lock);
    while (t->status < 0)
        pthread_cond_wait(&t->changed, &t->lock);
    bool ok = t->status == 200;
    pthread_mutex_unlock(&t->lock);
    if (ok)
        return t;
    tcp_close(t);
    return NULL;
}

int tcp_send(struct tcp *t, const void *p, size_t n)
{
    pthread_mutex_lock(&t->lock);
    while (!t->writable && !t->closed)
        pthread_cond_wait(&t->changed, &t->lock);
    bool closed = t->closed;
    pthread_mutex_unlock(&t->lock);
    if (closed)
        return -EPIPE;
    t->out = p;
    t->n_out = n;
    loop_call(t->loop, loop_write, t);
    return 0;
}

void tcp_end(struct tcp *t)
{
    loop_call(t->loop, loop_end, t);
}

int64_t tcp_receive(struct tcp *t, void *p, size_t cap)
{
    pthread_mutex_lock(&t->lock);
    while (!t->in.len && !t->ended && !t->closed)
        pthread_cond_wait(&t->changed, &t->lock);
    size_t n = t->in.len < cap ? t->in.len : cap;
    if (n)
        memcpy(p, t->in.data, n);
    buf_consume(&t->in, n);
    bool resume = t->paused && t->in.len < HIGH_MARK / 2, cut = !n && !t->ended;
    if (resume)
        t->paused = false;
    pthread_mutex_unlock(&t->lock);
    if (resume)
        loop_call(t->loop, loop_resume, t);
    return cut ? -EPIPE : (int64_t)n;
}

void tcp_close(struct tcp *t)
{
    if (!t)
        return;
    loop_call(t->loop, loop_abort, t);
    pthread_mutex_lock(&t->lock);
    while (!t->closed)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    agent_unref(t->agent);
    buf_done(&t->in);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->changed);
    free(t);
}

static bool answers(struct loop *l, struct agent *a, uint16_t port)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static const char expected[] = "HTTP/1.1 200";
    char got[sizeof expected - 1];
    size_t n = 0;
    struct tcp *t = tcp_open(l, a, port);
    if (t && tcp_send(t, request, sizeof request - 1) == 0)
        while (n < sizeof got) {
            int64_t k = tcp_receive(t, got + n, sizeof got - n);
            if (k <= 0)
                break;
            n += (size_t)k;
        }
    tcp_close(t);
    return n == sizeof got && memcmp(got, expected, n) == 0;
}

int tcp_http_ready(struct loop *l, struct agent *a, uint16_t port, int timeout_ms)
{
    int64_t end = clock_mono_ms() + timeout_ms;
    while (!answers(l, a, port)) {
        if (clock_mono_ms() >= end || agent_is_dead(a))
            return -ETIMEDOUT;
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    }
    return 0;
}
