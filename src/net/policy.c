/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decision for one destination, and the policies everybody starts from.
 *
 * Order: the ranges nobody may reach (ranges.c), the host's own addresses, the rules, the default.
 * A rule whose ports are narrowed says something about TCP and UDP only; a protocol without ports
 * matches a rule only when its ports are left open.
 */
#include "net/policy.h"

#include <netinet/in.h>
#include <string.h>

#include "net/ranges.h"

static void policy_add(struct net_policy *p, enum net_action action, uint8_t protocol,
                       const struct net_address *prefix, uint8_t len)
{
    p->rules[p->n_rules++] = (struct net_rule){
        .action = action,
        .protocol = protocol,
        .prefix = *prefix,
        .prefix_len = len,
        .port_min = 0,
        .port_max = UINT16_MAX,
    };
}

void net_policy_default(struct net_policy *ret)
{
    static const struct net_address any4, any6 = {.v6 = true};
    memset(ret, 0, sizeof *ret);
    for (unsigned i = 0; i < net_ranges_private_n; i++)
        policy_add(ret, NET_DENY, 0, &net_ranges_private[i].prefix, net_ranges_private[i].len);
    policy_add(ret, NET_ALLOW, IPPROTO_TCP, &any4, 0);
    policy_add(ret, NET_ALLOW, IPPROTO_TCP, &any6, 0);
    ret->default_action = NET_DENY;
    ret->dns = true;
}

void net_policy_none(struct net_policy *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->default_action = NET_DENY;
}

static bool is_host_address(const struct net_address *host, unsigned n_host,
                            const struct net_address *a)
{
    for (unsigned i = 0; i < n_host; i++)
        if (host[i].v6 == a->v6 && memcmp(host[i].bytes, a->bytes, a->v6 ? 16 : 4) == 0)
            return true;
    return false;
}

static bool rule_matches(const struct net_rule *r, uint8_t protocol, const struct net_address *dst,
                         uint16_t port)
{
    if (r->protocol && r->protocol != protocol)
        return false;
    bool has_ports = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
    if (has_ports ? (port < r->port_min || port > r->port_max)
                  : (r->port_min != 0 || r->port_max != UINT16_MAX))
        return false;
    return net_prefix_holds(&r->prefix, r->prefix_len, dst);
}

enum net_action net_policy_decide(const struct net_policy *p, const struct net_address *host,
                                  unsigned n_host, uint8_t protocol, const struct net_address *dst,
                                  uint16_t dst_port)
{
    if (net_range_find(net_ranges_denied, net_ranges_denied_n, dst))
        return NET_DENY;
    if (is_host_address(host, n_host, dst))
        return NET_DENY;
    for (unsigned i = 0; i < p->n_rules; i++)
        if (rule_matches(&p->rules[i], protocol, dst, dst_port))
            return p->rules[i].action;
    return p->default_action;
}
