/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address ranges with a meaning of their own, as data. Pure; any thread.
 *   denied   never reachable from a guest, no rule can allow them
 *   private  denied by the default policy; an explicit rule may allow them
 */
#ifndef NET_RANGES_H
#define NET_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "net/policy.h"

struct net_range {
    struct net_address prefix;
    uint8_t len;        /* prefix length, bits */
    const char *name;   /* for logs and documents */
    const char *source; /* where the range is defined */
};

extern const struct net_range net_ranges_denied[];
extern const unsigned net_ranges_denied_n;
extern const struct net_range net_ranges_private[];
extern const unsigned net_ranges_private_n;

/* The first range of the table that holds a, or NULL. */
const struct net_range *net_range_find(const struct net_range *table, unsigned n,
                                       const struct net_address *a);

/* Whether a lies in prefix/len; addresses of different families never match. */
bool net_prefix_holds(const struct net_address *prefix, uint8_t len, const struct net_address *a);

/* Host byte order, as frames are parsed. */
struct net_address net_address_v4(uint32_t address);

#endif
