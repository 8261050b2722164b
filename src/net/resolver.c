/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A query lives in one slot from the moment it is accepted until its answer was handed over:
 *
 *   free -> waiting (socket open, question sent, deadline running)
 *        -> answered | next server | out of attempts (SERVFAIL) -> free
 *
 * What protects the guest from a forged answer: the socket is connected, so the kernel drops
 * datagrams from anybody but the server asked; port and id are random; the question must match.
 * A datagram that fails these checks is dropped and the wait goes on: an attacker who can guess
 * packets must not be able to end the wait either.
 *
 * What protects the host from the guest: the number of slots, the strict parser, and that only
 * the question is copied. A guest that retransmits does not start a second query.
 *
 * The name servers may well be on loopback or on the local network; that is fine, because it is
 * this process that asks, and only a DNS question can be brought to them.
 */
#include "net/resolver.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/be.h"
#include "net/dns.h"
#include "net/reply.h"
#include "net/resolvconf.h"

/* The C library in the guest gives up after 5 s: all of ours fit before that. A lost datagram
 * should not cost much; a slow server should still be heard. */
static const int udp_wait_ms[] = {500, 1000, 1500, 1500};
static const int tcp_wait_ms[] = {2000, 2500};
#define RELOAD_MS 5000

struct slot {
    int fd; /* owned; -1 = the slot is free */
    struct net_asker from;
    struct dns_query q;
    uint16_t id;
    unsigned attempt;
    int64_t deadline_ms;
    bool sent;       /* TCP: the question is out */
    unsigned polled; /* 1 + index of fd among the polled ones, 0 = not among them */
    uint8_t *data;   /* owned; TCP: two bytes of length, then the answer */
    size_t have;
};

struct net_resolver {
    const char *path; /* borrowed: the command line's */
    struct net_stats *stats;
    net_answer_fn *fn;
    void *arg;
    struct net_resolvers servers;
    int64_t loaded_ms;
    struct slot slots[NET_RESOLVER_QUERIES_MAX];
};

int net_resolver_new(const char *path, struct net_stats *stats, net_answer_fn *fn, void *arg,
                     struct net_resolver **ret)
{
    struct net_resolver *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->path = path;
    r->stats = stats;
    r->fn = fn;
    r->arg = arg;
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++)
        r->slots[i].fd = -1;
    net_resolvconf_parse("", 0, &r->servers);
    int rc = net_resolvconf_load(path, &r->servers);
    if (rc < 0)
        log_warn("net", "cannot read %s (%s): asking 127.0.0.1", path, strerror(-rc));
    r->loaded_ms = clock_mono_ms();
    *ret = r;
    return 0;
}

static void slot_close(struct slot *s)
{
    if (s->fd >= 0)
        close(s->fd);
    free(s->data);
    *s = (struct slot){.fd = -1};
}

void net_resolver_free(struct net_resolver *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++)
        slot_close(&r->slots[i]);
    free(r);
}

static void reload_servers(struct net_resolver *r, int64_t now_ms)
{
    if (now_ms - r->loaded_ms < RELOAD_MS)
        return;
    r->loaded_ms = now_ms;
    int rc = net_resolvconf_load(r->path, &r->servers);
    if (rc < 0)
        log_debug("net", "cannot read %s again: %s", r->path, strerror(-rc));
}

static void answer(struct net_resolver *r, const struct slot *s, const uint8_t *p, size_t n)
{
    r->fn(r->arg, s->from, p, n);
}

static void answer_rcode(struct net_resolver *r, const struct slot *s, enum dns_rcode rcode)
{
    uint8_t out[DNS_QUERY_MAX];
    answer(r, s, out, dns_build_reply(&s->q, rcode, false, out));
}

