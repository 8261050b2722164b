/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoint proxy: takes requests for https://<label>.<domain>, checks their token and sends
 * them through a tunnel to a port in the microVM (spec: networking §1-§5). Loop thread throughout.
 *
 * Use: proxy_new() -> http_server_start() with proxy_handler() -> ... -> http_server_stop(), wait
 * -> proxy_stop(), wait -> (freed).
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "http/server.h"
#include "proto/agent_client.h"

struct proxy;

enum proxy_verdict {
    PROXY_ALLOWED,
    PROXY_TOKEN_MISSING, /* none, or nothing that looks like a token */
    PROXY_TOKEN_REFUSED, /* another microVM's, expired, or not made by us */
    PROXY_PORT_DENIED,
    PROXY_NOT_FOR_HTTP, /* a shell token */
};

/* What the proxy needs of the layers below; tests bring their own. vm is the backend's. */
struct proxy_backend {
    void *arg;
    void *(*find)(void *arg, struct slice label); /* a reference, or NULL */
    void (*ref)(void *vm);
    void (*unref)(void *vm);
    /* vm may be NULL (unknown host): then never PROXY_ALLOWED. */
    enum proxy_verdict (*authorize)(void *arg, void *vm, struct slice token, uint16_t port);
    /* fn exactly once, now or later, on the loop: a borrowed session, or NULL when the machine
     * cannot be reached (terminated, suspended for good, resume failed). */
    void (*connect)(void *arg, void *vm, void (*fn)(struct agent *a, void *ctx), void *ctx);
    void (*activity)(void *vm); /* bytes crossed; called at most a few times a second per request */

    /* agent_tunnel_*() (proto/agent_client.h), or a test's own */
    struct agent_tunnel *(*tunnel_open)(struct agent *a, uint16_t port,
                                        const struct agent_tunnel_ops *ops, void *ctx);
    bool (*tunnel_write)(struct agent_tunnel *t, const char *p, size_t n);
    void (*tunnel_end)(struct agent_tunnel *t);
    void (*tunnel_pause)(struct agent_tunnel *t);
    void (*tunnel_resume)(struct agent_tunnel *t);
    void (*tunnel_abort)(struct agent_tunnel *t);
};

struct proxy_config {
    struct loop *loop;
    struct proxy_backend backend; /* copied */
    const char *domain;           /* copied */
};

int proxy_new(const struct proxy_config *c, struct proxy **ret, struct err *e) MUST_CHECK;
struct http_handler proxy_handler(struct proxy *p);
/* After the servers that use it have stopped: drops kept connections, waits for what is still
 * closing, frees p and calls done(arg). */
void proxy_stop(struct proxy *p, void (*done)(void *arg), void *arg);

#endif
