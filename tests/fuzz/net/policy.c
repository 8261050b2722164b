/* SPDX-License-Identifier: Apache-2.0 */
/* Policy JSON: what is accepted must come out as it went in, and never open a denied range. */
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "net/policy.h"
#include "net/ranges.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct net_policy p, q;
    struct err e;
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    if (json_parse((const char *)data, size, 1 << 16, &v, &e) < 0)
        return 0;
    if (net_policy_from_json(v, &p, &e) < 0)
        return 0;
    CLEANUP(cleanup_json)
    json_t *w = net_policy_to_json(&p);
    int rc = net_policy_from_json(w, &q, &e);
    assert(rc == 0 && q.n_rules == p.n_rules);
    CLEANUP(cleanup_json)
    json_t *x = net_policy_to_json(&q);
    assert(json_equal(w, x));
    for (unsigned i = 0; i < net_ranges_denied_n; i++)
        assert(net_policy_decide(&p, NULL, 0, IPPROTO_TCP, &net_ranges_denied[i].prefix, 80) ==
               NET_DENY);
    return 0;
}