static int connect_server(const struct net_address *a, bool tcp)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
    memcpy(&v4.sin_addr, a->bytes, 4);
    memcpy(&v6.sin6_addr, a->bytes, 16);
    int type = (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = socket(a->v6 ? AF_INET6 : AF_INET, type, 0);
    if (fd < 0)
        return -errno;
    int rc = a->v6 ? connect(fd, (struct sockaddr *)&v6, sizeof v6)
                   : connect(fd, (struct sockaddr *)&v4, sizeof v4);
    if (rc < 0 && errno != EINPROGRESS) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int send_question(struct slot *s)
{
    uint8_t out[2 + DNS_QUERY_MAX];
    size_t n = dns_build_query(&s->q, s->id, out + 2);
    be16_put(out, (unsigned)n);
    ssize_t sent =
        s->from.tcp ? send(s->fd, out, n + 2, MSG_NOSIGNAL) : send(s->fd, out + 2, n, MSG_NOSIGNAL);
    /* A fresh TCP connection takes a few hundred bytes at once, or it is of no use. */
    return sent == (ssize_t)(s->from.tcp ? n + 2 : n) ? 0 : -EIO;
}

/* Opens the socket for the current attempt. */
static int slot_start(struct net_resolver *r, struct slot *s, int64_t now_ms)
{
    const struct net_address *a = &r->servers.address[s->attempt % r->servers.n];
    int fd = connect_server(a, s->from.tcp);
    if (fd < 0)
        return fd;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = fd;
    s->sent = false;
    s->polled = 0;
    s->have = 0;
    random_bytes(&s->id, sizeof s->id);
    s->deadline_ms = now_ms + (s->from.tcp ? tcp_wait_ms : udp_wait_ms)[s->attempt];
    if (s->from.tcp)
        return 0; /* sent once it is connected */
    s->sent = true;
    return send_question(s);
}

/* Starts attempts until one is under way; answers SERVFAIL when there are none left. */
static void slot_try(struct net_resolver *r, struct slot *s, int64_t now_ms)
{
    size_t attempts = s->from.tcp ? ARRAY_LEN(tcp_wait_ms) : ARRAY_LEN(udp_wait_ms);
    for (; s->attempt < attempts; s->attempt++)
        if (slot_start(r, s, now_ms) == 0)
            return;
    net_count(r->stats->dns_failed, 1);
    answer_rcode(r, s, DNS_SERVFAIL);
    slot_close(s);
}

static void slot_next(struct net_resolver *r, struct slot *s, int64_t now_ms)
{
    s->attempt++;
    slot_try(r, s, now_ms);
}

static bool same_asker(struct net_asker a, struct net_asker b)
{
    return a.tcp == b.tcp && a.id == b.id;
}

static struct slot *slot_find(struct net_resolver *r, struct net_asker from,
                              const struct dns_query *q)
{
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++) {
        struct slot *s = &r->slots[i];
        if (s->fd >= 0 && same_asker(s->from, from) && s->q.id == q->id && s->q.type == q->type &&
            s->q.name_len == q->name_len && memcmp(s->q.name, q->name, q->name_len) == 0)
            return s;
    }
    return NULL;
}

static struct slot *slot_free(struct net_resolver *r)
{
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++)
        if (r->slots[i].fd < 0)
            return &r->slots[i];
    return NULL;
}

static bool forward(struct net_resolver *r, struct net_asker from, const struct dns_query *q,
                    int64_t now_ms)
{
    if (slot_find(r, from, q))
        return true;
    struct slot *s = slot_free(r);
    if (!s)
        return false;
    *s = (struct slot){.fd = -1, .from = from, .q = *q};
    if (from.tcp) {
        s->data = malloc(2 + DNS_MESSAGE_MAX);
        if (!s->data)
            return false;
    }
    reload_servers(r, now_ms);
    net_count(r->stats->dns_forwarded, 1);
    slot_try(r, s, now_ms);
    return true;
}

bool net_resolver_query(struct net_resolver *r, struct net_asker from, const uint8_t *p, size_t n,
                        int64_t now_ms)
{
    struct slot s = {.fd = -1, .from = from};
    int rc = n > DNS_QUERY_MAX ? -EBADMSG : dns_parse_query(p, n, &s.q);
    if (rc != 0)
        net_count(r->stats->dns_rejected, 1);
    if (rc < 0)
        return true;
    if (rc == 0) {
        net_count(r->stats->dns_queries, 1);
        rc = dns_local_answer(&s.q);
        if (rc < 0)
            return forward(r, from, &s.q, now_ms);
    }
    answer_rcode(r, &s, (enum dns_rcode)rc);
    return true;
}

