/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/conn.h"

#define ACCEPTS_PER_EVENT 64
#define RETRY_MS 100

static const struct http_limits default_limits = {
    .header_bytes = 64 * 1024,
    .headers = 100,
    .streams = 128,
    .connections = 4096,
    .header_timeout_ms = 60 * 1000,
};

static void limits_fill(struct http_limits *l)
{
    const struct http_limits *d = &default_limits;
    if (!l->header_bytes)
        l->header_bytes = d->header_bytes;
    if (!l->headers)
        l->headers = d->headers;
    if (!l->streams)
        l->streams = d->streams;
    if (!l->connections)
        l->connections = d->connections;
    if (!l->header_timeout_ms)
        l->header_timeout_ms = d->header_timeout_ms;
}

/* ---- end of life ---- */

static void on_handle_closed(uv_handle_t *h)
{
    struct http_server *s = h->data;
    if (--s->open_handles)
        return;
    void (*done)(void *) = s->done;
    void *arg = s->done_arg;
    free(s->scratch);
    free(s);
    if (done)
        done(arg);
}

static void server_finish(struct http_server *s)
{
    s->closed = true;
    uv_close((uv_handle_t *)&s->retry, on_handle_closed);
    uv_close((uv_handle_t *)&s->check, on_handle_closed);
    uv_close((uv_handle_t *)&s->idle, on_handle_closed);
}

static void server_stop_now(struct http_server *s)
{
    if (s->fd >= 0) {
        uv_close((uv_handle_t *)&s->listener, on_handle_closed);
        close(s->fd);
        s->fd = -1;
    }
    conn_close_all(s);
    if (!s->n_conns && !s->closed)
        server_finish(s);
}

void server_conn_gone(struct http_server *s)
{
    s->n_conns--;
    if (s->stopping && s->fd < 0 && !s->n_conns && !s->closed)
        server_finish(s);
}

void http_server_stop(struct http_server *s, void (*done)(void *arg), void *arg)
{
    s->stopping = true;
    s->done = done;
    s->done_arg = arg;
    server_wake(s); /* not from within the caller, who may be an exchange's callback */
}

/* ---- woken connections ---- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active is all that matters */
}

static void on_check(uv_check_t *check)
{
    struct http_server *s = check->data;
    conn_run_woken(s);
    if (s->stopping && !s->closed) {
        server_stop_now(s);
        if (s->closed)
            return;
    }
    if (s->woken.first)
        return;
    uv_check_stop(&s->check);
    uv_idle_stop(&s->idle);
}

void server_wake(struct http_server *s)
{
    if (s->closed || uv_is_active((uv_handle_t *)&s->check))
        return;
    uv_check_start(&s->check, on_check);
    uv_idle_start(&s->idle, on_idle);
}

/* ---- listening ---- */

static void on_listener(uv_poll_t *poll, int status, int events);

static void on_retry(uv_timer_t *timer)
{
    struct http_server *s = timer->data;
    if (s->fd >= 0)
        uv_poll_start(&s->listener, UV_READABLE, on_listener);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct http_server *s = poll->data;
    (void)status, (void)events;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM) &&
            !conn_evict_idle(s)) {
            uv_poll_stop(&s->listener);
            uv_timer_start(&s->retry, on_retry, RETRY_MS, 0);
        }
        if (fd < 0)
            return;
        if (s->n_conns >= s->limits.connections && !conn_evict_idle(s))
            close(fd);
        else
            conn_accept(s, fd);
    }
}

static int listen_on(const char *address, uint16_t port, int *ret, struct err *e)
{
    char service[8];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *ai;
    int one = 1;
    snprintf(service, sizeof service, "%u", port);
    int r = getaddrinfo(address, service, &hints, &ai);
    if (r != 0)
        return err_set(e, EINVAL, "'%s' is not a numeric address: %s", address, gai_strerror(r));
    CLEANUP(cleanup_close)
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 511) < 0) {
        r = err_set_errno(e, errno, "cannot listen on %s port %u", address, port);
        freeaddrinfo(ai);
        return r;
    }
    freeaddrinfo(ai);
    *ret = fd;
    fd = -1;
    return 0;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage ss = {0};
    socklen_t n = sizeof ss;
    char service[8];
    if (getsockname(fd, (struct sockaddr *)&ss, &n) < 0 ||
        getnameinfo((struct sockaddr *)&ss, n, NULL, 0, service, sizeof service, NI_NUMERICSERV) !=
            0)
        return 0;
    return (uint16_t)atoi(service);
}

static void server_open_handles(struct http_server *s)
{
    s->listener.data = s->retry.data = s->check.data = s->idle.data = s;
    uv_timer_init(s->uv, &s->retry);
    uv_check_init(s->uv, &s->check);
    uv_idle_init(s->uv, &s->idle);
    uv_poll_start(&s->listener, UV_READABLE, on_listener);
    s->open_handles = 4;
}

int http_server_start(const struct http_server_config *c, struct http_server **ret, struct err *e)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (!s || !(s->scratch = malloc(CONN_SCRATCH))) {
        free(s);
        return err_set(e, ENOMEM, "out of memory");
    }
    s->loop = c->loop;
    s->uv = loop_uv(c->loop);
    s->handler = c->handler;
    s->limits = c->limits;
    limits_fill(&s->limits);
    s->tls = c->tls;
    s->h2 = c->h2;
    int r = listen_on(c->address, c->port, &s->fd, e);
    if (r == 0 && uv_poll_init(s->uv, &s->listener, s->fd) < 0) {
        close(s->fd);
        r = err_set(e, EIO, "event loop refused the listener");
    }
    if (r < 0) {
        free(s->scratch);
        free(s);
        return r;
    }
    s->port = bound_port(s->fd);
    if (s->tls)
        tls_context_alpn(s->tls, s->h2);
    server_open_handles(s);
    *ret = s;
    return 0;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}
