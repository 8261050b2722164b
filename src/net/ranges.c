/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ranges.h"

#include <string.h>

#define V4(a, b, c, d)          \
    {                           \
        .bytes = { a, b, c, d } \
    }
#define V6(...)                            \
    {                                      \
        .bytes = {__VA_ARGS__}, .v6 = true \
    }

/* Longer prefixes come first so that a log line names the most specific reason. */
const struct net_range net_ranges_denied[] = {
    {V4(0, 0, 0, 0), 8, "this network", "RFC 1122 3.2.1.3"},
    {V4(127, 0, 0, 0), 8, "loopback", "RFC 1122 3.2.1.3"},
    {V4(10, 0, 2, 0), 24, "the guest's own link", "docs/design/egress.md"},
    {V4(100, 100, 100, 200), 32, "cloud metadata", "Alibaba Cloud instance metadata"},
    {V4(168, 63, 129, 16), 32, "cloud metadata", "Azure platform address"},
    {V4(169, 254, 169, 254), 32, "cloud metadata", "RFC 3927; instance metadata services"},
    {V4(169, 254, 0, 0), 16, "link-local", "RFC 3927"},
    {V4(192, 0, 0, 0), 24, "protocol assignments", "RFC 6890 2.1; metadata on some clouds"},
    {V4(192, 88, 99, 0), 24, "6to4 relay anycast", "RFC 7526"},
    {V4(224, 0, 0, 0), 4, "multicast", "RFC 5771"},
    {V4(255, 255, 255, 255), 32, "limited broadcast", "RFC 919"},
    {V4(240, 0, 0, 0), 4, "reserved", "RFC 1112 4"},
    {V6(0), 128, "unspecified", "RFC 4291 2.5.2"},
    {V6(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), 128, "loopback", "RFC 4291 2.5.3"},
    {V6(0), 96, "IPv4-compatible", "RFC 4291 2.5.5.1"},
    {V6(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), 96, "IPv4-mapped", "RFC 4291 2.5.5.2"},
    {V6(0, 0x64, 0xff, 0x9b, 0), 96, "NAT64 (hides an IPv4 address)", "RFC 6052"},
    {V6(0, 0x64, 0xff, 0x9b, 0, 1), 48, "local NAT64", "RFC 8215"},
    {V6(0x20, 0x01, 0, 0), 32, "Teredo (hides an IPv4 address)", "RFC 4380"},
    {V6(0x20, 0x02), 16, "6to4 (hides an IPv4 address)", "RFC 3056"},
    {V6(0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54), 128, "cloud metadata",
     "EC2 instance metadata"},
    {V6(0xfd, 0x20, 0, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54), 128, "cloud metadata",
     "Google Compute Engine metadata"},
    {V6(0xfe, 0x80), 10, "link-local", "RFC 4291 2.5.6"},
    {V6(0xfe, 0xc0), 10, "site-local", "RFC 3879"},
    {V6(0xff), 8, "multicast", "RFC 4291 2.7"},
};
const unsigned net_ranges_denied_n = ARRAY_LEN(net_ranges_denied);

const struct net_range net_ranges_private[] = {
    {V4(10, 0, 0, 0), 8, "private", "RFC 1918"},
    {V4(172, 16, 0, 0), 12, "private", "RFC 1918"},
    {V4(192, 168, 0, 0), 16, "private", "RFC 1918"},
    {V4(100, 64, 0, 0), 10, "shared (carrier NAT)", "RFC 6598"},
    {V4(198, 18, 0, 0), 15, "benchmarking", "RFC 2544"},
    {V6(0xfc), 7, "unique local", "RFC 4193"},
};
const unsigned net_ranges_private_n = ARRAY_LEN(net_ranges_private);

bool net_prefix_holds(const struct net_address *prefix, uint8_t len, const struct net_address *a)
{
    if (prefix->v6 != a->v6 || len > (a->v6 ? 128 : 32))
        return false;
    if (memcmp(prefix->bytes, a->bytes, len / 8) != 0)
        return false;
    unsigned rest = len % 8;
    if (!rest)
        return true;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));
    return ((prefix->bytes[len / 8] ^ a->bytes[len / 8]) & mask) == 0;
}

const struct net_range *net_range_find(const struct net_range *table, unsigned n,
                                       const struct net_address *a)
{
    for (unsigned i = 0; i < n; i++)
        if (net_prefix_holds(&table[i].prefix, table[i].len, a))
            return &table[i];
    return NULL;
}

struct net_address net_address_v4(uint32_t address)
{
    return (struct net_address){.bytes = {(uint8_t)(address >> 24), (uint8_t)(address >> 16),
                                          (uint8_t)(address >> 8), (uint8_t)address}};
}