void net_resolver_cancel(struct net_resolver *r, struct net_asker from)
{
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++)
        if (r->slots[i].fd >= 0 && same_asker(r->slots[i].from, from))
            slot_close(&r->slots[i]);
}

unsigned net_resolver_fill(struct net_resolver *r, struct pollfd *fds, int64_t now_ms,
                           int *timeout_ms)
{
    unsigned n = 0;
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++) {
        struct slot *s = &r->slots[i];
        if (s->fd < 0)
            continue;
        fds[n++] = (struct pollfd){.fd = s->fd, .events = s->sent ? POLLIN : POLLOUT};
        s->polled = n;
        int64_t left = s->deadline_ms > now_ms ? s->deadline_ms - now_ms : 0;
        if (*timeout_ms < 0 || left < *timeout_ms)
            *timeout_ms = (int)left;
    }
    return n;
}

/* An answer that passed all checks. */
static void deliver(struct net_resolver *r, struct slot *s, uint8_t *p, size_t n)
{
    uint8_t out[DNS_QUERY_MAX];
    size_t room = s->q.udp_size < NET_UDP_PAYLOAD_MAX ? s->q.udp_size : NET_UDP_PAYLOAD_MAX;
    net_count(r->stats->dns_answered, 1);
    if (s->from.tcp || n <= room) {
        dns_readdress(p, s->q.id);
        answer(r, s, p, n);
    } else {
        answer(r, s, out, dns_build_reply(&s->q, DNS_NOERROR, true, out));
    }
    slot_close(s);
}

static void read_udp(struct net_resolver *r, struct slot *s, int64_t now_ms)
{
    uint8_t p[4096];
    ssize_t n = recv(s->fd, p, sizeof p, MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        slot_next(r, s, now_ms); /* refused or unreachable: the next server, now */
    } else if ((size_t)n > sizeof p || dns_check_answer(p, (size_t)n, &s->q, s->id) < 0) {
        net_count(r->stats->dns_rejected, 1);
    } else {
        deliver(r, s, p, (size_t)n);
    }
}

static void read_tcp(struct net_resolver *r, struct slot *s, int64_t now_ms)
{
    size_t want = s->have < 2 ? 2 : 2 + (size_t)be16_get(s->data);
    ssize_t n = recv(s->fd, s->data + s->have, want - s->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        slot_next(r, s, now_ms);
        return;
    }
    s->have += (size_t)n;
    if (s->have < 2 || s->have < 2 + (size_t)be16_get(s->data))
        return;
    if (dns_check_answer(s->data + 2, s->have - 2, &s->q, s->id) == 0) {
        deliver(r, s, s->data + 2, s->have - 2);
    } else {
        net_count(r->stats->dns_rejected, 1);
        slot_next(r, s, now_ms);
    }
}

static void slot_event(struct net_resolver *r, struct slot *s, int64_t now_ms)
{
    if (!s->sent) {
        s->sent = true;
        if (send_question(s) < 0)
            slot_next(r, s, now_ms);
    } else if (s->from.tcp) {
        read_tcp(r, s, now_ms);
    } else {
        read_udp(r, s, now_ms);
    }
}

void net_resolver_poll(struct net_resolver *r, const struct pollfd *fds, unsigned n, int64_t now_ms)
{
    for (unsigned i = 0; i < NET_RESOLVER_QUERIES_MAX; i++) {
        struct slot *s = &r->slots[i];
        if (s->fd < 0)
            continue;
        bool event = s->polled && s->polled <= n && fds[s->polled - 1].revents;
        s->polled = 0;
        if (event)
            slot_event(r, s, now_ms);
        else if (now_ms >= s->deadline_ms)
            slot_next(r, s, now_ms);
    }
}
