/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One Ethernet frame from the guest, parsed strictly: every length is checked against the bytes
 * that are there, header checksums must be right, and what the filter could not judge (fragments,
 * IP options, other protocols) is named instead of parsed. Pure; pointers borrow from the frame.
 */
#ifndef NET_FRAME_H
#define NET_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define NET_MAC_LEN 6
#define NET_ETH_HEADER 14
#define NET_MTU 1500
#define NET_FRAME_MAX (NET_ETH_HEADER + NET_MTU)

/* Why a frame went no further; also the index of its counter in struct net_stats. */
enum net_reason {
    NET_OK,
    NET_MALFORMED,     /* lengths, versions or checksums that do not add up */
    NET_OVERSIZE,      /* longer than the MTU allows */
    NET_SPOOFED,       /* not from the guest's own MAC and address */
    NET_ETHERTYPE,     /* neither ARP nor IPv4 */
    NET_FRAGMENT,      /* the ports of later fragments cannot be judged: all are dropped */
    NET_OPTIONS,       /* IP options: source routing would bypass the policy */
    NET_PROTOCOL,      /* neither TCP, UDP nor an ICMP echo request */
    NET_DENIED_POLICY, /* the policy says no */
    NET_DENIED_HOST,   /* an address of this host, or one the kernel would not route as unicast */
    NET_LIMIT,         /* too many connections or resolver queries */
    NET_REASONS
};

const char *net_reason_name(enum net_reason r);

enum net_kind { NET_ARP, NET_TCP, NET_UDP, NET_ICMP };

#define NET_TCP_FIN 0x01
#define NET_TCP_SYN 0x02
#define NET_TCP_RST 0x04
#define NET_TCP_ACK 0x10

struct net_frame {
    enum net_kind kind;
    const uint8_t *dst_mac, *src_mac;
    uint32_t src, dst; /* ARP: sender and target address; host byte order */
    /* ARP */
    uint16_t arp_op;
    const uint8_t *arp_sha;
    /* IPv4 */
    const uint8_t *ip; /* header; ip_len bytes in all, padding cut off */
    size_t ip_len;
    uint16_t src_port, dst_port; /* TCP and UDP, host byte order */
    uint8_t tcp_flags;
    uint32_t tcp_seq, tcp_ack;
    uint8_t icmp_type;
    const uint8_t *payload; /* behind the TCP, UDP or ICMP header */
    size_t payload_len;
};

enum net_reason net_frame_parse(const uint8_t *p, size_t n, struct net_frame *ret) MUST_CHECK;

/* RFC 1071 sum, foldable: start with 0, add ranges of even length (the last may be odd). */
uint32_t net_sum_add(uint32_t sum, const void *p, size_t n);
uint16_t net_sum_end(uint32_t sum); /* the complemented 16-bit sum, host byte order */
/* Sum over the pseudo header and the segment of n bytes: 0 when a received segment is intact. */
uint16_t net_sum_segment(uint32_t src, uint32_t dst, uint8_t protocol, const uint8_t *p, size_t n);

#endif
