/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filter.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "net/be.h"
#include "net/ranges.h"

#define DNS_PORT 53
#define ICMP_ECHO_REQUEST 8

static uint32_t constant_address(const char *text)
{
    uint8_t b[4];
    int ok = inet_pton(AF_INET, text, b);
    assert(ok == 1);
    return be32_get(b);
}

void net_filter_init(struct net_filter *f, const struct net_policy *policy)
{
    *f = (struct net_filter){
        .policy = policy,
        .guest = constant_address(NET_GUEST_ADDRESS),
        .gateway = constant_address(NET_GATEWAY),
        .dns = constant_address(NET_DNS),
    };
    const char *mac = NET_GUEST_MAC;
    for (size_t i = 0; i < NET_MAC_LEN; i++)
        f->mac[i] = (uint8_t)strtoul(mac + 3 * i, NULL, 16);
}

static enum net_verdict drop(enum net_reason why, enum net_reason *reason)
{
    *reason = why;
    return NET_DROP;
}

static enum net_verdict refuse(const struct net_frame *fr, enum net_reason why,
                               enum net_reason *reason)
{
    *reason = why;
    /* A reset is never answered (RFC 9293 3.10.7.1), nor anything sent to more than one station or
     * to nobody (RFC 1122 3.2.2). */
    bool nobody = fr->dst >> 24 == 0 || fr->dst >= 0xe0000000u || (fr->dst_mac[0] & 1);
    if (nobody || (fr->kind == NET_TCP && (fr->tcp_flags & NET_TCP_RST)))
        return NET_DROP;
    return NET_REFUSE;
}

static enum net_verdict filter_arp(const struct net_filter *f, const struct net_frame *fr,
                                   enum net_reason *reason)
{
    if (memcmp(fr->arp_sha, f->mac, NET_MAC_LEN) != 0 || fr->src != f->guest)
        return drop(NET_SPOOFED, reason);
    bool known = fr->dst == f->gateway || fr->dst == f->dns || fr->dst == f->guest;
    if (fr->arp_op == 1 && !known)
        return drop(NET_DENIED_POLICY, reason);
    return NET_PASS;
}

static enum net_verdict filter_resolver(const struct net_filter *f, const struct net_frame *fr,
                                        enum net_reason *reason)
{
    bool query = fr->kind != NET_ICMP && fr->dst_port == DNS_PORT;
    if (!query || !f->policy->dns)
        return refuse(fr, NET_DENIED_POLICY, reason);
    return fr->kind == NET_UDP ? NET_TO_RESOLVER : NET_TO_RESOLVER_TCP;
}

static enum net_verdict filter_ip(const struct net_filter *f, const struct net_frame *fr,
                                  enum net_reason *reason)
{
    static const uint8_t numbers[] = {
        [NET_TCP] = IPPROTO_TCP, [NET_UDP] = IPPROTO_UDP, [NET_ICMP] = IPPROTO_ICMP};
    if (fr->src != f->guest)
        return drop(NET_SPOOFED, reason);
    if (fr->kind == NET_ICMP && fr->icmp_type != ICMP_ECHO_REQUEST)
        return drop(NET_PROTOCOL, reason);
    if (fr->dst == f->dns)
        return filter_resolver(f, fr, reason);
    struct net_address dst = net_address_v4(fr->dst);
    if (net_policy_decide(f->policy, NULL, 0, numbers[fr->kind], &dst, fr->dst_port) != NET_ALLOW)
        return refuse(fr, NET_DENIED_POLICY, reason);
    /* Later segments belong to a connection whose first one was asked about, or get a reset from
     * the stack. */
    bool opens = fr->kind != NET_TCP || (fr->tcp_flags & NET_TCP_SYN);
    if (opens && !f->is_elsewhere(f->arg, fr->dst))
        return refuse(fr, NET_DENIED_HOST, reason);
    return NET_PASS;
}

enum net_verdict net_filter_frame(const struct net_filter *f, const uint8_t *p, size_t n,
                                  struct net_frame *frame, enum net_reason *reason)
{
    *reason = n > NET_FRAME_MAX ? NET_OVERSIZE : net_frame_parse(p, n, frame);
    if (*reason != NET_OK)
        return NET_DROP;
    if (memcmp(frame->src_mac, f->mac, NET_MAC_LEN) != 0)
        return drop(NET_SPOOFED, reason);
    if (frame->kind == NET_ARP)
        return filter_arp(f, frame, reason);
    return filter_ip(f, frame, reason);
}
