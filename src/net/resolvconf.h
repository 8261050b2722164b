/* SPDX-License-Identifier: Apache-2.0 */
/* The name servers of a resolv.conf(5). Pure but for net_resolvconf_load(). */
#ifndef NET_RESOLVCONF_H
#define NET_RESOLVCONF_H

#include <stddef.h>

#include "base/macros.h"
#include "net/policy.h"

#define NET_RESOLVERS_MAX 3            /* as in the C library */
#define NET_RESOLVCONF_MAX (16 * 1024) /* what follows is not looked at */

struct net_resolvers {
    struct net_address address[NET_RESOLVERS_MAX];
    unsigned n;
};

/* Lines that cannot be used are skipped, as everywhere; none usable: 127.0.0.1. */
void net_resolvconf_parse(const char *p, size_t n, struct net_resolvers *ret);
/* Opens exactly with O_RDONLY | O_CLOEXEC (the sandbox allows nothing else). -errno, *ret kept. */
int net_resolvconf_load(const char *path, struct net_resolvers *ret) MUST_CHECK;

#endif
