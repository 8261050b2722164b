/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest end of the channel: an HTTP/2 server session, sans-IO. Bytes go in with session_feed() and
 * come out with session_pull(); each request becomes a stream whose ops the router sets. Everything
 * a peer may send is bounded: streams (WIRE_MAX_STREAMS), unread data (the stream window), header
 * blocks and control floods (nghttp2's own limits).
 */
#ifndef GUEST_SESSION_H
#define GUEST_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

struct session;
struct stream;

/* All but closed are optional. None may free the stream; closed is the last and frees ctx. */
struct stream_ops {
    void (*data)(struct stream *st, const char *p,
                 size_t n);             /* then stream_consume() at some time */
    void (*end)(struct stream *st);     /* the host has sent everything */
    void (*drained)(struct stream *st); /* the output fell below STREAM_OUT_LOW */
    void (*closed)(struct stream *st);
};

#define STREAM_OUT_HIGH (256 * 1024) /* producers pause above this */
#define STREAM_OUT_LOW (64 * 1024)

struct stream {
    struct session *session;
    struct stream *next, **link;
    const struct stream_ops *ops;
    void *ctx;
    int32_t id;
    char method[16], path[128], authority[64];
    struct buf body; /* for the router's use; freed with the stream */
    struct buf out;
    bool answered, out_end, waiting, was_full;
};

/* Called when a request's headers are complete; must set st->ops or answer. app is session_new()'s.
 */
typedef void session_router(struct stream *st, void *app);

int session_new(session_router *router, void *app, struct session **ret) MUST_CHECK;
void session_free(struct session *s); /* every stream's closed() runs; NULL is fine */
/* -EPROTO: the session is over; what session_pull() still gives explains it to the peer. */
int session_feed(struct session *s, const char *p, size_t n) MUST_CHECK;
/* Appends what is to be sent while out is shorter than max. */
int session_pull(struct session *s, struct buf *out, size_t max) MUST_CHECK;
bool session_has_output(const struct session *s); /* something happened since the last full pull */

void stream_answer(struct stream *st, int status); /* headers; then stream_send()... */
void stream_send(struct stream *st, const void *p, size_t n);
void stream_send_end(struct stream *st);
void stream_reset(struct stream *st);
void stream_consume(struct stream *st, size_t n);
bool stream_is_full(const struct stream *st);
/* Whole answers. stream_json() takes the reference. */
void stream_json(struct stream *st, int status, json_t *body);
void stream_error(struct stream *st, int status, const char *fmt, ...) PRINTF(3, 4);
/* One frame of proto/wire.h. */
void stream_frame(struct stream *st, int type, const void *p, size_t n);
void stream_frame_json(struct stream *st, int type, json_t *v); /* takes the reference */
/* ERROR frame and the end of the stream. */
void stream_frame_error(struct stream *st, const char *code, const char *text);

#endif
