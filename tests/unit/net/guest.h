/* SPDX-License-Identifier: Apache-2.0 */
/* Plays the guest's side of a tinderbox-net stream: frames built by hand, answers parsed. */
#ifndef TEST_NET_GUEST_H
#define TEST_NET_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/frame.h"

#define GUEST_IP 0x0a00020fu
#define GATEWAY_IP 0x0a000202u
#define DNS_IP 0x0a000203u
#define IP(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

/* Builders: the whole frame into out, length returned. Correct checksums. */
size_t guest_ip(uint8_t *out, uint32_t src, uint32_t dst, uint8_t protocol, const void *segment,
                size_t n);
size_t guest_tcp(uint8_t *out, uint32_t dst, uint16_t sport, uint16_t dport, uint8_t flags,
                 uint32_t seq, uint32_t ack, const void *data, size_t n);
size_t guest_udp(uint8_t *out, uint32_t dst, uint16_t sport, uint16_t dport, const void *data,
                 size_t n);
size_t guest_ping(uint8_t *out, uint32_t dst);
size_t guest_arp(uint8_t *out, uint32_t target);
/* Recomputes the checksum of an IPv4 header without options that a test has bent. */
void guest_fix_ip(uint8_t *frame);
size_t guest_dns_query(uint8_t *out, uint16_t id, const char *name, uint16_t type);

#endif
