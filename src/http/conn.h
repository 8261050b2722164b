/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the http layer: one accepted connection and the server's shared state. Loop thread. */
#ifndef HTTP_CONN_H
#define HTTP_CONN_H

#include <uv.h>

#include "http/session.h"
#include "http/tls.h"

struct http_conn;

struct conn_list {
    struct http_conn *first, *last;
};

struct http_server {
    struct loop *loop; /* borrowed */
    uv_loop_t *uv;
    struct http_handler handler;
    struct http_limits limits;
    SSL_CTX *tls; /* borrowed or NULL */
    bool h2;

    int fd; /* listening; owned */
    uint16_t port;
    uv_poll_t listener;
    uv_timer_t retry; /* after descriptors ran out */
    uv_check_t check; /* runs the woken connections after each poll ... */
    uv_idle_t idle;   /* ... and keeps that poll from blocking meanwhile */
    unsigned open_handles;

    struct conn_list conns; /* oldest first */
    struct conn_list woken;
    unsigned n_conns;
    char *scratch; /* owned; one read at a time, shared by all connections */

    bool stopping, closed;
    void (*done)(void *arg);
    void *done_arg;
};

#define CONN_SCRATCH ((size_t)64 * 1024)

struct conn_link {
    struct http_conn *next, *prev;
};

/* Takes fd over. */
void conn_accept(struct http_server *s, int fd);
void conn_run_woken(struct http_server *s);
/* Closes the longest idle connection; false when none is idle. */
bool conn_evict_idle(struct http_server *s);
void conn_close_all(struct http_server *s);

void server_wake(struct http_server *s);      /* run conn_run_woken() soon */
void server_conn_gone(struct http_server *s); /* a connection's memory was freed */

#endif
