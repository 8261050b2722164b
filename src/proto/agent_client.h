/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host end of one guest channel: an HTTP/2 client session over a connected stream descriptor.
 * Everything the guest sends is hostile: frames, headers, sizes and JSON are bounded, and a broken
 * session ends in an error on every stream, never in a crash or unbounded memory.
 *
 * Threads: the session lives on the loop thread. Functions marked [loop] are for that thread;
 * functions marked [block] are for any other thread and wait. Reference counted: every open
 * stream, tunnel and waiting call holds a reference. The process must ignore SIGPIPE. The loop must
 * run until every agent was closed and unreferenced.
 */
#ifndef PROTO_AGENT_CLIENT_H
#define PROTO_AGENT_CLIENT_H

#include "base/json.h"
#include "base/loop.h"

struct agent;
struct agent_stream;
struct agent_tunnel;

/* Takes ownership of fd (a connected AF_UNIX stream). Returns after the agent answered the HTTP/2
 * SETTINGS exchange, or -ETIMEDOUT. [block] */
int agent_open(struct loop *l, int fd, int timeout_ms, struct agent **ret,
               struct err *e) MUST_CHECK;
/* Ends the session: all streams fail, the descriptor is closed before this returns. [block] */
void agent_close(struct agent *a);
struct agent *agent_ref(struct agent *a);
void agent_unref(struct agent *a); /* any thread; NULL is fine */
/* True once the session is dead (peer gone, protocol error, closed). Any thread. */
bool agent_is_dead(const struct agent *a);

/* One JSON request. *ret (new reference, may be NULL when the body is empty). A status other than
 * 200 is an error carrying the agent's message: 400 -EINVAL, 404 -ENOENT, 409 -EBUSY, else -EIO.
 * timeout_ms < 0 = none. -ETIMEDOUT, -EPIPE when the session died. [block] */
int agent_call(struct agent *a, const char *method, const char *path, const json_t *body,
               int timeout_ms, json_t **ret, struct err *e) MUST_CHECK;

/* A stream of frames (proto/wire.h). Unread input is bounded by the stream window. [block] */
int agent_stream_open(struct agent *a, const char *method, const char *path,
                      struct agent_stream **ret, struct err *e) MUST_CHECK;
int agent_stream_send(struct agent_stream *s, int type, const void *p, size_t n,
                      struct err *e) MUST_CHECK;
int agent_stream_send_end(struct agent_stream *s, struct err *e) MUST_CHECK;
/* True when the next send will not wait for the guest to read. */
bool agent_stream_room(struct agent_stream *s);
/* Next frame into *payload (cleared first). Returns the frame type, 0 at the end of the stream,
 * -ETIMEDOUT, -EPIPE, -EPROTO. */
int agent_stream_next(struct agent_stream *s, struct buf *payload, int timeout_ms,
                      struct err *e) MUST_CHECK;
void agent_stream_free(struct agent_stream *s); /* resets the stream if it is still open */

struct agent_exec_result {
    int exit_code;
    int signal; /* 0 unless killed by one */
};
/* Runs one command to its end on WIRE_EXEC or WIRE_BUILD_RUN, handing output over as it comes.
 * on_output runs on the calling thread; fd is 1 or 2. -ETIMEDOUT after timeout_ms in all. [block]
 */
int agent_exec(struct agent *a, const char *path, const json_t *spec, int timeout_ms,
               void (*on_output)(int fd, const char *p, size_t n, void *arg), void *arg,
               struct agent_exec_result *ret, struct err *e) MUST_CHECK;

/* A TCP tunnel to a port in the guest. [loop] Callbacks on the loop; on_close exactly once, after
 * which the tunnel is freed; agent_tunnel_abort() also leads to on_close (later, not inside). */
struct agent_tunnel_ops {
    void (*on_open)(struct agent_tunnel *t, int status,
                    void *ctx); /* 200, 503 refused, 0 session died */
    void (*on_data)(struct agent_tunnel *t, const char *p, size_t n, void *ctx);
    void (*on_end)(struct agent_tunnel *t, void *ctx); /* guest half-closed */
    void (*on_writable)(struct agent_tunnel *t,
                        void *ctx); /* after agent_tunnel_write() gave false */
    void (*on_close)(struct agent_tunnel *t, void *ctx);
};
struct agent_tunnel *agent_tunnel_open(struct agent *a, uint16_t port,
                                       const struct agent_tunnel_ops *ops, void *ctx);
bool agent_tunnel_write(struct agent_tunnel *t, const char *p, size_t n); /* copies; false = full */
void agent_tunnel_end(struct agent_tunnel *t);   /* half-close towards the guest */
void agent_tunnel_pause(struct agent_tunnel *t); /* stop on_data; the window closes */
void agent_tunnel_resume(struct agent_tunnel *t);
void agent_tunnel_abort(struct agent_tunnel *t);

#endif
