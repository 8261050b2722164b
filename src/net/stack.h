/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP/IP stack facing the guest (libslirp), with everything of it that reaches further than the
 * frames it is given turned off: no host loopback, DNS, DHCP, TFTP, IPv6 or forwarding. It trusts
 * its input to have passed the filter. Loop thread.
 */
#ifndef NET_STACK_H
#define NET_STACK_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/filter.h"
#include "net/stats.h"

/* Host sockets per guest. Each holds up to 256 KiB of buffers when both directions stall. */
#define NET_SOCKETS_MAX 1024

struct net_stack;

typedef void net_output_fn(void *arg, const uint8_t *frame, size_t n);

int net_stack_new(const struct net_filter *f, struct net_stats *stats, net_output_fn *fn, void *arg,
                  struct net_stack **ret, struct err *e) MUST_CHECK;
void net_stack_free(struct net_stack *s); /* NULL is fine */

/* One frame of the guest. */
void net_stack_input(struct net_stack *s, const uint8_t *frame, size_t n);
/* Whether another flow may be opened. */
bool net_stack_has_room(const struct net_stack *s);

/* Adds at most cap entries to fds (none is ready when quiet: the guest is behind) and lowers
 * *timeout_ms; after poll(), net_stack_poll() with the same fds. Both once per turn of the loop. */
unsigned net_stack_fill(struct net_stack *s, struct pollfd *fds, unsigned cap, bool quiet,
                        int *timeout_ms);
void net_stack_poll(struct net_stack *s, const struct pollfd *fds, unsigned n);

#endif
