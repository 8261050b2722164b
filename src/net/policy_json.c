/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies as JSON text. Strict on purpose: a policy that does not say what its author meant is a
 * hole, so unknown members, host bits behind the prefix and ports on port-less protocols are
 * errors, and "default" and "dns" have no silent value.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/policy.h"
#include "net/ranges.h"

static const struct {
    const char *name;
    uint8_t number;
} protocols[] = {{"any", 0}, {"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"icmp", IPPROTO_ICMP}};

static int check_members(const json_t *o, const char *const *known, struct err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)o, key, value) {
        (void)value;
        bool found = false;
        for (size_t i = 0; known[i] && !found; i++)
            found = strcmp(key, known[i]) == 0;
        if (!found)
            return err_set(e, EINVAL, "unknown member '%.60s'", key);
    }
    return 0;
}

static int parse_action(const json_t *v, const char *member, enum net_action *ret, struct err *e)
{
    const char *s = json_string_value(v);
    if (s && strcmp(s, "allow") == 0)
        *ret = NET_ALLOW;
    else if (s && strcmp(s, "deny") == 0)
        *ret = NET_DENY;
    else
        return err_set(e, EINVAL, "'%s' must be \"allow\" or \"deny\"", member);
    return 0;
}

static int parse_protocol(const json_t *v, uint8_t *ret, struct err *e)
{
    *ret = 0;
    if (!v)
        return 0;
    const char *s = json_string_value(v);
    for (size_t i = 0; s && i < ARRAY_LEN(protocols); i++)
        if (strcmp(s, protocols[i].name) == 0) {
            *ret = protocols[i].number;
            return 0;
        }
    return err_set(e, EINVAL, "'protocol' must be \"tcp\", \"udp\", \"icmp\" or \"any\"");
}

/* Digits only, no sign, no blanks, at most max; returns the first character behind, NULL if none.
 */
static const char *parse_number(const char *s, unsigned max, unsigned *ret)
{
    unsigned v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (unsigned)(*p - '0');
        if (v > max)
            return NULL;
    }
    if (p == s || (*s == '0' && p - s > 1))
        return NULL;
    *ret = v;
    return p;
}

static bool has_host_bits(const struct net_address *a, uint8_t len)
{
    unsigned total = a->v6 ? 128 : 32;
    for (unsigned bit = len; bit < total; bit++)
        if (a->bytes[bit / 8] & (0x80u >> (bit % 8)))
            return true;
    return false;
}

static int parse_cidr(const json_t *v, struct net_rule *r, struct err *e)
{
    const char *s = json_string_value(v);
    char text[INET6_ADDRSTRLEN];
    if (!s)
        return err_set(e, EINVAL, "'cidr' must be a string such as \"10.0.0.0/8\"");
    const char *slash = strchr(s, '/');
    size_t n = slash ? (size_t)(slash - s) : strlen(s);
    if (n >= sizeof text)
        return err_set(e, EINVAL, "'cidr': '%.60s' is not an address", s);
    memcpy(text, s, n);
    text[n] = '\0';
    r->prefix.v6 = strchr(text, ':') != NULL;
    if (inet_pton(r->prefix.v6 ? AF_INET6 : AF_INET, text, r->prefix.bytes) != 1)
        return err_set(e, EINVAL, "'cidr': '%s' is not an address", text);
    unsigned total = r->prefix.v6 ? 128 : 32, len = total;
    if (slash) {
        const char *end = parse_number(slash + 1, total, &len);
        if (!end || *end)
            return err_set(e, EINVAL, "'cidr': '%.60s' has no prefix length of 0-%u", s, total);
    }
    r->prefix_len = (uint8_t)len;
    if (has_host_bits(&r->prefix, r->prefix_len))
        return err_set(e, EINVAL, "'cidr': '%.60s' has bits behind its prefix", s);
    return 0;
}

static int parse_ports(const json_t *v, struct net_rule *r, struct err *e)
{
    r->port_min = 0;
    r->port_max = UINT16_MAX;
    if (!v)
        return 0;
    if (r->protocol == IPPROTO_ICMP)
        return err_set(e, EINVAL, "'ports' has no meaning for icmp");
    const char *s = json_string_value(v);
    unsigned lo, hi;
    const char *p = s ? parse_number(s, UINT16_MAX, &lo) : NULL;
    if (!p)
        return err_set(e, EINVAL, "'ports' must be a string such as \"443\" or \"8000-8100\"");
    hi = lo;
    if (*p == '-')
        p = parse_number(p + 1, UINT16_MAX, &hi);
    if (!p || *p)
        return err_set(e, EINVAL, "'ports': '%.60s' is neither a port nor a range", s);
    if (lo > hi)
        return err_set(e, EINVAL, "'ports': '%.60s' runs backwards", s);
    r->port_min = (uint16_t)lo;
    r->port_max = (uint16_t)hi;
    return 0;
}

