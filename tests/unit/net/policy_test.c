/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/policy.h"
#include "net/ranges.h"

static struct net_address address(const char *text)
{
    struct net_address a = {.v6 = strchr(text, ':') != NULL};
    assert_int_equal(inet_pton(a.v6 ? AF_INET6 : AF_INET, text, a.bytes), 1);
    return a;
}

static enum net_action decide(const struct net_policy *p, uint8_t protocol, const char *dst,
                              uint16_t port)
{
    struct net_address a = address(dst);
    return net_policy_decide(p, NULL, 0, protocol, &a, port);
}

static int parse(const char *text, struct net_policy *p, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    assert_int_equal(json_parse(text, strlen(text), 1 << 16, &v, e), 0);
    return net_policy_from_json(v, p, e);
}

static struct net_policy parsed(const char *text)
{
    struct net_policy p;
    struct err e = {0};
    if (parse(text, &p, &e) < 0)
        fail_msg("%s: %s", text, e.text);
    return p;
}

/* First and last address of each range, and that no rule opens it. */
static void denied_ranges_stay_denied(void **state)
{
    struct net_policy open = parsed("{\"default\":\"allow\",\"dns\":true,\"rules\":["
                                    "{\"action\":\"allow\",\"cidr\":\"0.0.0.0/0\"},"
                                    "{\"action\":\"allow\",\"cidr\":\"::/0\"}]}");
    (void)state;
    for (unsigned i = 0; i < net_ranges_denied_n; i++) {
        const struct net_range *r = &net_ranges_denied[i];
        struct net_address first = r->prefix, last = r->prefix;
        for (unsigned bit = r->len; bit < (last.v6 ? 128u : 32u); bit++)
            last.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        assert_non_null(r->name);
        assert_non_null(r->source);
        assert_true(net_prefix_holds(&r->prefix, r->len, &last));
        assert_int_equal(net_policy_decide(&open, NULL, 0, IPPROTO_TCP, &first, 443), NET_DENY);
        assert_int_equal(net_policy_decide(&open, NULL, 0, IPPROTO_TCP, &last, 443), NET_DENY);
    }
}

static const struct {
    const char *address;
    enum net_action tcp;
} defaults[] = {
    {"8.8.8.8", NET_ALLOW},
    {"1.0.0.0", NET_ALLOW},
    {"0.255.255.255", NET_DENY},
    {"9.255.255.255", NET_ALLOW},
    {"10.0.0.0", NET_DENY},
    {"10.0.2.2", NET_DENY},
    {"10.255.255.255", NET_DENY},
    {"11.0.0.0", NET_ALLOW},
    {"100.63.255.255", NET_ALLOW},
    {"100.64.0.0", NET_DENY},
    {"100.100.100.200", NET_DENY},
    {"100.127.255.255", NET_DENY},
    {"100.128.0.0", NET_ALLOW},
    {"126.255.255.255", NET_ALLOW},
    {"127.0.0.1", NET_DENY},
    {"127.255.255.255", NET_DENY},
    {"128.0.0.0", NET_ALLOW},
    {"168.63.129.16", NET_DENY},
    {"168.63.129.17", NET_ALLOW},
    {"169.253.255.255", NET_ALLOW},
    {"169.254.169.254", NET_DENY},
    {"169.254.170.2", NET_DENY},
    {"169.255.0.0", NET_ALLOW},
    {"172.15.255.255", NET_ALLOW},
    {"172.16.0.0", NET_DENY},
    {"172.31.255.255", NET_DENY},
    {"172.32.0.0", NET_ALLOW},
    {"192.0.0.192", NET_DENY},
    {"192.0.1.0", NET_ALLOW},
    {"192.0.2.1", NET_ALLOW}, /* documentation ranges are not treated specially */
    {"198.51.100.1", NET_ALLOW},
    {"203.0.113.1", NET_ALLOW},
    {"192.167.255.255", NET_ALLOW},
    {"192.168.0.0", NET_DENY},
    {"192.168.255.255", NET_DENY},
    {"192.169.0.0", NET_ALLOW},
    {"198.17.255.255", NET_ALLOW},
    {"198.18.0.0", NET_DENY},
    {"198.20.0.0", NET_ALLOW},
    {"223.255.255.255", NET_ALLOW},
    {"224.0.0.1", NET_DENY},
    {"239.255.255.255", NET_DENY},
    {"240.0.0.1", NET_DENY},
    {"255.255.255.255", NET_DENY},
    {"2606:4700::1", NET_ALLOW},
    {"::", NET_DENY},
    {"::1", NET_DENY},
    {"::2", NET_DENY},
    {"::ffff:8.8.8.8", NET_DENY},
    {"64:ff9b::7f00:1", NET_DENY},
    {"64:ff9b:1::1", NET_DENY},
    {"2001::1", NET_DENY},
    {"2001:4860::1", NET_ALLOW},
    {"2002:7f00:1::", NET_DENY},
    {"fc00::1", NET_DENY},
    {"fd00:ec2::254", NET_DENY},
    {"fe80::1", NET_DENY},
    {"febf::1", NET_DENY},
    {"fec0::1", NET_DENY},
    {"ff02::1", NET_DENY},
};

