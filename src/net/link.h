/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's link: the loop between the monitor's stream, the filter, the resolver stub and the
 * stack. One per process.
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include "base/err.h"
#include "net/policy.h"
#include "net/stats.h"

struct net_link;

struct net_link_config {
    int fd;                          /* the monitor's stream; borrowed */
    const struct net_policy *policy; /* borrowed */
    const char *resolv_conf;         /* borrowed */
    struct net_stats *stats;         /* borrowed */
};

/* Opens everything that a closed sandbox would refuse. */
int net_link_new(const struct net_link_config *c, struct net_link **ret, struct err *e) MUST_CHECK;
void net_link_free(struct net_link *l); /* NULL is fine */

/* Runs until the monitor closes the stream (0) or it breaks (-errno). */
int net_link_run(struct net_link *l, struct err *e) MUST_CHECK;

#endif
