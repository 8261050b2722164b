/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Egress policy: what a guest may reach. Evaluated by tinderbox-net for every packet before it
 * leaves; the guest cannot influence it. Rules are tried in order, the first match decides; the
 * default action ends the list. Addresses of the host itself, loopback, link-local, multicast,
 * unspecified and cloud-metadata ranges are denied before any rule, and no rule can allow them.
 * Pure data and functions; no I/O.
 */
#ifndef NET_POLICY_H
#define NET_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

#define NET_POLICY_RULES_MAX 256

enum net_action { NET_DENY, NET_ALLOW };

struct net_address {
    uint8_t bytes[16]; /* IPv4 in the first four */
    bool v6;
};

struct net_rule {
    enum net_action action;
    uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, or 0 = any */
    struct net_address prefix;
    uint8_t prefix_len;
    uint16_t port_min, port_max; /* 0..65535 = any */
};

struct net_policy {
    struct net_rule rules[NET_POLICY_RULES_MAX];
    unsigned n_rules;
    enum net_action default_action;
    bool dns; /* offer the resolver stub at 10.0.2.3 */
};

/* TCP to public addresses, DNS through the stub, nothing else: private (RFC 1918, RFC 4193, RFC
 * 6598) ranges denied, UDP denied. */
void net_policy_default(struct net_policy *ret);
/* Nothing leaves at all, DNS included. */
void net_policy_none(struct net_policy *ret);

/* {"default":"allow|deny","dns":bool,"rules":[{"action":"allow","cidr":"10.0.0.0/8",
 * "protocol":"tcp","ports":"443" or "8000-8100"}]}; unknown members are errors. */
int net_policy_from_json(const json_t *v, struct net_policy *ret, struct err *e) MUST_CHECK;
json_t *net_policy_to_json(const struct net_policy *p);

/* host: the host's own addresses, always denied. */
enum net_action net_policy_decide(const struct net_policy *p, const struct net_address *host,
                                  unsigned n_host, uint8_t protocol, const struct net_address *dst,
                                  uint16_t dst_port);

/* What every guest is configured with (fixed, so that a snapshot fits any clone). */
#define NET_GUEST_ADDRESS "10.0.2.15"
#define NET_GUEST_PREFIX 24
#define NET_GATEWAY "10.0.2.2"
#define NET_DNS "10.0.2.3"
#define NET_GUEST_MAC "52:54:00:12:34:56"

#endif
