/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resolver stub: asks the host's own name servers on behalf of the guest. Loop thread; the
 * owner polls its descriptors. Each query uses a fresh socket (so a port of the kernel's choosing)
 * connected to one server, and a fresh random id.
 */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "net/stats.h"

#define NET_RESOLVER_QUERIES_MAX 64

struct net_resolver;

/* Who asked: owner-defined, returned with the answer. */
struct net_asker {
    bool tcp;    /* ask upstream over TCP, answers up to 65535 bytes */
    uint32_t id; /* UDP: the guest's port */
};

/* Called at most once for each query, from net_resolver_query() or net_resolver_poll(). p borrows.
 * Over UDP n never exceeds what the asker and one frame can take. */
typedef void net_answer_fn(void *arg, struct net_asker to, const uint8_t *p, size_t n);

/* path: the resolv.conf, read now and again while queries come. -ENOMEM. */
int net_resolver_new(const char *path, struct net_stats *stats, net_answer_fn *fn, void *arg,
                     struct net_resolver **ret) MUST_CHECK;
void net_resolver_free(struct net_resolver *r); /* NULL is fine */

/* One message of the guest. False: too many are waiting, the query was dropped. */
bool net_resolver_query(struct net_resolver *r, struct net_asker from, const uint8_t *p, size_t n,
                        int64_t now_ms);
/* Forgets what the asker still waits for. Not from within net_answer_fn. */
void net_resolver_cancel(struct net_resolver *r, struct net_asker from);

/* Adds up to NET_RESOLVER_QUERIES_MAX entries to fds, lowers *timeout_ms to the next deadline. */
unsigned net_resolver_fill(struct net_resolver *r, struct pollfd *fds, int64_t now_ms,
                           int *timeout_ms);
/* fds as filled, after poll(). */
void net_resolver_poll(struct net_resolver *r, const struct pollfd *fds, unsigned n,
                       int64_t now_ms);

#endif
