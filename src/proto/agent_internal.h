/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the agent client: the session (agent_session.c) and the streams on it (agent_call.c,
 * agent_stream.c, agent_tunnel.c). Everything here runs on the loop thread unless it says "any".
 */
#ifndef PROTO_AGENT_INTERNAL_H
#define PROTO_AGENT_INTERNAL_H

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "proto/agent_client.h"
#include "proto/sync.h"
#include "proto/wire.h"

struct h2s;

/* What a kind of stream does. None of these may free the stream but closed(), which is the last. */
struct h2s_ops {
    void (*status)(struct h2s *s, int status);
    /* The kind calls h2s_consume() once it has dealt with the bytes. */
    void (*data)(struct h2s *s, const char *p, size_t n);
    void (*end)(struct h2s *s);     /* the guest has sent everything */
    void (*drained)(struct h2s *s); /* out went below the low mark */
    /* code: 0 ended in order, else an errno; the session is gone when dead. */
    void (*closed)(struct h2s *s, int code, bool dead);
};

/* Base of every stream. Loop thread only. */
struct h2s {
    struct agent *a; /* holds a reference from h2s_start() to closed() */
    const struct h2s_ops *ops;
    struct h2s *next, **link; /* in a->streams while open */
    int32_t id;
    bool open;
    struct buf out; /* bytes the guest has not been sent yet */
    bool out_end;   /* END_STREAM after out */
    bool waiting;   /* the data source said "deferred" */
    bool was_full;  /* tell drained() */
};

#define H2S_OUT_HIGH (256 * 1024)
#define H2S_OUT_LOW (64 * 1024)

struct agent {
    struct loop *loop;
    atomic_uint refs; /* users: streams, calls, the opener */
    atomic_uint mem;  /* 1 for users + one per libuv handle still open: frees the memory */
    atomic_bool dead;

    uv_pipe_t pipe;
    uv_prepare_t prepare; /* sends what the callbacks of one loop round produced */
    uv_timer_t retry;
    bool closing;
    bool ready;    /* hello answered, HTTP/2 runs */
    bool settings; /* the guest's SETTINGS came */
    struct sync_host sync;
    unsigned retries;
    nghttp2_session *h2;
    struct h2s *streams;
    bool dirty;
    struct buf out; /* bytes in the running uv_write */
    uv_write_t write;
    bool writing;
    char in[65536];

    pthread_mutex_t lock; /* guards open_state, why, and the waiting halves of streams */
    pthread_cond_t open_cond;
    int open_state; /* 0 waiting, 1 open, <0 failed */
    struct err why;
};

#define AGENT_HEADERS_MAX 4

/* Submits a request. authority is for CONNECT, which has no path. False when the session is dead:
 * then closed() was not and will not be called. */
bool h2s_start(struct h2s *s, struct agent *a, const struct h2s_ops *ops, const char *method,
               const char *path, const char *authority, bool has_body);
/* Appends to what is sent; false when memory is out (the stream is reset then). */
bool h2s_send(struct h2s *s, const void *p, size_t n);
void h2s_send_end(struct h2s *s);
void h2s_reset(struct h2s *s); /* closed() follows later */
void h2s_consume(struct h2s *s, size_t n);

/* Condition variable on CLOCK_MONOTONIC, and waiting until deadline_ms (clock_mono_ms; <0 never).
 */
void cond_init(pthread_cond_t *c);
int cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_ms) MUST_CHECK;
int64_t deadline_after(int timeout_ms);

/* The text and code of a dead session. Any thread, lock not held. */
int agent_dead_err(struct agent *a, struct err *e);
/* Turns an answer that is not 200 into an error. Any thread. */
int agent_status_err(int status, const struct buf *body, struct err *e);

#endif
