/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 *   monitor --stream--> deframer -> filter -+-> stack -> sockets of this host
 *                                           +-> resolver stub -> the host's name servers
 *                                           +-> refusal --+
 *   monitor <--stream-- output queue <------- stack, stub +
 *
 * One thread, one poll() per turn. Every frame of the guest passes net_filter_frame(); that is the
 * only way into the stack.
 *
 * Back-pressure: while the output queue is above its high mark the guest is behind, and nothing is
 * read from the world; timers still run. The guest's own frames are always read: a monitor that
 * blocks in writing to us would otherwise never come to read, and what they can make us store is
 * bounded by the stack's windows. What is emitted all the same (acknowledgements, retransmissions)
 * goes into the rest of the queue and is dropped when that is full: TCP recovers.
 *
 * Ends when the monitor closes its side, which a machine's end always does.
 */
#include "net/link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/deframe.h"
#include "net/dnstcp.h"
#include "net/filter.h"
#include "net/hostroute.h"
#include "net/ranges.h"
#include "net/reply.h"
#include "net/resolver.h"
#include "net/stack.h"

#define READ_SIZE (64 * 1024)
#define POLL_MAX (1 + NET_RESOLVER_QUERIES_MAX + NET_DNSTCP_FDS + NET_SOCKETS_MAX + 64)
#define LOG_EVERY_MS 10000

struct net_link {
    int fd; /* borrowed */
    struct net_stats *stats;
    struct net_filter filter;
    struct net_hostroute route;
    struct net_stack *stack;       /* owned */
    struct net_resolver *resolver; /* owned */
    struct net_dnstcp *dnstcp;     /* owned; NULL without "dns" */
    struct net_deframer deframer;
    struct net_outq out;
    int64_t now_ms;
    int64_t logged_ms;
    uint64_t unlogged;
    struct pollfd fds[POLL_MAX];
    uint8_t in[READ_SIZE];
};

static void send_frame(struct net_link *l, const uint8_t *frame, size_t n)
{
    if (!net_outq_add(&l->out, frame, n)) {
        net_count(l->stats->rx_dropped, 1);
        return;
    }
    net_count(l->stats->rx_frames, 1);
    net_count(l->stats->rx_bytes, n);
}

/* The stack's frames. */
static void on_output(void *arg, const uint8_t *frame, size_t n)
{
    struct net_link *l = arg;
    uint8_t other[NET_FRAME_MAX];
    bool dns = net_dnstcp_outward(l->dnstcp, frame, n, other);
    send_frame(l, dns ? other : frame, n);
}

static void on_answer(void *arg, struct net_asker to, const uint8_t *p, size_t n)
{
    struct net_link *l = arg;
    uint8_t frame[NET_FRAME_MAX];
    if (to.tcp)
        net_dnstcp_answer(l->dnstcp, to.id, p, n);
    else
        send_frame(l, frame, net_reply_dns(&l->filter, (uint16_t)to.id, p, n, frame));
}

static bool ask_kernel(void *arg, uint32_t dst)
{
    return net_hostroute_is_elsewhere(arg, dst);
}

/* What was refused, for the operator; the guest decides how often, so at most now and again. */
static void log_refusal(struct net_link *l, const struct net_frame *f, enum net_reason why)
{
    static const char *const kinds[] = {
        [NET_ARP] = "arp", [NET_TCP] = "tcp", [NET_UDP] = "udp", [NET_ICMP] = "icmp"};
    if (l->logged_ms && l->now_ms - l->logged_ms < LOG_EVERY_MS) {
        l->unlogged++;
        return;
    }
    struct net_address a = net_address_v4(f->dst);
    const struct net_range *r = net_range_find(net_ranges_denied, net_ranges_denied_n, &a);
    log_info("net", "%s to %u.%u.%u.%u port %u: %s%s%s (%llu more since the last line)",
             kinds[f->kind], a.bytes[0], a.bytes[1], a.bytes[2], a.bytes[3], f->dst_port,
             net_reason_name(why), r ? ", " : "", r ? r->name : "",
             (unsigned long long)l->unlogged);
    l->logged_ms = l->now_ms;
    l->unlogged = 0;
}

static void refuse(struct net_link *l, const struct net_frame *f, enum net_reason why)
{
    uint8_t frame[NET_FRAME_MAX];
    send_frame(l, frame, net_reply_refusal(&l->filter, f, frame));
    net_count(l->stats->refused, 1);
    log_refusal(l, f, why);
}

static bool opens_flow(const struct net_frame *f)
{
    return f->kind == NET_UDP || f->kind == NET_ICMP ||
           (f->kind == NET_TCP && (f->tcp_flags & NET_TCP_SYN));
}

static enum net_reason pass(struct net_link *l, const struct net_frame *f, const uint8_t *p,
                            size_t n)
{
    /* No reset at the limit: the guest's own retries are the right pace. */
    if (opens_flow(f) && !net_stack_has_room(l->stack))
        return NET_LIMIT;
    net_stack_input(l->stack, p, n);
    return NET_OK;
}

static enum net_reason query(struct net_link *l, const struct net_frame *f)
{
    struct net_asker from = {.id = f->src_port};
    bool taken = net_resolver_query(l->resolver, from, f->payload, f->payload_len, l->now_ms);
    return taken ? NET_OK : NET_LIMIT;
}

