/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the kernel how it would route one destination, over a netlink socket opened before the
 * sandbox closes. The answer is always current: no list of own addresses to refresh, and prefixes
 * routed to this host without being an interface address count as well.
 */
#ifndef NET_HOSTROUTE_H
#define NET_HOSTROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct net_hostroute {
    int fd; /* owned */
    uint32_t seq;
};

int net_hostroute_open(struct net_hostroute *r, struct err *e) MUST_CHECK;
void net_hostroute_close(struct net_hostroute *r);
/* dst in host byte order. True when packets to it leave this host as unicast, or have no route at
 * all; false for the host's own addresses, broadcast, multicast, and when the kernel cannot say. */
bool net_hostroute_is_elsewhere(struct net_hostroute *r, uint32_t dst);

#endif
