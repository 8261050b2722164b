/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lifecycle hooks: one HTTP/1.1 POST from loopback on a fresh connection. Only the status line
 * matters; the rest of the answer is not read.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "guest/guest.h"
#include "guest/hook.h"
#include "proto/wire.h"

#define HEAD_MAX 65536
#define TIMEOUT_MAX_MS 3600000

struct hook {
    struct guest *g;
    struct stream *st; /* NULL once it was answered or closed */
    struct ev_io io;
    struct ev_timer timer;
    struct buf out, in;
};

int hook_parse_status(const char *p, size_t n, int *status, size_t *used)
{
    static const char version[] = "HTTP/1.";
    const char *nl = memchr(p, '\n', n);
    if (!nl) {
        size_t known = n < sizeof version - 1 ? n : sizeof version - 1;
        return memcmp(p, version, known) == 0 && n < HEAD_MAX ? 0 : -EPROTO;
    }
    size_t line = (size_t)(nl - p);
    if (line < 12 || memcmp(p, version, sizeof version - 1) != 0 || p[8] != ' ')
        return -EPROTO;
    int code = 0;
    for (size_t i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -EPROTO;
        code = code * 10 + (p[i] - '0');
    }
    if (code < 100 || (line > 12 && p[12] != ' ' && p[12] != '\r'))
        return -EPROTO;
    if (code >= 200) {
        *status = code;
        *used = n;
        return 1;
    }
    /* 1xx: the final answer follows after its empty line. */
    for (size_t i = line + 1; i < n; i++) {
        bool bare = p[i] == '\n' && p[i - 1] == '\n';
        bool crlf = i >= 2 && p[i] == '\n' && p[i - 1] == '\r' && p[i - 2] == '\n';
        if (bare || crlf) {
            *used = i + 1;
            return 2;
        }
    }
    return n < HEAD_MAX ? 0 : -EPROTO;
}

static void hook_free(struct hook *h)
{
    ev_timer_stop(h->g->ev, &h->timer);
    ev_io_close(h->g->ev, &h->io);
    buf_done(&h->out);
    buf_done(&h->in);
    free(h);
}

static void on_closed(struct stream *st)
{
    hook_free(st->ctx);
}

static const struct stream_ops HOOK_OPS = {.closed = on_closed};

static void answered(struct hook *h)
{
    ev_timer_stop(h->g->ev, &h->timer);
    ev_io_close(h->g->ev, &h->io);
}

static void give_error(struct hook *h, int code, const char *text)
{
    answered(h);
    stream_json(h->st, 200,
                json_pack("{s:s, s:b, s:b}", "error", text, "refused", code == ECONNREFUSED,
                          "timeout", code == ETIMEDOUT));
}

static void on_timeout(struct ev_timer *t)
{
    struct hook *h = CONTAINER_OF(t, struct hook, timer);
    give_error(h, ETIMEDOUT, "the hook did not answer in time");
}

static void read_answer(struct hook *h)
{
    char chunk[4096];
    ssize_t n = recv(h->io.fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        give_error(h, ECONNRESET, "the connection was closed before an answer came");
        return;
    }
    int status = 0, r = buf_add(&h->in, chunk, (size_t)n);
    size_t used = 0;
    while (r >= 0 && (r = hook_parse_status(h->in.data, h->in.len, &status, &used)) == 2)
        buf_consume(&h->in, used);
    if (r < 0)
        give_error(h, EPROTO, "the answer is not HTTP/1.x");
    if (r != 1)
        return;
    answered(h);
    stream_json(h->st, 200, json_pack("{s:i}", "status", status));
}

static void on_socket(struct ev_io *io, uint32_t events)
{
    struct hook *h = CONTAINER_OF(io, struct hook, io);
    int code = 0;
    socklen_t len = sizeof code;
    if (events & EPOLLERR && getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 && code) {
        give_error(h, code, strerror(code));
        return;
    }
    while (h->out.len) {
        ssize_t n = send(io->fd, h->out.data, h->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            give_error(h, errno, strerror(errno));
            return;
        }
        buf_consume(&h->out, (size_t)n);
    }
    if (ev_io_set(h->g->ev, io, EPOLLIN) < 0)
        give_error(h, EIO, "cannot watch the connection");
    else
        read_answer(h);
}

/* Header values come from the host, but a line break in one is a bug worth stopping. */
static bool plain(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

static int make_request(struct buf *out, int64_t port, const char *path, const char *host,
                        const char *body)
{
    char own[32];
    snprintf(own, sizeof own, "localhost:%lld", (long long)port);
    int r = buf_addf(out, "POST %s HTTP/1.1\r\nHost: %s\r\n", path, host ? host : own);
    if (r == 0 && body)
        r = buf_adds(out, "Content-Type: application/json\r\n");
    if (r == 0)
        r = buf_addf(out, "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                     body ? strlen(body) : 0);
    if (r == 0 && body)
        r = buf_adds(out, body);
    return r;
}

/* A string body goes out as it is, anything else as JSON text; null and nothing are no body. */
static int put_request(struct buf *out, int64_t port, const char *path, const char *host,
                       const json_t *body)
{
    if (!body || json_is_null(body))
        return make_request(out, port, path, host, NULL);
    if (json_is_string(body))
        return make_request(out, port, path, host, json_string_value(body));
    char *text = json_text(body);
    int r = make_request(out, port, path, host, text);
    free(text);
    return r;
}

static void begin(struct hook *h, uint16_t port, int64_t timeout_ms)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    h->io.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->io.fd < 0 ||
        (connect(h->io.fd, (const struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) ||
        ev_io_set(h->g->ev, &h->io, EPOLLOUT) < 0) {
        give_error(h, errno, strerror(errno));
        return;
    }
    ev_timer_set(h->g->ev, &h->timer, timeout_ms);
}

void guest_hook(struct guest *g, struct stream *st, const json_t *req)
{
    int64_t port = json_get_int(req, "port", 0), timeout = json_get_int(req, "timeoutMs", 1000);
    const char *path = json_get_str(req, "path"), *host = json_get_str(req, "host");
    const json_t *body = json_object_get(req, "body");
    if (port < 1 || port > 65535 || timeout < 1 || timeout > TIMEOUT_MAX_MS || !path ||
        path[0] != '/' || !plain(path) || (host && !plain(host))) {
        stream_error(st, 400, "a hook needs a port, a path and a timeout");
        return;
    }
    struct hook *h = calloc(1, sizeof *h);
    if (!h || put_request(&h->out, port, path, host, body) < 0) {
        if (h)
            buf_done(&h->out);
        free(h);
        stream_error(st, 500, "out of memory");
        return;
    }
    h->g = g;
    h->st = st;
    h->io = (struct ev_io){.fn = on_socket, .fd = -1};
    h->timer.fn = on_timeout;
    h->in.max = HEAD_MAX;
    st->ops = &HOOK_OPS;
    st->ctx = h;
    begin(h, (uint16_t)port, timeout);
}
