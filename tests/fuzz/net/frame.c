/* SPDX-License-Identifier: Apache-2.0 */
/* One frame of a guest through the filter. The first byte chooses the policy. What passes must be
 * what the policy says; what is refused must get an answer that is itself a good frame. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/filter.h"
#include "net/ranges.h"
#include "net/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool elsewhere(void *arg, uint32_t dst)
{
    (void)arg;
    return dst & 1;
}

static void check_passed(const struct net_filter *f, const struct net_frame *fr)
{
    struct net_address dst = net_address_v4(fr->dst);
    if (fr->kind == NET_ARP)
        return;
    assert(fr->src == f->guest);
    assert(!net_range_find(net_ranges_denied, net_ranges_denied_n, &dst));
    assert(fr->payload >= fr->ip && fr->payload + fr->payload_len == fr->ip + fr->ip_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_policy policy;
    struct net_filter filter;
    struct net_frame fr, answer;
    enum net_reason reason;
    uint8_t out[NET_FRAME_MAX];
    if (size == 0)
        return 0;
    net_policy_default(&policy);
    if (data[0] & 1)
        policy = (struct net_policy){.default_action = NET_ALLOW, .dns = data[0] & 2};
    net_filter_init(&filter, &policy);
    filter.is_elsewhere = elsewhere;
    enum net_verdict v = net_filter_frame(&filter, data + 1, size - 1, &fr, &reason);
    if (v == NET_PASS) {
        check_passed(&filter, &fr);
    } else if (v == NET_REFUSE) {
        assert(reason == NET_DENIED_POLICY || reason == NET_DENIED_HOST);
        size_t n = net_reply_refusal(&filter, &fr, out);
        enum net_reason r = net_frame_parse(out, n, &answer);
        assert(r == NET_OK && answer.dst == filter.guest);
    }
    assert((v == NET_DROP || v == NET_REFUSE) == (reason != NET_OK));
    return 0;
}