static void default_policy(void **state)
{
    struct net_policy p;
    (void)state;
    net_policy_default(&p);
    assert_true(p.dns);
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
        if (decide(&p, IPPROTO_TCP, defaults[i].address, 443) != defaults[i].tcp)
            fail_msg("tcp to %s", defaults[i].address);
        assert_int_equal(decide(&p, IPPROTO_UDP, defaults[i].address, 53), NET_DENY);
        assert_int_equal(decide(&p, IPPROTO_ICMP, defaults[i].address, 0), NET_DENY);
    }
}

static void closed_policy(void **state)
{
    struct net_policy p;
    (void)state;
    net_policy_none(&p);
    assert_false(p.dns);
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
        assert_int_equal(decide(&p, IPPROTO_TCP, defaults[i].address, 443), NET_DENY);
}

static void host_addresses(void **state)
{
    struct net_policy p = parsed("{\"default\":\"allow\",\"dns\":true}");
    struct net_address host[] = {address("203.0.113.9"), address("2606:4700::9")};
    struct net_address other = address("203.0.113.8");
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(host); i++) {
        assert_int_equal(net_policy_decide(&p, host, 2, IPPROTO_TCP, &host[i], 80), NET_DENY);
        assert_int_equal(net_policy_decide(&p, host, 0, IPPROTO_TCP, &host[i], 80), NET_ALLOW);
    }
    assert_int_equal(net_policy_decide(&p, host, 2, IPPROTO_TCP, &other, 80), NET_ALLOW);
}

