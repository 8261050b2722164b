/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/route.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define PROTOCOL_MARKER "lambda-microvms"
#define PROTOCOL_TOKEN PROTOCOL_MARKER ".authentication."
#define PROTOCOL_PORT PROTOCOL_MARKER ".port."

/* "<label>.<domain>[:port][.]" -> label; the empty slice for any other name. */
static struct slice label_of(struct slice host, const char *domain)
{
    size_t n = host.n, d = strlen(domain);
    const char *colon = memchr(host.p, ':', n);
    if (colon)
        n = (size_t)(colon - host.p);
    if (n && host.p[n - 1] == '.')
        n--;
    if (n < d + 2 || strncasecmp(host.p + n - d, domain, d) != 0 || host.p[n - d - 1] != '.')
        return (struct slice){0};
    struct slice label = {host.p, n - d - 1};
    if (memchr(label.p, '.', label.n))
        return (struct slice){0};
    return label;
}

static uint16_t port_of(struct slice s)
{
    unsigned v = 0;
    if (!s.n || s.n > 5)
        return 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return 0;
        v = v * 10 + (unsigned)(s.p[i] - '0');
    }
    return v <= 65535 ? (uint16_t)v : 0;
}

static bool has_prefix(struct slice s, const char *prefix, struct slice *rest)
{
    size_t n = strlen(prefix);
    if (s.n < n || memcmp(s.p, prefix, n) != 0)
        return false;
    *rest = (struct slice){s.p + n, s.n - n};
    return true;
}

struct protocols {
    struct slice token, port;
    bool marker, has_port;
};

static int protocol_item(struct slice item, struct protocols *p, struct buf *others)
{
    struct slice rest;
    if (!item.n)
        return 0;
    if (slice_eq(item, PROTOCOL_MARKER)) {
        p->marker = true;
    } else if (has_prefix(item, PROTOCOL_TOKEN, &rest)) {
        if (!p->token.n)
            p->token = rest;
    } else if (has_prefix(item, PROTOCOL_PORT, &rest)) {
        if (!p->has_port)
            p->port = rest;
        p->has_port = true;
    } else {
        int r = others->len ? buf_adds(others, ", ") : 0;
        return r < 0 ? r : buf_add(others, item.p, item.n);
    }
    return 0;
}

static int protocols_read(struct slice list, struct protocols *p, struct buf *others)
{
    for (size_t i = 0; i <= list.n;) {
        size_t end = i;
        while (end < list.n && list.p[end] != ',')
            end++;
        struct slice item = {list.p + i, end - i};
        while (item.n && (*item.p == ' ' || *item.p == '\t'))
            item.p++, item.n--;
        while (item.n && (item.p[item.n - 1] == ' ' || item.p[item.n - 1] == '\t'))
            item.n--;
        int r = protocol_item(item, p, others);
        if (r < 0)
            return r;
        i = end + 1;
    }
    return 0;
}

/* Field, then subprotocol, then the default. */
static void port_choose(struct proxy_route *t, const struct slice *field, const struct protocols *p)
{
    const struct slice *text = field ? field : p->marker && p->has_port ? &p->port : NULL;
    t->port = text ? port_of(*text) : ROUTE_DEFAULT_PORT;
    if (!t->port)
        t->port_text = *text;
}

int route_read(const struct http_request *r, const char *domain, struct proxy_route *ret)
{
    struct protocols p = {0};
    const struct slice *token = NULL, *port = NULL;
    *ret = (struct proxy_route){.label = label_of(r->authority, domain)};
    for (size_t i = 0; i < r->n_headers; i++) {
        const struct http_header *h = &r->headers[i];
        int error = 0;
        if (slice_eq(h->name, "x-aws-proxy-auth") && !token)
            token = &h->value;
        else if (slice_eq(h->name, "x-aws-proxy-port") && !port)
            port = &h->value;
        else if (slice_eq(h->name, "sec-websocket-protocol"))
            error = protocols_read(h->value, &p, &ret->protocols);
        if (error < 0)
            return error;
    }
    ret->marker = p.marker;
    if (token)
        ret->token = *token;
    else if (p.marker && r->upgrade)
        ret->token = p.token;
    port_choose(ret, port, &p);
    /* Both names must be the endpoint's: a connection opened for one microVM carries no request
     * for another. Clients without SNI (addresses, plain tests) have only the one. */
    struct slice sni = r->sni.n ? label_of(r->sni, domain) : ret->label;
    if (sni.n != ret->label.n || (sni.n && strncasecmp(sni.p, ret->label.p, sni.n) != 0))
        ret->label = (struct slice){0};
    return 0;
}

void route_done(struct proxy_route *t)
{
    buf_done(&t->protocols);
}

bool route_is_proxy_field(struct slice name)
{
    static const char prefix[] = "x-aws-proxy-";
    return name.n >= sizeof prefix - 1 && strncasecmp(name.p, prefix, sizeof prefix - 1) == 0;
}