static enum net_reason pass_dns(struct net_link *l, const struct net_frame *f, const uint8_t *p,
                                size_t n)
{
    uint8_t frame[NET_FRAME_MAX];
    net_dnstcp_inward(l->dnstcp, f, p, n, frame);
    return pass(l, f, frame, n);
}

static void on_frame(void *arg, const uint8_t *p, size_t n)
{
    struct net_link *l = arg;
    struct net_frame f;
    enum net_reason why = NET_OVERSIZE;
    net_count(l->stats->tx_frames, 1);
    net_count(l->stats->tx_bytes, n);
    enum net_verdict v = p ? net_filter_frame(&l->filter, p, n, &f, &why) : NET_DROP;
    if (v == NET_PASS)
        why = pass(l, &f, p, n);
    else if (v == NET_TO_RESOLVER)
        why = query(l, &f);
    else if (v == NET_TO_RESOLVER_TCP)
        why = pass_dns(l, &f, p, n);
    else if (v == NET_REFUSE)
        refuse(l, &f, why);
    net_count(l->stats->frames[why], 1);
}

static int read_stream(struct net_link *l, struct err *e)
{
    ssize_t n = recv(l->fd, l->in, sizeof l->in, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return 0;
    if (n < 0)
        return err_set_errno(e, errno, "reading from the monitor");
    if (net_deframer_feed(&l->deframer, l->in, (size_t)n, on_frame, l) < 0)
        return err_set(e, EPROTO, "the monitor's stream has a frame of more than %d bytes",
                       NET_STREAM_FRAME_MAX);
    return 1;
}

static int flush(struct net_link *l, struct err *e)
{
    while (net_outq_len(&l->out)) {
        ssize_t n =
            send(l->fd, net_outq_head(&l->out), net_outq_len(&l->out), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 1;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return 0;
        if (n < 0)
            return err_set_errno(e, errno, "writing to the monitor");
        net_outq_consume(&l->out, (size_t)n);
    }
    return 1;
}

/* One wait and what it brought. 1: go on, 0: the monitor is gone, -errno. */
static int turn(struct net_link *l, struct err *e)
{
    bool behind = net_outq_len(&l->out) > NET_OUTQ_HIGH;
    int timeout = -1;
    l->now_ms = clock_mono_ms();
    short wanted = (short)(POLLIN | (net_outq_len(&l->out) ? POLLOUT : 0));
    l->fds[0] = (struct pollfd){.fd = l->fd, .events = wanted};
    struct pollfd *dns = l->fds + 1;
    unsigned n_dns = net_resolver_fill(l->resolver, dns, l->now_ms, &timeout);
    struct pollfd *tcp = dns + n_dns;
    unsigned n_tcp = net_dnstcp_fill(l->dnstcp, tcp, l->now_ms, &timeout);
    struct pollfd *stack = tcp + n_tcp;
    unsigned room = (unsigned)(l->fds + POLL_MAX - stack);
    unsigned n_stack = net_stack_fill(l->stack, stack, room, behind, &timeout);
    int rc = poll(l->fds, 1 + n_dns + n_tcp + n_stack, timeout);
    if (rc < 0 && errno != EINTR)
        return err_set_errno(e, errno, "poll");
    if (rc < 0)
        return 1;
    l->now_ms = clock_mono_ms();
    net_stack_poll(l->stack, stack, n_stack);
    net_resolver_poll(l->resolver, dns, n_dns, l->now_ms);
    net_dnstcp_poll(l->dnstcp, tcp, n_tcp, l->now_ms);
    if (l->fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
        rc = read_stream(l, e);
        if (rc <= 0)
            return rc;
    }
    return flush(l, e);
}

int net_link_new(const struct net_link_config *c, struct net_link **ret, struct err *e)
{
    struct net_link *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ENOMEM, "out of memory");
    l->fd = c->fd;
    l->stats = c->stats;
    l->route.fd = -1;
    net_filter_init(&l->filter, c->policy);
    l->filter.is_elsewhere = ask_kernel;
    l->filter.arg = &l->route;
    int rc = net_hostroute_open(&l->route, e);
    if (rc == 0)
        rc = net_stack_new(&l->filter, l->stats, on_output, l, &l->stack, e);
    if (rc == 0 && net_outq_init(&l->out) < 0)
        rc = err_set(e, ENOMEM, "out of memory");
    if (rc == 0 && net_resolver_new(c->resolv_conf, l->stats, on_answer, l, &l->resolver) < 0)
        rc = err_set(e, ENOMEM, "out of memory");
    if (rc == 0 && c->policy->dns)
        rc = net_dnstcp_new(&l->filter, l->resolver, &l->dnstcp, e);
    if (rc < 0) {
        net_link_free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

void net_link_free(struct net_link *l)
{
    if (!l)
        return;
    net_dnstcp_free(l->dnstcp);
    net_resolver_free(l->resolver);
    net_stack_free(l->stack);
    net_hostroute_close(&l->route);
    net_outq_done(&l->out);
    free(l);
}

int net_link_run(struct net_link *l, struct err *e)
{
    int rc;
    do
        rc = turn(l, e);
    while (rc > 0);
    return rc;
}
