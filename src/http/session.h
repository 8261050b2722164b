/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the http layer: one connection's protocol, without its I/O. A session turns input bytes
 * into exchanges and the exchanges' answers into output bytes. http/conn.c moves the bytes; tests
 * and fuzzers do so without any socket.
 *
 * The driver calls feed/eof with input, then work() until nothing changes, then takes bytes from
 * out, and acts on state(). User callbacks run inside feed, eof, work, timeout and kill only, so
 * a function of http/server.h never calls back into its caller; it asks for work() with wake().
 */
#ifndef HTTP_SESSION_H
#define HTTP_SESSION_H

#include "http/queue.h"
#include "http/server.h"

#define HTTP_HIGH_MARK ((size_t)256 * 1024)
#define HTTP_LOW_MARK ((size_t)64 * 1024)

enum session_state {
    SESSION_IDLE,   /* no exchange; the header timer runs */
    SESSION_BUSY,   /* an exchange is open */
    SESSION_TUNNEL, /* an upgraded exchange: half-closed is a normal state */
    SESSION_LINGER, /* send what is queued, half-close, discard input for a while, close */
    SESSION_CLOSE,  /* send what is queued, close */
    SESSION_DEAD,   /* close now */
};

struct session;

struct session_vt {
    /* All n bytes are taken (kept inside when they cannot be used yet). */
    void (*feed)(struct session *s, const char *p, size_t n);
    void (*eof)(struct session *s); /* the peer will send nothing more */
    void (*work)(struct session *s);
    bool (*want_read)(const struct session *s);
    enum session_state (*state)(const struct session *s);
    bool (*wants_body)(const struct session *s); /* a request's body is not complete, nor paused */
    void (*timeout)(struct session *s);          /* the header or body timer ran out */
    void (*tick)(struct session *s); /* about twice a second while want_tick; may be NULL */
    void (*kill)(struct session *s); /* the connection is gone: every exchange is closed */
    void (*free)(struct session *s); /* after kill() */
};

struct session_env {
    struct http_handler handler;
    struct http_limits limits;
    struct loop *loop; /* borrowed; only handed on to exchanges */
    struct slice sni;  /* borrowed: lives as long as the session */
    void (*wake)(void *arg);
    void *wake_arg;
};

struct session {
    const struct session_vt *vt;
    struct session_env env;
    struct queue out;
    uint64_t exchanges; /* begun so far: lets the driver see one that came and went */
    uint64_t received;  /* body bytes so far */
    bool want_tick;
    bool shut_write; /* after out is sent, half-close (a finished upgrade) */
};

struct session *h1_session_new(const struct session_env *env); /* NULL = out of memory */
struct session *h2_session_new(const struct session_env *env);

/* What http/server.h's functions act on; embedded in each session's own exchange. */
struct exchange_vt {
    void (*respond)(struct http_exchange *x, int status, const struct http_header *h, size_t n);
    bool (*write)(struct http_exchange *x, const char *p, size_t n);
    void (*end)(struct http_exchange *x, const struct http_header *trailers, size_t n);
    void (*upgrade)(struct http_exchange *x, const struct http_header *h, size_t n);
    void (*pause)(struct http_exchange *x, bool paused);
    void (*abort)(struct http_exchange *x);
};

struct http_exchange {
    const struct exchange_vt *vt;
    struct loop *loop;                   /* borrowed */
    const struct http_exchange_ops *ops; /* borrowed; set by the user */
    void *ctx;
};

#endif
