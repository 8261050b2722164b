/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is in one of three states: reading a query (two bytes of length, then the message),
 * waiting for the resolver, writing the answer. One query at a time: the next one is read when the
 * answer is out, which is all the back-pressure there is to do. Idle ones are closed.
 */
#include "net/dnstcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/be.h"
#include "net/dns.h"
#include "net/reply.h"

#define IDLE_MS 10000
#define LOOPBACK 0x7f000001u

struct conn {
    int fd; /* owned; -1 = free */
    unsigned polled;
    int64_t deadline_ms;
    bool waiting;
    bool broken; /* closed at the next look: never while the resolver is calling */
    uint8_t in[2 + DNS_QUERY_MAX];
    size_t have;
    uint8_t *out; /* owned; NULL when there is nothing to write */
    size_t out_len, out_sent;
};

struct net_dnstcp {
    int fd; /* owned: the listening socket */
    uint16_t port;
    unsigned expected; /* connections the guest has begun */
    struct net_filter filter;
    struct net_resolver *resolver; /* borrowed */
    struct conn conns[NET_DNSTCP_MAX];
};

static int listen_on_loopback(struct net_dnstcp *d, struct err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(LOOPBACK)};
    socklen_t len = sizeof a;
    d->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0 || bind(d->fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        listen(d->fd, NET_DNSTCP_MAX) < 0 || getsockname(d->fd, (struct sockaddr *)&a, &len) < 0)
        return err_set_errno(e, errno, "listening for DNS over TCP");
    d->port = ntohs(a.sin_port);
    return 0;
}

int net_dnstcp_new(const struct net_filter *f, struct net_resolver *resolver,
                   struct net_dnstcp **ret, struct err *e)
{
    struct net_dnstcp *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    d->filter = *f;
    d->resolver = resolver;
    for (unsigned i = 0; i < NET_DNSTCP_MAX; i++)
        d->conns[i].fd = -1;
    int rc = listen_on_loopback(d, e);
    if (rc < 0) {
        net_dnstcp_free(d);
        return rc;
    }
    *ret = d;
    return 0;
}

static void conn_close(struct conn *c)
{
    close(c->fd);
    free(c->out);
    *c = (struct conn){.fd = -1};
}

void net_dnstcp_free(struct net_dnstcp *d)
{
    if (!d)
        return;
    for (unsigned i = 0; i < NET_DNSTCP_MAX; i++)
        if (d->conns[i].fd >= 0)
            conn_close(&d->conns[i]);
    if (d->fd >= 0)
        close(d->fd);
    free(d);
}

void net_dnstcp_inward(struct net_dnstcp *d, const struct net_frame *fr, const uint8_t *p, size_t n,
                       uint8_t out[NET_FRAME_MAX])
{
    if ((fr->tcp_flags & NET_TCP_SYN) && d->expected < NET_DNSTCP_MAX)
        d->expected++;
    memcpy(out, p, n);
    net_readdress_tcp(out, fr->ip_len, true, LOOPBACK, d->port);
}

bool net_dnstcp_outward(const struct net_dnstcp *d, const uint8_t *p, size_t n,
                        uint8_t out[NET_FRAME_MAX])
{
    struct net_frame fr;
    /* Nearly every frame is somebody else's: look at the source before summing it all up. */
    if (!d || n < NET_ETH_HEADER + 20 || n > NET_FRAME_MAX ||
        be32_get(p + NET_ETH_HEADER + 12) != LOOPBACK || net_frame_parse(p, n, &fr) != NET_OK)
        return false;
    if (fr.kind != NET_TCP || fr.src != LOOPBACK || fr.src_port != d->port)
        return false;
    memcpy(out, p, n);
    net_readdress_tcp(out, fr.ip_len, false, d->filter.dns, 53);
    return true;
}

static void conn_write(struct conn *c)
{
    ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        c->broken = true;
        return;
    }
    c->out_sent += (size_t)n;
    if (c->out_sent < c->out_len)
        return;
    free(c->out);
    c->out = NULL;
    c->have = 0;
}