static void rules(void **state)
{
    struct net_policy p = parsed(
        "{\"default\":\"deny\",\"dns\":false,\"rules\":["
        "{\"action\":\"deny\",\"cidr\":\"192.168.7.7\"},"
        "{\"action\":\"allow\",\"cidr\":\"192.168.0.0/16\",\"protocol\":\"tcp\",\"ports\":\"443\"},"
        "{\"action\":\"allow\",\"cidr\":\"192.168.1.0/25\",\"ports\":\"8000-8100\"},"
        "{\"action\":\"allow\",\"cidr\":\"192.168.9.0/24\",\"protocol\":\"icmp\"},"
        "{\"action\":\"allow\",\"cidr\":\"192.168.10.0/31\",\"protocol\":\"any\"},"
        "{\"action\":\"allow\",\"cidr\":\"2606:4700::/33\",\"protocol\":\"udp\"}]}");
    static const struct {
        uint8_t protocol;
        const char *dst;
        uint16_t port;
        enum net_action action;
    } rows[] = {
        {IPPROTO_TCP, "192.168.7.7", 443, NET_DENY}, /* the earlier rule wins */
        {IPPROTO_TCP, "192.168.7.8", 443, NET_ALLOW},
        {IPPROTO_TCP, "192.168.7.8", 442, NET_DENY},
        {IPPROTO_TCP, "192.168.7.8", 444, NET_DENY},
        {IPPROTO_UDP, "192.168.7.8", 443, NET_DENY},
        {IPPROTO_TCP, "192.169.0.0", 443, NET_DENY},
        {IPPROTO_UDP, "192.168.1.0", 8000, NET_ALLOW},
        {IPPROTO_TCP, "192.168.1.127", 8100, NET_ALLOW},
        {IPPROTO_TCP, "192.168.1.128", 8100, NET_DENY},
        {IPPROTO_TCP, "192.168.1.1", 7999, NET_DENY},
        {IPPROTO_TCP, "192.168.1.1", 8101, NET_DENY},
        {IPPROTO_ICMP, "192.168.1.1", 0, NET_DENY}, /* a rule with ports is not about ICMP */
        {IPPROTO_ICMP, "192.168.9.1", 0, NET_ALLOW},
        {IPPROTO_TCP, "192.168.9.1", 80, NET_DENY},
        {IPPROTO_ICMP, "192.168.10.1", 0, NET_ALLOW},
        {IPPROTO_UDP, "192.168.10.0", 65535, NET_ALLOW},
        {IPPROTO_TCP, "192.168.10.2", 80, NET_DENY},
        {IPPROTO_UDP, "2606:4700:7fff::1", 1, NET_ALLOW},
        {IPPROTO_UDP, "2606:4700:8000::1", 1, NET_DENY},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (decide(&p, rows[i].protocol, rows[i].dst, rows[i].port) != rows[i].action)
            fail_msg("row %zu: %s port %u", i, rows[i].dst, rows[i].port);
}

static void json_round_trip(void **state)
{
    struct net_policy p, q;
    struct err e;
    (void)state;
    net_policy_default(&p);
    p.rules[0].port_min = 8000;
    p.rules[0].port_max = 8100;
    CLEANUP(cleanup_json)
    json_t *v = net_policy_to_json(&p);
    memset(&q, 0xaa, sizeof q);
    assert_int_equal(net_policy_from_json(v, &q, &e), 0);
    assert_int_equal(q.n_rules, p.n_rules);
    CLEANUP(cleanup_json)
    json_t *w = net_policy_to_json(&q);
    assert_true(json_equal(v, w));
}

#define RULE(text) "{\"default\":\"deny\",\"dns\":true,\"rules\":[" text "]}"

static void json_errors(void **state)
{
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"[]", "must be a JSON object"},
        {"{}", "'default' must be"},
        {"{\"default\":\"drop\",\"dns\":true}", "'default' must be"},
        {"{\"default\":true,\"dns\":true}", "'default' must be"},
        {"{\"default\":\"deny\"}", "'dns' must be"},
        {"{\"default\":\"deny\",\"dns\":1}", "'dns' must be"},
        {"{\"default\":\"deny\",\"dns\":true,\"rule\":[]}", "unknown member 'rule'"},
        {"{\"default\":\"deny\",\"dns\":true,\"rules\":{}}", "must be an array"},
        {RULE("7"), "rule 1: must be an object"},
        {RULE("{\"action\":\"allow\"}"), "'cidr' must be"},
        {RULE("{\"cidr\":\"1.2.3.4\"}"), "'action' must be"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3\"}"), "not an address"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4/33\"}"), "prefix length of 0-32"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4/\"}"), "prefix length"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4/+8\"}"), "prefix length"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4/08\"}"), "prefix length"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4/8x\"}"), "prefix length"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4/8\"}"), "bits behind its prefix"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"fe80::1/64\"}"), "bits behind its prefix"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::/129\"}"), "prefix length of 0-128"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"example.com\"}"), "not an address"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"protocol\":\"sctp\"}"), "'protocol' must"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"protocol\":6}"), "'protocol' must"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":443}"), "'ports' must be a string"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":\"\"}"), "'ports' must be"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":\"65536\"}"), "'ports' must be"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":\"1-\"}"), "neither a port"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":\"1-2-3\"}"), "neither a port"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":\"1,2\"}"), "neither a port"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"ports\":\"9-8\"}"), "backwards"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"protocol\":\"icmp\",\"ports\":\"1\"}"),
         "no meaning for icmp"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"::\",\"port\":\"1\"}"), "unknown member 'port'"},
        {RULE("{\"action\":\"allow\",\"cidr\":\"1.2.3.4\"},{\"action\":\"x\"}"), "rule 2"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct net_policy p;
        struct err e = {0};
        if (parse(rows[i].text, &p, &e) == 0)
            fail_msg("accepted: %s", rows[i].text);
        if (!strstr(e.text, rows[i].wanted))
            fail_msg("%s: '%s' does not say '%s'", rows[i].text, e.text, rows[i].wanted);
    }
}

static void json_rule_limit(void **state)
{
    struct net_policy p;
    struct err e;
    (void)state;
    CLEANUP(cleanup_json)
    json_t *v = json_pack("{s:s,s:b,s:[]}", "default", "deny", "dns", 0, "rules");
    for (int i = 0; i < NET_POLICY_RULES_MAX; i++)
        json_array_append_new(json_object_get(v, "rules"),
                              json_pack("{s:s,s:s}", "action", "allow", "cidr", "1.2.3.4"));
    assert_int_equal(net_policy_from_json(v, &p, &e), 0);
    assert_int_equal(p.n_rules, NET_POLICY_RULES_MAX);
    json_array_append(json_object_get(v, "rules"), json_array_get(json_object_get(v, "rules"), 0));
    assert_true(net_policy_from_json(v, &p, &e) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(denied_ranges_stay_denied),
        cmocka_unit_test(default_policy),
        cmocka_unit_test(closed_policy),
        cmocka_unit_test(host_addresses),
        cmocka_unit_test(rules),
        cmocka_unit_test(json_round_trip),
        cmocka_unit_test(json_errors),
        cmocka_unit_test(json_rule_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
