/* SPDX-License-Identifier: Apache-2.0 */
/* A real server on its own loop thread, for tests that drive it with real clients. */
#ifndef TESTS_HTTP_RIG_H
#define TESTS_HTTP_RIG_H

#include <pthread.h>

#include "base/buf.h"
#include "http/server.h"

struct rig {
    struct loop *loop;
    pthread_t thread;
    struct http_server *server;
    SSL_CTX *tls;
    uint16_t port;
    char dir[64]; /* temporary; holds cert.pem and key.pem when TLS is on */
    /* Called on the loop when the server has stopped; NULL = stop the loop. */
    void (*stopped)(void *arg);
    void *arg;
};

/* rig_start() in two steps, for handlers that need the loop. */
void rig_init(struct rig *r, bool tls);
void rig_run(struct rig *r, struct http_handler h, const struct http_limits *l, bool h2);

void rig_start(struct rig *r, struct http_handler h, const struct http_limits *l, bool tls,
               bool h2);
void rig_stop(struct rig *r);

/* Runs a shell command with "PORT" and "DIR" replaced; its stdout (NUL-terminated) in out.
 * Returns the exit status. */
int rig_sh(const struct rig *r, struct buf *out, const char *command);

int rig_connect(const struct rig *r); /* a raw TCP connection */
void rig_send(int fd, const char *text);
/* Reads until end of stream, or until the text has been seen. */
void rig_read(int fd, struct buf *out, const char *until);

#endif
