/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and routes by the host's word; no DHCP. IPv4. Blocking, but all in the kernel. */
#ifndef GUEST_NETCONF_H
#define GUEST_NETCONF_H

#include "base/json.h"

struct netconf {
    char address[16], gateway[16], dns[16];
    int prefix;
};

/* {address, prefix, gateway, dns}; dns may be missing. -EINVAL. */
int netconf_parse(const json_t *network, struct netconf *ret, struct err *e) MUST_CHECK;
int netconf_loopback(struct err *e) MUST_CHECK;
int netconf_eth0(const struct netconf *n, struct err *e) MUST_CHECK;
/* The lent resolv.conf: nameserver dns, or none. */
int netconf_write_resolv(const struct netconf *n, struct err *e) MUST_CHECK;

#endif
