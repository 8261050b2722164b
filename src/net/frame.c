/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frame.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "net/be.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ARP_LEN 28
#define IP_HEADER 20
#define TCP_HEADER 20
#define UDP_HEADER 8
#define ICMP_HEADER 8

const char *net_reason_name(enum net_reason r)
{
    static const char *const names[NET_REASONS] = {
        [NET_OK] = "passed",
        [NET_MALFORMED] = "malformed",
        [NET_OVERSIZE] = "oversize",
        [NET_SPOOFED] = "spoofed",
        [NET_ETHERTYPE] = "not IPv4",
        [NET_FRAGMENT] = "fragment",
        [NET_OPTIONS] = "IP options",
        [NET_PROTOCOL] = "protocol",
        [NET_DENIED_POLICY] = "denied by policy",
        [NET_DENIED_HOST] = "address of this host",
        [NET_LIMIT] = "limit reached",
    };
    return (unsigned)r < NET_REASONS ? names[r] : "unknown";
}

uint32_t net_sum_add(uint32_t sum, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (; n > 1; b += 2, n -= 2)
        sum += be16_get(b);
    if (n)
        sum += (uint32_t)b[0] << 8;
    return sum;
}

uint16_t net_sum_end(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint16_t net_sum_segment(uint32_t src, uint32_t dst, uint8_t protocol, const uint8_t *p, size_t n)
{
    uint32_t sum = (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff);
    sum += protocol + (uint32_t)n;
    return net_sum_end(net_sum_add(sum, p, n));
}

static enum net_reason parse_arp(const uint8_t *p, size_t n, struct net_frame *f)
{
    static const uint8_t ethernet_ipv4[] = {0, 1, 0x08, 0, NET_MAC_LEN, 4};
    if (n < ARP_LEN || memcmp(p, ethernet_ipv4, sizeof ethernet_ipv4) != 0)
        return NET_MALFORMED;
    f->kind = NET_ARP;
    f->arp_op = be16_get(p + 6);
    f->arp_sha = p + 8;
    f->src = be32_get(p + 14);
    f->dst = be32_get(p + 24);
    return f->arp_op == 1 || f->arp_op == 2 ? NET_OK : NET_MALFORMED;
}

static enum net_reason parse_tcp(const uint8_t *p, size_t n, struct net_frame *f)
{
    if (n < TCP_HEADER)
        return NET_MALFORMED;
    size_t header = (size_t)(p[12] >> 4) * 4;
    if (header < TCP_HEADER || header > n)
        return NET_MALFORMED;
    f->kind = NET_TCP;
    f->src_port = be16_get(p);
    f->dst_port = be16_get(p + 2);
    f->tcp_seq = be32_get(p + 4);
    f->tcp_ack = be32_get(p + 8);
    f->tcp_flags = p[13];
    f->payload = p + header;
    f->payload_len = n - header;
    bool syn = f->tcp_flags & NET_TCP_SYN;
    if (syn && (f->tcp_flags & (NET_TCP_FIN | NET_TCP_RST)))
        return NET_MALFORMED;
    return f->src_port && f->dst_port ? NET_OK : NET_MALFORMED;
}

static enum net_reason parse_udp(const uint8_t *p, size_t n, struct net_frame *f)
{
    if (n < UDP_HEADER || be16_get(p + 4) != n)
        return NET_MALFORMED;
    f->kind = NET_UDP;
    f->src_port = be16_get(p);
    f->dst_port = be16_get(p + 2);
    f->payload = p + UDP_HEADER;
    f->payload_len = n - UDP_HEADER;
    return f->src_port && f->dst_port ? NET_OK : NET_MALFORMED;
}

static enum net_reason parse_icmp(const uint8_t *p, size_t n, struct net_frame *f)
{
    if (n < ICMP_HEADER)
        return NET_MALFORMED;
    f->kind = NET_ICMP;
    f->icmp_type = p[0];
    f->payload = p + ICMP_HEADER;
    f->payload_len = n - ICMP_HEADER;
    return net_sum_end(net_sum_add(0, p, n)) == 0 ? NET_OK : NET_MALFORMED;
}

static enum net_reason check_segment(const struct net_frame *f, uint8_t protocol, const uint8_t *p,
                                     size_t n)
{
    if (protocol == IPPROTO_UDP && be16_get(p + 6) == 0)
        return NET_OK; /* RFC 768: no checksum was made */
    return net_sum_segment(f->src, f->dst, protocol, p, n) == 0 ? NET_OK : NET_MALFORMED;
}

static enum net_reason parse_transport(uint8_t protocol, const uint8_t *p, size_t n,
                                       struct net_frame *f)
{
    enum net_reason r;
    switch (protocol) {
    case IPPROTO_TCP:
        r = parse_tcp(p, n, f);
        return r == NET_OK ? check_segment(f, protocol, p, n) : r;
    case IPPROTO_UDP:
        r = parse_udp(p, n, f);
        return r == NET_OK ? check_segment(f, protocol, p, n) : r;
    case IPPROTO_ICMP:
        return parse_icmp(p, n, f);
    default:
        return NET_PROTOCOL;
    }
}

static enum net_reason parse_ipv4(const uint8_t *p, size_t n, struct net_frame *f)
{
    if (n < IP_HEADER || p[0] >> 4 != 4)
        return NET_MALFORMED;
    size_t header = (size_t)(p[0] & 0x0f) * 4, total = be16_get(p + 2);
    if (header < IP_HEADER || total < header || total > n)
        return NET_MALFORMED;
    if (net_sum_end(net_sum_add(0, p, header)) != 0)
        return NET_MALFORMED;
    f->ip = p;
    f->ip_len = total;
    f->src = be32_get(p + 12);
    f->dst = be32_get(p + 16);
    if (header > IP_HEADER)
        return NET_OPTIONS;
    if (be16_get(p + 6) & 0x3fff) /* more fragments, or an offset */
        return NET_FRAGMENT;
    return parse_transport(p[9], p + header, total - header, f);
}

enum net_reason net_frame_parse(const uint8_t *p, size_t n, struct net_frame *ret)
{
    memset(ret, 0, sizeof *ret);
    if (n < NET_ETH_HEADER)
        return NET_MALFORMED;
    ret->dst_mac = p;
    ret->src_mac = p + NET_MAC_LEN;
    switch (be16_get(p + 12)) {
    case ETHERTYPE_ARP:
        return parse_arp(p + NET_ETH_HEADER, n - NET_ETH_HEADER, ret);
    case ETHERTYPE_IPV4:
        return parse_ipv4(p + NET_ETH_HEADER, n - NET_ETH_HEADER, ret);
    default:
        return NET_ETHERTYPE;
    }
}
