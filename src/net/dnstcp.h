/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS over TCP for the guest (RFC 7766), for answers no datagram can carry. Loop thread.
 *
 * The stack can only connect to real sockets, so the stub listens on a port of the host's loopback
 * and the guest's segments for NET_DNS:53 are readdressed to it on their way into the stack, and
 * back on their way out. Connections nobody in the guest has asked for are closed at once.
 */
#ifndef NET_DNSTCP_H
#define NET_DNSTCP_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/filter.h"
#include "net/resolver.h"

#define NET_DNSTCP_MAX 16 /* connections */
#define NET_DNSTCP_FDS (NET_DNSTCP_MAX + 1)

struct net_dnstcp;

/* Without a resolver for the guest there is none: every function but _new and _inward takes NULL.
 * resolver is borrowed and must outlive it; its answers with to.tcp come to net_dnstcp_answer(). */
int net_dnstcp_new(const struct net_filter *f, struct net_resolver *resolver,
                   struct net_dnstcp **ret, struct err *e) MUST_CHECK;
void net_dnstcp_free(struct net_dnstcp *d); /* NULL is fine */

/* p is the frame parsed into *fr, of verdict NET_TO_RESOLVER_TCP; out gets the one for the stack.
 */
void net_dnstcp_inward(struct net_dnstcp *d, const struct net_frame *fr, const uint8_t *p, size_t n,
                       uint8_t out[NET_FRAME_MAX]);
/* A frame of the stack: true when it is of such a connection; then out gets the guest's. */
bool net_dnstcp_outward(const struct net_dnstcp *d, const uint8_t *p, size_t n,
                        uint8_t out[NET_FRAME_MAX]);

void net_dnstcp_answer(struct net_dnstcp *d, uint32_t id, const uint8_t *p, size_t n);

/* As of net_resolver_fill() and net_resolver_poll(); at most NET_DNSTCP_FDS entries. */
unsigned net_dnstcp_fill(struct net_dnstcp *d, struct pollfd *fds, int64_t now_ms, int *timeout_ms);
void net_dnstcp_poll(struct net_dnstcp *d, const struct pollfd *fds, unsigned n, int64_t now_ms);

#endif
