/* SPDX-License-Identifier: Apache-2.0 */
/* First byte even: a query of the guest; what is accepted must survive being written and read
 * again. Odd: an answer to a fixed question. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/dns.h"
#include "net/resolvconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_query(const uint8_t *p, size_t n)
{
    struct dns_query q, again;
    uint8_t out[DNS_QUERY_MAX];
    char text[DNS_NAME_MAX + 1];
    int rc = dns_parse_query(p, n, &q);
    if (rc < 0)
        return;
    dns_name_text(&q, text);
    size_t m = dns_build_reply(&q, (enum dns_rcode)rc, n & 1, out);
    assert(m <= sizeof out);
    if (rc > 0)
        return;
    int answer = dns_check_answer(out, m, &q, q.id);
    assert(answer == 0);
    (void)!dns_local_answer(&q);
    m = dns_build_query(&q, 0x7777, out);
    rc = dns_parse_query(out, m, &again);
    assert(rc == 0 && again.id == 0x7777 && again.type == q.type && again.name_len == q.name_len);
    assert(memcmp(again.name, q.name, q.name_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct dns_query asked = {
        .name = "\7example\3com", .name_len = 13, .type = DNS_TYPE_A, .class_ = 1};
    struct net_resolvers r;
    if (size == 0)
        return 0;
    if (data[0] & 1)
        (void)!dns_check_answer(data + 1, size - 1, &asked, 0x1234);
    else
        try_query(data + 1, size - 1);
    net_resolvconf_parse((const char *)data, size, &r);
    assert(r.n >= 1 && r.n <= NET_RESOLVERS_MAX);
    return 0;
}
