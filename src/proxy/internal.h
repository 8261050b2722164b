/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the proxy: requests on their way and connections to applications. Loop thread. */
#ifndef PROXY_INTERNAL_H
#define PROXY_INTERNAL_H

#include "base/clock.h"
#include "proxy/forward.h"
#include "proxy/proxy.h"

/* Values of x-aws-proxy-error (spec: networking §3; the first three are AWS's own). */
#define CODE_UNAUTHORIZED "UNAUTHORIZED"
#define CODE_APP "APP_CONNECT_FAILED"
#define CODE_MICROVM "MICROVM_CONNECT_FAILED"
#define CODE_PORT_DENIED "PORT_ACCESS_DENIED"
#define CODE_BAD_PORT "INVALID_PORT"
#define CODE_BAD_RESPONSE "APP_RESPONSE_INVALID"
#define CODE_INTERNAL "INTERNAL_ERROR"

struct upstream;

struct proxy {
    struct loop *loop; /* borrowed */
    struct proxy_backend b;
    char domain[256];
    struct upstream *upstreams; /* all of them */
    unsigned n_live;            /* requests and upstreams */
    uv_timer_t reaper;
    bool stopping, closed;
    void (*done)(void *arg);
    void *done_arg;
};

/* One exchange of a client. Freed when the exchange is closed and no connect is pending. */
struct request {
    struct proxy *p;
    struct http_exchange *x; /* NULL once closed */
    void *vm;                /* a reference */
    uint16_t port;
    char id[UUID_LEN + 1];
    struct queue head;         /* serialised, until the response begins (for a retry) */
    struct h1_framing framing; /* of the body towards the application */
    struct upstream *up;       /* NULL before and after */
    int64_t activity_ms;
    bool head_only, upgrade, marker, repeatable;
    bool connecting; /* the backend owes us a call */
    bool retried;
    bool sent_all;       /* the whole request has gone to the application */
    bool responded, raw; /* response head sent; 101 */
    bool ended;          /* response (or the application's side of a raw stream) complete */
    bool client_blocked; /* the client's queue is full: do not parse more of the response */
};

void request_connect(struct request *q);                /* ask the backend for a session */
void request_send(struct request *q);                   /* its upstream is open */
void request_fail(struct request *q, const char *code); /* 502, or cut the response */
void request_activity(struct request *q);

/* A tunnel to a port, with the parser of what comes back. */
struct upstream {
    struct upstream *next, **prev;
    struct proxy *p;
    void *vm; /* a reference */
    uint16_t port;
    struct agent_tunnel *tunnel; /* NULL once closed */
    struct h1_response *codec;   /* owned */
    struct request *q;           /* NULL while idle or abandoned */
    struct queue in;             /* received while the client is slow */
    bool open, idle, reused, paused, peer_ended, raw;
    int64_t since_ms; /* idle since, or request sent at */
};

/* An idle connection to the request's port, or a new tunnel through a (which may be NULL: only an
 * idle one will do). Sets q->up and calls request_send() now or later. -ENOENT, -ENOMEM. */
int upstream_get(struct request *q, struct agent *a) MUST_CHECK;
void upstream_abandon(struct upstream *up); /* drops the connection; the request is detached */
bool upstream_write(struct upstream *up, const char *p, size_t n);
void upstream_end(struct upstream *up);  /* half-close of a raw stream */
void upstream_pump(struct upstream *up); /* the client takes more again */
void upstream_reap(struct proxy *p, bool all);

/* What the response parser reports (arg = upstream); in request.c. */
extern const struct h1_response_ops request_response_ops;
/* Bytes of a raw stream, and its end. */
void request_raw(struct request *q, const char *p, size_t n);
void request_raw_end(struct request *q);

void proxy_gone(struct proxy *p); /* one request or upstream less */

#endif