void net_dnstcp_answer(struct net_dnstcp *d, uint32_t id, const uint8_t *p, size_t n)
{
    if (!d || id >= NET_DNSTCP_MAX || n > DNS_MESSAGE_MAX)
        return;
    struct conn *c = &d->conns[id];
    if (c->fd < 0 || !c->waiting)
        return;
    c->waiting = false;
    c->out = malloc(n + 2);
    if (!c->out) {
        c->broken = true;
        return;
    }
    be16_put(c->out, (unsigned)n);
    memcpy(c->out + 2, p, n);
    c->out_len = n + 2;
    c->out_sent = 0;
    conn_write(c);
}

/* A whole query has come. */
static void conn_ask(struct net_dnstcp *d, struct conn *c, int64_t now_ms)
{
    struct net_asker from = {.tcp = true, .id = (uint32_t)(c - d->conns)};
    c->waiting = true;
    if (!net_resolver_query(d->resolver, from, c->in + 2, c->have - 2, now_ms))
        c->broken = true; /* the guest may try again */
}

static void conn_read(struct net_dnstcp *d, struct conn *c, int64_t now_ms)
{
    size_t want = c->have < 2 ? 2 : 2 + (size_t)be16_get(c->in);
    ssize_t n = recv(c->fd, c->in + c->have, want - c->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        c->broken = true;
        return;
    }
    c->have += (size_t)n;
    c->deadline_ms = now_ms + IDLE_MS;
    if (c->have < 2)
        return;
    want = 2 + (size_t)be16_get(c->in);
    if (want > sizeof c->in || want < 2 + DNS_HEADER)
        c->broken = true;
    else if (c->have == want)
        conn_ask(d, c, now_ms);
}

static void accept_one(struct net_dnstcp *d, int64_t now_ms)
{
    int fd = accept4(d->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (unsigned i = 0; d->expected && i < NET_DNSTCP_MAX; i++) {
        if (d->conns[i].fd >= 0)
            continue;
        d->expected--;
        d->conns[i] = (struct conn){.fd = fd, .deadline_ms = now_ms + IDLE_MS};
        return;
    }
    close(fd);
}

unsigned net_dnstcp_fill(struct net_dnstcp *d, struct pollfd *fds, int64_t now_ms, int *timeout_ms)
{
    unsigned n = 0;
    if (!d)
        return 0;
    fds[n++] = (struct pollfd){.fd = d->fd, .events = POLLIN};
    for (unsigned i = 0; i < NET_DNSTCP_MAX; i++) {
        struct conn *c = &d->conns[i];
        if (c->fd < 0)
            continue;
        short wanted = c->out ? POLLOUT : c->waiting ? 0 : POLLIN;
        fds[n++] = (struct pollfd){.fd = c->fd, .events = wanted};
        c->polled = n;
        int64_t left = c->broken || c->deadline_ms < now_ms ? 0 : c->deadline_ms - now_ms;
        if (*timeout_ms < 0 || left < *timeout_ms)
            *timeout_ms = (int)left;
    }
    return n;
}

static void conn_event(struct net_dnstcp *d, struct conn *c, short revents, int64_t now_ms)
{
    if (c->waiting) {
        if (revents & (POLLHUP | POLLERR))
            c->broken = true;
    } else if (c->out) {
        conn_write(c);
    } else {
        conn_read(d, c, now_ms);
    }
}

void net_dnstcp_poll(struct net_dnstcp *d, const struct pollfd *fds, unsigned n, int64_t now_ms)
{
    if (!d)
        return;
    for (unsigned i = 0; i < NET_DNSTCP_MAX; i++) {
        struct conn *c = &d->conns[i];
        if (c->fd < 0)
            continue;
        short revents = c->polled && c->polled <= n ? fds[c->polled - 1].revents : 0;
        c->polled = 0;
        if (revents)
            conn_event(d, c, revents, now_ms);
        if (!c->broken && now_ms < c->deadline_ms)
            continue;
        struct net_asker asker = {.tcp = true, .id = i};
        net_resolver_cancel(d->resolver, asker);
        conn_close(c);
    }
    if (n && fds[0].revents)
        accept_one(d, now_ms);
}
