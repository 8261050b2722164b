/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#include <netinet/in.h>
#include <string.h>

#include "net/be.h"

static const uint8_t guest_mac[] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static const uint8_t gateway_mac[] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};

static void put_ethernet(uint8_t *out, const uint8_t *dst, unsigned type)
{
    memcpy(out, dst, 6);
    memcpy(out + 6, guest_mac, 6);
    be16_put(out + 12, type);
}

void guest_fix_ip(uint8_t *frame)
{
    uint8_t *ip = frame + 14;
    be16_put(ip + 10, 0);
    be16_put(ip + 10, net_sum_end(net_sum_add(0, ip, 20)));
}

size_t guest_ip(uint8_t *out, uint32_t src, uint32_t dst, uint8_t protocol, const void *segment,
                size_t n)
{
    uint8_t *ip = out + 14;
    put_ethernet(out, gateway_mac, 0x0800);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    be16_put(ip + 2, (unsigned)(20 + n));
    ip[8] = 64;
    ip[9] = protocol;
    be32_put(ip + 12, src);
    be32_put(ip + 16, dst);
    memmove(ip + 20, segment, n);
    guest_fix_ip(out);
    return 34 + n;
}

size_t guest_tcp(uint8_t *out, uint32_t dst, uint16_t sport, uint16_t dport, uint8_t flags,
                 uint32_t seq, uint32_t ack, const void *data, size_t n)
{
    uint8_t *tcp = out + 34;
    memset(tcp, 0, 20);
    be16_put(tcp, sport);
    be16_put(tcp + 2, dport);
    be32_put(tcp + 4, seq);
    be32_put(tcp + 8, ack);
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    be16_put(tcp + 14, 60000);
    if (n)
        memcpy(tcp + 20, data, n);
    be16_put(tcp + 16, net_sum_segment(GUEST_IP, dst, IPPROTO_TCP, tcp, 20 + n));
    return guest_ip(out, GUEST_IP, dst, IPPROTO_TCP, tcp, 20 + n);
}

size_t guest_udp(uint8_t *out, uint32_t dst, uint16_t sport, uint16_t dport, const void *data,
                 size_t n)
{
    uint8_t *udp = out + 34;
    be16_put(udp, sport);
    be16_put(udp + 2, dport);
    be16_put(udp + 4, (unsigned)(8 + n));
    be16_put(udp + 6, 0);
    if (n)
        memcpy(udp + 8, data, n);
    be16_put(udp + 6, net_sum_segment(GUEST_IP, dst, IPPROTO_UDP, udp, 8 + n));
    return guest_ip(out, GUEST_IP, dst, IPPROTO_UDP, udp, 8 + n);
}

size_t guest_ping(uint8_t *out, uint32_t dst)
{
    uint8_t icmp[] = {8, 0, 0, 0, 0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'};
    be16_put(icmp + 2, net_sum_end(net_sum_add(0, icmp, sizeof icmp)));
    return guest_ip(out, GUEST_IP, dst, IPPROTO_ICMP, icmp, sizeof icmp);
}

size_t guest_arp(uint8_t *out, uint32_t target)
{
    static const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0, 1},
                         everybody[] = {255, 255, 255, 255, 255, 255};
    uint8_t *arp = out + 14;
    put_ethernet(out, everybody, 0x0806);
    memcpy(arp, head, sizeof head);
    memcpy(arp + 8, guest_mac, 6);
    be32_put(arp + 14, GUEST_IP);
    memset(arp + 18, 0, 6);
    be32_put(arp + 24, target);
    return 42;
}

size_t guest_dns_query(uint8_t *out, uint16_t id, const char *name, uint16_t type)
{
    memset(out, 0, 12);
    be16_put(out, id);
    be16_put(out + 2, 0x0100);
    be16_put(out + 4, 1);
    size_t at = 12;
    while (*name) {
        size_t label = strcspn(name, ".");
        out[at++] = (uint8_t)label;
        memcpy(out + at, name, label);
        at += label;
        name += label + (name[label] == '.');
    }
    out[at++] = 0;
    be16_put(out + at, type);
    be16_put(out + at + 2, 1);
    return at + 4;
}
