/* SPDX-License-Identifier: Apache-2.0 */
#include "net/reply.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#include "net/be.h"

#define IP_HEADER 20
#define ICMP_UNREACHABLE 3
#define ICMP_PROHIBITED 13

/* The stack's own convention for the address of a virtual station. */
static void put_gateway_mac(const struct net_filter *f, uint8_t *p)
{
    p[0] = 0x52;
    p[1] = 0x55;
    be32_put(p + 2, f->gateway);
}

/* Ethernet and IPv4 headers around n bytes already at out + 34; returns the length of the frame. */
static size_t finish_ip(const struct net_filter *f, uint8_t *out, uint8_t protocol, uint32_t src,
                        size_t n)
{
    uint8_t *ip = out + NET_ETH_HEADER;
    memcpy(out, f->mac, NET_MAC_LEN);
    put_gateway_mac(f, out + NET_MAC_LEN);
    be16_put(out + 12, 0x0800);
    memset(ip, 0, IP_HEADER);
    ip[0] = 0x45;
    be16_put(ip + 2, (unsigned)(IP_HEADER + n));
    be16_put(ip + 6, 0x4000); /* don't fragment: allows identification 0 (RFC 6864 4.1) */
    ip[8] = 64;
    ip[9] = protocol;
    be32_put(ip + 12, src);
    be32_put(ip + 16, f->guest);
    be16_put(ip + 10, net_sum_end(net_sum_add(0, ip, IP_HEADER)));
    return NET_ETH_HEADER + IP_HEADER + n;
}

static size_t reply_reset(const struct net_filter *f, const struct net_frame *to, uint8_t *out)
{
    uint8_t *tcp = out + NET_ETH_HEADER + IP_HEADER;
    memset(tcp, 0, 20);
    be16_put(tcp, to->dst_port);
    be16_put(tcp + 2, to->src_port);
    tcp[12] = 5 << 4;
    if (to->tcp_flags & NET_TCP_ACK) { /* RFC 9293 3.10.7.1 */
        be32_put(tcp + 4, to->tcp_ack);
        tcp[13] = NET_TCP_RST;
    } else {
        uint32_t len = (uint32_t)to->payload_len;
        len += (to->tcp_flags & NET_TCP_SYN) ? 1 : 0;
        len += (to->tcp_flags & NET_TCP_FIN) ? 1 : 0;
        be32_put(tcp + 8, to->tcp_seq + len);
        tcp[13] = NET_TCP_RST | NET_TCP_ACK;
    }
    be16_put(tcp + 16, net_sum_segment(to->dst, f->guest, IPPROTO_TCP, tcp, 20));
    return finish_ip(f, out, IPPROTO_TCP, to->dst, 20);
}

static size_t reply_prohibited(const struct net_filter *f, const struct net_frame *to, uint8_t *out)
{
    uint8_t *icmp = out + NET_ETH_HEADER + IP_HEADER;
    size_t quoted = to->ip_len < IP_HEADER + 8 ? to->ip_len : IP_HEADER + 8;
    memset(icmp, 0, 8);
    icmp[0] = ICMP_UNREACHABLE;
    icmp[1] = ICMP_PROHIBITED;
    memcpy(icmp + 8, to->ip, quoted);
    be16_put(icmp + 2, net_sum_end(net_sum_add(0, icmp, 8 + quoted)));
    return finish_ip(f, out, IPPROTO_ICMP, f->gateway, 8 + quoted);
}

size_t net_reply_refusal(const struct net_filter *f, const struct net_frame *to,
                         uint8_t out[NET_FRAME_MAX])
{
    return to->kind == NET_TCP ? reply_reset(f, to, out) : reply_prohibited(f, to, out);
}

size_t net_reply_dns(const struct net_filter *f, uint16_t port, const uint8_t *p, size_t n,
                     uint8_t out[NET_FRAME_MAX])
{
    uint8_t *udp = out + NET_ETH_HEADER + IP_HEADER;
    assert(n <= NET_UDP_PAYLOAD_MAX);
    be16_put(udp, 53);
    be16_put(udp + 2, port);
    be16_put(udp + 4, (unsigned)(8 + n));
    be16_put(udp + 6, 0);
    memcpy(udp + 8, p, n);
    uint16_t sum = net_sum_segment(f->dns, f->guest, IPPROTO_UDP, udp, 8 + n);
    be16_put(udp + 6, sum ? sum : 0xffff); /* 0 would mean "no checksum" */
    return finish_ip(f, out, IPPROTO_UDP, f->dns, 8 + n);
}

void net_readdress_tcp(uint8_t *frame, size_t ip_len, bool destination, uint32_t ip, uint16_t port)
{
    uint8_t *h = frame + NET_ETH_HEADER, *tcp = h + IP_HEADER;
    size_t n = ip_len - IP_HEADER;
    be32_put(h + (destination ? 16 : 12), ip);
    be16_put(tcp + (destination ? 2 : 0), port);
    be16_put(h + 10, 0);
    be16_put(h + 10, net_sum_end(net_sum_add(0, h, IP_HEADER)));
    be16_put(tcp + 16, 0);
    be16_put(tcp + 16, net_sum_segment(be32_get(h + 12), be32_get(h + 16), IPPROTO_TCP, tcp, n));
}

size_t net_reply_guest_arp(const struct net_filter *f, uint8_t out[NET_FRAME_MAX])
{
    static const uint8_t request[] = {0, 1, 0x08, 0, NET_MAC_LEN, 4, 0, 1};
    uint8_t *arp = out + NET_ETH_HEADER;
    memset(out, 0xff, NET_MAC_LEN);
    memcpy(out + NET_MAC_LEN, f->mac, NET_MAC_LEN);
    be16_put(out + 12, 0x0806);
    memcpy(arp, request, sizeof request);
    memcpy(arp + 8, f->mac, NET_MAC_LEN);
    be32_put(arp + 14, f->guest);
    memset(arp + 18, 0, NET_MAC_LEN);
    be32_put(arp + 24, f->guest);
    return NET_ETH_HEADER + 28;
}
