/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP connection into a guest's container for code that may block: agent tunnels (which live on
 * the loop) behind open, send, receive. One thread per connection, never the loop's.
 */
#ifndef TESTS_ENGINE_TCP_H
#define TESTS_ENGINE_TCP_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "proto/agent_client.h"

struct tcp;

/* NULL when nobody listens there or the session is dead. Free with tcp_close(). */
struct tcp *tcp_open(struct loop *l, struct agent *a, uint16_t port);
/* 0, or -EPIPE when the other end has gone. */
int tcp_send(struct tcp *t, const void *p, size_t n) MUST_CHECK;
void tcp_end(struct tcp *t); /* half-close */
/* At least one byte, 0 at the end, or -EPIPE. */
int64_t tcp_receive(struct tcp *t, void *p, size_t cap) MUST_CHECK;
void tcp_close(struct tcp *t); /* NULL is fine */

/* Waits until GET / on that port is answered with 200. 0, or -ETIMEDOUT. */
int tcp_http_ready(struct loop *l, struct agent *a, uint16_t port, int timeout_ms) MUST_CHECK;

#endif
