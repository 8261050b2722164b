/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of our own for the guest: refusals and datagrams from the resolver. Pure. */
#ifndef NET_REPLY_H
#define NET_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/filter.h"

/* The largest UDP payload that fits one frame: no answer of ours is ever fragmented. */
#define NET_UDP_PAYLOAD_MAX (NET_MTU - 20 - 8)

/* A reset for TCP, else ICMP "administratively prohibited" (RFC 1812 5.2.7.1). Returns the length
 * of the frame. */
size_t net_reply_refusal(const struct net_filter *f, const struct net_frame *to,
                         uint8_t out[NET_FRAME_MAX]);

/* Datagram from the resolver's port 53 to port of the guest; n <= NET_UDP_PAYLOAD_MAX. */
size_t net_reply_dns(const struct net_filter *f, uint16_t port, const uint8_t *p, size_t n,
                     uint8_t out[NET_FRAME_MAX]);

/* Gives the TCP segment in frame (a whole one that net_frame_parse() accepted) another destination,
 * or another source, and corrects both checksums. */
void net_readdress_tcp(uint8_t *frame, size_t ip_len, bool destination, uint32_t ip, uint16_t port);

/* A gratuitous ARP request as the guest would send it: teaches the stack who the guest is, so that
 * the first packet towards a restored guest waits for nobody. */
size_t net_reply_guest_arp(const struct net_filter *f, uint8_t out[NET_FRAME_MAX]);

#endif
