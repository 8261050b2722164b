/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CONNECT streams: a TCP connection to a port on the machine's loopback. Both directions have
 * bounded buffers: towards the application the stream window (bytes are given back when they were
 * written), towards the host STREAM_OUT_HIGH (then the socket is not read).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/guest.h"

#define CHUNK 65536

struct tunnel {
    struct guest *g;
    struct stream *st;
    struct ev_io io;
    struct buf to_app;
    bool connected;
    bool host_ended, shut; /* no more from the host; told the application */
    bool app_ended;
};

static void arm(struct tunnel *t)
{
    uint32_t want = 0;
    if (!t->connected || t->to_app.len)
        want |= EPOLLOUT;
    if (t->connected && !t->app_ended && !stream_is_full(t->st))
        want |= EPOLLIN;
    if (t->io.fd >= 0 && ev_io_set(t->g->ev, &t->io, want) < 0)
        stream_reset(t->st);
}

static void fail(struct tunnel *t)
{
    ev_io_close(t->g->ev, &t->io);
    stream_reset(t->st);
}

static bool parse_authority(const char *s, uint16_t *port)
{
    static const char host[] = "127.0.0.1:";
    if (strncmp(s, host, sizeof host - 1) != 0)
        return false;
    char *end;
    s += sizeof host - 1;
    if (*s < '1' || *s > '9')
        return false;
    unsigned long v = strtoul(s, &end, 10);
    *port = (uint16_t)v;
    return *end == '\0' && v <= 65535;
}

static bool flush_to_app(struct tunnel *t)
{
    while (t->to_app.len) {
        ssize_t n = send(t->io.fd, t->to_app.data, t->to_app.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        buf_consume(&t->to_app, (size_t)n);
        stream_consume(t->st, (size_t)n);
    }
    if (t->host_ended && !t->shut) {
        t->shut = true;
        shutdown(t->io.fd, SHUT_WR);
    }
    return true;
}

static void read_app(struct tunnel *t)
{
    static char chunk[CHUNK];
    ssize_t n = read(t->io.fd, chunk, sizeof chunk);
    if (n > 0) {
        stream_send(t->st, chunk, (size_t)n);
    } else if (n == 0) {
        t->app_ended = true;
        stream_send_end(t->st);
    } else if (errno != EAGAIN && errno != EINTR) {
        fail(t);
    }
}

static void finish_connect(struct tunnel *t)
{
    int code = 0;
    socklen_t n = sizeof code;
    if (getsockopt(t->io.fd, SOL_SOCKET, SO_ERROR, &code, &n) < 0)
        code = errno;
    if (code) {
        ev_io_close(t->g->ev, &t->io);
        stream_error(t->st, 503, "port %s: %s", t->st->authority, strerror(code));
        return;
    }
    t->connected = true;
    stream_answer(t->st, 200);
}

static void on_socket(struct ev_io *io, uint32_t events)
{
    struct tunnel *t = CONTAINER_OF(io, struct tunnel, io);
    if (!t->connected)
        finish_connect(t);
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !t->app_ended && !stream_is_full(t->st))
        read_app(t);
    if (t->connected && t->io.fd >= 0 && !flush_to_app(t))
        fail(t);
    /* Reset by the application while the host reads slowly: a level that would never go away. */
    if (t->io.fd >= 0 && events & EPOLLERR && (t->app_ended || stream_is_full(t->st)))
        fail(t);
    if (t->io.fd >= 0 && t->app_ended && t->shut && t->to_app.len == 0)
        ev_io_close(t->g->ev, &t->io);
    arm(t);
}

static void on_data(struct stream *st, const char *p, size_t n)
{
    struct tunnel *t = st->ctx;
    if (t->io.fd < 0 || buf_add(&t->to_app, p, n) < 0) {
        stream_consume(st, n);
        stream_reset(st);
        return;
    }
    if (t->connected && !flush_to_app(t))
        fail(t);
    arm(t);
}

static void on_end(struct stream *st)
{
    struct tunnel *t = st->ctx;
    t->host_ended = true;
    if (t->connected && t->io.fd >= 0 && !flush_to_app(t))
        fail(t);
    arm(t);
}

static void on_drained(struct stream *st)
{
    arm(st->ctx);
}

static void on_closed(struct stream *st)
{
    struct tunnel *t = st->ctx;
    ev_io_close(t->g->ev, &t->io);
    buf_done(&t->to_app);
    free(t);
}

static const struct stream_ops TUNNEL_OPS = {
    .data = on_data, .end = on_end, .drained = on_drained, .closed = on_closed};

void guest_tunnel(struct guest *g, struct stream *st)
{
    uint16_t port;
    if (!parse_authority(st->authority, &port)) {
        stream_error(st, 400, "CONNECT goes to 127.0.0.1:<port> only");
        return;
    }
    struct tunnel *t = calloc(1, sizeof *t);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (!t || fd < 0) {
        free(t);
        if (fd >= 0)
            close(fd);
        stream_error(st, 500, "no more sockets");
        return;
    }
    *t = (struct tunnel){.g = g, .st = st, .io = {.fn = on_socket, .fd = fd}};
    st->ops = &TUNNEL_OPS;
    st->ctx = t;
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* only slower without */
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 || errno != EINPROGRESS)
        on_socket(&t->io, 0);
    else
        arm(t);
}