static int parse_rule(const json_t *v, struct net_rule *r, struct err *e)
{
    static const char *const members[] = {"action", "cidr", "protocol", "ports", NULL};
    memset(r, 0, sizeof *r);
    if (!json_is_object(v))
        return err_set(e, EINVAL, "must be an object");
    int rc = check_members(v, members, e);
    if (rc == 0)
        rc = parse_action(json_object_get(v, "action"), "action", &r->action, e);
    if (rc == 0)
        rc = parse_cidr(json_object_get(v, "cidr"), r, e);
    if (rc == 0)
        rc = parse_protocol(json_object_get(v, "protocol"), &r->protocol, e);
    if (rc == 0)
        rc = parse_ports(json_object_get(v, "ports"), r, e);
    return rc;
}

static int parse_rules(const json_t *v, struct net_policy *p, struct err *e)
{
    if (!v)
        return 0;
    if (!json_is_array(v))
        return err_set(e, EINVAL, "'rules' must be an array");
    if (json_array_size(v) > NET_POLICY_RULES_MAX)
        return err_set(e, EINVAL, "'rules' has %zu entries, at most %d are allowed",
                       json_array_size(v), NET_POLICY_RULES_MAX);
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (parse_rule(json_array_get(v, i), &p->rules[i], e) < 0)
            return err_wrap(e, "rule %zu", i + 1);
        p->n_rules++;
    }
    return 0;
}

int net_policy_from_json(const json_t *v, struct net_policy *ret, struct err *e)
{
    static const char *const members[] = {"default", "dns", "rules", NULL};
    struct net_policy p;
    net_policy_none(&p);
    if (!json_is_object(v))
        return err_set(e, EINVAL, "egress policy must be a JSON object");
    int rc = check_members(v, members, e);
    if (rc == 0)
        rc = parse_action(json_object_get(v, "default"), "default", &p.default_action, e);
    if (rc == 0 && !json_is_boolean(json_object_get(v, "dns")))
        rc = err_set(e, EINVAL, "'dns' must be true or false");
    if (rc == 0)
        rc = parse_rules(json_object_get(v, "rules"), &p, e);
    if (rc < 0)
        return err_wrap(e, "egress policy");
    p.dns = json_is_true(json_object_get(v, "dns"));
    *ret = p;
    return 0;
}

static const char *protocol_name(uint8_t number)
{
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
        if (protocols[i].number == number)
            return protocols[i].name;
    return "any";
}

static const char *action_name(enum net_action a)
{
    return a == NET_ALLOW ? "allow" : "deny";
}

static json_t *rule_to_json(const struct net_rule *r)
{
    char address[INET6_ADDRSTRLEN], cidr[INET6_ADDRSTRLEN + 8], ports[16];
    inet_ntop(r->prefix.v6 ? AF_INET6 : AF_INET, r->prefix.bytes, address, sizeof address);
    snprintf(cidr, sizeof cidr, "%s/%u", address, r->prefix_len);
    json_t *o = json_pack("{s:s,s:s,s:s}", "action", action_name(r->action), "cidr", cidr,
                          "protocol", protocol_name(r->protocol));
    if (r->port_min != 0 || r->port_max != UINT16_MAX) {
        snprintf(ports, sizeof ports, "%u-%u", r->port_min, r->port_max);
        if (!o || json_object_set_new(o, "ports", json_string(ports)) < 0)
            abort(); /* out of memory, as everywhere JSON is built */
    }
    return o;
}

json_t *net_policy_to_json(const struct net_policy *p)
{
    json_t *rules = json_array();
    for (unsigned i = 0; i < p->n_rules; i++)
        if (json_array_append_new(rules, rule_to_json(&p->rules[i])) < 0)
            abort();
    json_t *v = json_pack("{s:s,s:b,s:o}", "default", action_name(p->default_action), "dns",
                          (int)p->dns, "rules", rules);
    if (!v)
        abort();
    return v;
}
