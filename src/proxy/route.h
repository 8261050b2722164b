/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request says about where it wants to go: endpoint label, token and port, from the host
 * name, x-aws-proxy-* fields and WebSocket subprotocols (spec: networking §1, §2, §4). Pure.
 */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include "http/server.h"

#define ROUTE_DEFAULT_PORT 8080

struct proxy_route {
    struct slice label; /* first label of the host name, lower or upper case; empty = not ours */
    struct slice token; /* empty = none */
    uint16_t port;      /* 0 = invalid: see port_text */
    struct slice port_text; /* the value that was not a port */
    bool marker;            /* the "lambda-microvms" subprotocol was offered */
    struct buf protocols;   /* the application's own subprotocols, "a, b"; owned */
};

/* Slices point into r, or into *ret. -ENOMEM, -EMSGSIZE. route_done() in any case. */
int route_read(const struct http_request *r, const char *domain,
               struct proxy_route *ret) MUST_CHECK;
void route_done(struct proxy_route *t);

/* "x-aws-proxy-*": ours, never the application's. */
bool route_is_proxy_field(struct slice name);

#endif
