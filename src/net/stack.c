/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "net/reply.h"

#define FDS_MAX 4096 /* above RLIMIT_NOFILE of the process */

static const struct {
    short poll;
    int slirp;
} events[] = {{POLLIN, SLIRP_POLL_IN},
              {POLLOUT, SLIRP_POLL_OUT},
              {POLLPRI, SLIRP_POLL_PRI},
              {POLLERR, SLIRP_POLL_ERR},
              {POLLHUP, SLIRP_POLL_HUP}};

struct net_stack {
    Slirp *slirp; /* owned */
    struct net_stats *stats;
    net_output_fn *fn;
    void *arg;
    unsigned sockets;
    bool open[FDS_MAX]; /* descriptors the stack told us of */
    /* Between fill and poll. */
    struct pollfd *fill;
    const struct pollfd *polled;
    unsigned n, cap;
    bool quiet;
};

static ssize_t on_send(const void *p, size_t n, void *opaque)
{
    struct net_stack *s = opaque;
    s->fn(s->arg, p, n);
    return (ssize_t)n;
}

static void on_guest_error(const char *text, void *opaque)
{
    (void)opaque;
    log_debug("net", "guest: %s", text);
}

static int64_t on_clock(void *opaque)
{
    struct timespec ts;
    (void)opaque;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Timers serve IPv6 router advertisements only. */
static void *on_timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
    (void)cb, (void)cb_opaque, (void)opaque;
    return NULL;
}

static void on_timer_free(void *timer, void *opaque)
{
    (void)timer, (void)opaque;
}

static void on_timer_mod(void *timer, int64_t expire, void *opaque)
{
    (void)timer, (void)expire, (void)opaque;
}

/* The stack also "unregisters" sockets that never came to be: count each descriptor once. */
static void set_open(struct net_stack *s, int fd, bool open)
{
    if (fd < 0 || fd >= FDS_MAX || s->open[fd] == open)
        return;
    s->open[fd] = open;
    s->sockets += open ? 1u : -1u;
    __atomic_store_n(&s->stats->sockets_now, s->sockets, __ATOMIC_RELAXED);
    if (open)
        net_count(s->stats->sockets_total, 1);
}

static void on_register(int fd, void *opaque)
{
    set_open(opaque, fd, true);
}

static void on_unregister(int fd, void *opaque)
{
    set_open(opaque, fd, false);
}

static void on_notify(void *opaque)
{
    (void)opaque; /* the next turn of the loop looks at everything anyway */
}

static const SlirpCb callbacks = {
    .send_packet = on_send,
    .guest_error = on_guest_error,
    .clock_get_ns = on_clock,
    .timer_new = on_timer_new,
    .timer_free = on_timer_free,
    .timer_mod = on_timer_mod,
    .register_poll_fd = on_register,
    .unregister_poll_fd = on_unregister,
    .notify = on_notify,
};

int net_stack_new(const struct net_filter *f, struct net_stats *stats, net_output_fn *fn, void *arg,
                  struct net_stack **ret, struct err *e)
{
    SlirpConfig cfg = {
        .version = SLIRP_CONFIG_VERSION_MAX,
        .in_enabled = true,
        .vnetwork.s_addr = htonl(f->gateway & (0xffffffffu << (32 - NET_GUEST_PREFIX))),
        .vnetmask.s_addr = htonl(0xffffffffu << (32 - NET_GUEST_PREFIX)),
        .vhost.s_addr = htonl(f->gateway),
        .vnameserver.s_addr = htonl(f->dns), /* answers ARP for it; queries never get here */
        .if_mtu = NET_MTU,
        .if_mru = NET_MTU,
        .disable_host_loopback = true,
        .disable_dns = true,
        .disable_dhcp = true,
    };
    struct net_stack *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    s->stats = stats;
    s->fn = fn;
    s->arg = arg;
    s->slirp = slirp_new(&cfg, &callbacks, s);
    if (!s->slirp) {
        free(s);
        return err_set(e, EINVAL, "libslirp %s refused its configuration", slirp_version_string());
    }
    uint8_t arp[NET_FRAME_MAX];
    net_stack_input(s, arp, net_reply_guest_arp(f, arp));
    *ret = s;
    return 0;
}

void net_stack_free(struct net_stack *s)
{
    if (!s)
        return;
    slirp_cleanup(s->slirp);
    free(s);
}

void net_stack_input(struct net_stack *s, const uint8_t *frame, size_t n)
{
    slirp_input(s->slirp, frame, (int)n);
}

bool net_stack_has_room(const struct net_stack *s)
{
    return s->sockets < NET_SOCKETS_MAX;
}

static int on_add_poll(int fd, int wanted, void *opaque)
{
    struct net_stack *s = opaque;
    if (s->n == s->cap)
        return -1;
    struct pollfd *p = &s->fill[s->n];
    *p = (struct pollfd){.fd = s->quiet ? -1 : fd};
    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        if (wanted & events[i].slirp)
            p->events |= events[i].poll;
    return (int)s->n++;
}

static int on_get_revents(int idx, void *opaque)
{
    const struct net_stack *s = opaque;
    int r = 0;
    if (idx < 0 || (unsigned)idx >= s->n)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        if (s->polled[idx].revents & events[i].poll)
            r |= events[i].slirp;
    return r;
}

unsigned net_stack_fill(struct net_stack *s, struct pollfd *fds, unsigned cap, bool quiet,
                        int *timeout_ms)
{
    uint32_t timeout = *timeout_ms < 0 ? UINT32_MAX : (uint32_t)*timeout_ms;
    s->fill = fds;
    s->cap = cap;
    s->n = 0;
    s->quiet = quiet;
    slirp_pollfds_fill(s->slirp, &timeout, on_add_poll, s);
    if (timeout <= INT32_MAX)
        *timeout_ms = (int)timeout;
    return s->n;
}

void net_stack_poll(struct net_stack *s, const struct pollfd *fds, unsigned n)
{
    s->polled = fds;
    s->n = n;
    slirp_pollfds_poll(s->slirp, 0, on_get_revents, s);
}
