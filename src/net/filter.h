/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to one frame from the guest. The whole egress policy is enforced here and nowhere
 * else: nothing reaches the TCP/IP stack without NET_PASS. Pure but for the one question to the
 * kernel that the owner supplies. Loop thread.
 */
#ifndef NET_FILTER_H
#define NET_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "net/frame.h"
#include "net/policy.h"

struct net_filter {
    const struct net_policy *policy; /* borrowed */
    uint8_t mac[NET_MAC_LEN];
    uint32_t guest, gateway, dns; /* host byte order */
    /* Whether the kernel would send to dst as ordinary unicast to somebody else; false for every
     * address of this host. Asked for each frame that could open a flow. */
    bool (*is_elsewhere)(void *arg, uint32_t dst);
    void *arg;
};

enum net_verdict {
    NET_PASS,           /* give it to the stack */
    NET_DROP,           /* say nothing */
    NET_REFUSE,         /* answer as net_reply_refusal() does */
    NET_TO_RESOLVER,    /* a DNS query over UDP */
    NET_TO_RESOLVER_TCP /* a segment of a DNS connection */
};

/* The fixed addresses of policy.h; is_elsewhere is left for the caller. */
void net_filter_init(struct net_filter *f, const struct net_policy *policy);

/* *reason is NET_OK for PASS and TO_RESOLVER*. Afterwards *frame is valid for these and REFUSE. */
enum net_verdict net_filter_frame(const struct net_filter *f, const uint8_t *p, size_t n,
                                  struct net_frame *frame, enum net_reason *reason);

#endif
