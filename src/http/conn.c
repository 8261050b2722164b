/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: moves bytes between a socket and a session (http/session.h).
 *
 * A connection runs (conn_run) when its socket is ready, when a timer fires, and when a user's call
 * woke it. Woken connections run together after the poll phase of the loop, so that everything a
 * user says within one iteration leaves in one write.
 *
 * Life: handshake (TLS) -> detect (plain with h2: are the first bytes the preface?) -> session ->
 * flush -> linger -> freed. One timer serves the phases in turn, see enum timer_kind.
 *
 * No time limit applies to a peer that reads its answer slowly: the memory it holds is bounded,
 * and a download paused by a person is legitimate. Dead peers are found by TCP keep-alive.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/conn.h"

#define LINGER_MS                                                                                 \
    2000               /* for the FIN after the last response; then we stop listening to the peer \
                        */
#define STALL_MS 60000 /* without progress while flushing a last response */
#define GRACE_MS 5000  /* for an answer to a peer that half-closed: it may as well be gone */
#define TICK_MS 500
#define BODY_PROGRESS 4096 /* bytes; a body that brings fewer in body_timeout_ms has stalled */
#define READS_PER_RUN 16
#define TURNS_PER_RUN 8

enum timer_kind {
    TIMER_NONE,
    TIMER_HEADER,
    TIMER_BODY,
    TIMER_GRACE,
    TIMER_TICK,
    TIMER_STALL,
    TIMER_LINGER
};

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_LEN (sizeof preface - 1)

struct http_conn {
    struct http_server *server; /* borrowed: outlives its connections */
    struct conn_link all, wakes;
    struct transport t;
    uv_poll_t poll;
    uv_timer_t timer;
    enum timer_kind timer_kind;
    uint64_t timer_exchanges; /* session's count when the header timer was started */
    size_t timer_out;         /* bytes waiting when the stall timer was started */
    uint64_t timer_received;  /* session's count when the body timer was started */
    struct session *session;  /* owned; NULL until the protocol is known */
    char first[PREFACE_LEN];
    size_t first_n;
    int events;
    unsigned open_handles;
    bool running, woken, again, eof, gone;
};

/* ---- lists ---- */

#define LIST_ADD(list, c, link)                                            \
    do {                                                                   \
        (c)->link.prev = (list)->last;                                     \
        (c)->link.next = NULL;                                             \
        *((list)->last ? &(list)->last->link.next : &(list)->first) = (c); \
        (list)->last = (c);                                                \
    } while (0)

#define LIST_REMOVE(list, c, link)                                                        \
    do {                                                                                  \
        *((c)->link.prev ? &(c)->link.prev->link.next : &(list)->first) = (c)->link.next; \
        *((c)->link.next ? &(c)->link.next->link.prev : &(list)->last) = (c)->link.prev;  \
    } while (0)

static void conn_wake(void *arg)
{
    struct http_conn *c = arg;
    c->again = true;
    if (c->running || c->woken || c->gone)
        return;
    c->woken = true;
    LIST_ADD(&c->server->woken, c, wakes);
    server_wake(c->server);
}

/* ---- end of life ---- */

static void on_handle_closed(uv_handle_t *h)
{
    struct http_conn *c = h->data;
    if (--c->open_handles)
        return;
    struct http_server *s = c->server;
    free(c);
    server_conn_gone(s);
}

static void conn_destroy(struct http_conn *c)
{
    if (c->gone)
        return;
    c->gone = true;
    if (c->session) {
        c->session->vt->kill(c->session);
        c->session->vt->free(c->session);
        c->session = NULL;
    }
    if (c->woken)
        LIST_REMOVE(&c->server->woken, c, wakes);
    LIST_REMOVE(&c->server->conns, c, all);
    uv_close((uv_handle_t *)&c->poll, on_handle_closed); /* stops polling: the fd may go now */
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    transport_done(&c->t);
}

/* ---- timer ---- */

static void conn_run(struct http_conn *c);

static void on_timer(uv_timer_t *timer)
{
    struct http_conn *c = timer->data;
    enum timer_kind kind = c->timer_kind;
    c->timer_kind = TIMER_NONE;
    if (!c->session || (kind != TIMER_HEADER && kind != TIMER_BODY && kind != TIMER_TICK)) {
        conn_destroy(c);
        return;
    }
    if (kind == TIMER_TICK)
        c->session->vt->tick(c->session);
    else
        c->session->vt->timeout(c->session);
    conn_run(c);
}

static void timer_set(struct http_conn *c, enum timer_kind kind, uint64_t ms)
{
    c->timer_kind = kind;
    if (kind == TIMER_NONE)
        uv_timer_stop(&c->timer);
    else
        uv_timer_start(&c->timer, on_timer, ms, 0);
}

/* Whether the body timer applies; it starts again as the body makes progress. */
static bool body_timed(struct http_conn *c, bool *restart)
{
    if (!c->server->limits.body_timeout_ms || !c->session->vt->wants_body(c->session))
        return false;
    *restart =
        c->timer_kind != TIMER_BODY || c->session->received - c->timer_received >= BODY_PROGRESS;
    if (*restart)
        c->timer_received = c->session->received;
    return true;
}

static void timer_update(struct http_conn *c, enum session_state state)
{
    uint64_t exchanges = c->session ? c->session->exchanges : 0;
    size_t out = (c->session ? c->session->out.len : 0) + c->t.wire.len;
    enum timer_kind want = TIMER_NONE;
    uint64_t ms = 0;
    bool restart = false;
    if (state == SESSION_IDLE) {
        want = TIMER_HEADER, ms = c->server->limits.header_timeout_ms;
        restart = exchanges != c->timer_exchanges;
    } else if (state == SESSION_BUSY && c->eof) {
        want = TIMER_GRACE, ms = GRACE_MS;
    } else if (state == SESSION_BUSY && c->session->want_tick) {
        want = TIMER_TICK, ms = TICK_MS;
    } else if (state == SESSION_BUSY && body_timed(c, &restart)) {
        want = TIMER_BODY, ms = c->server->limits.body_timeout_ms;
    } else if (state >= SESSION_LINGER && out) {
        want = TIMER_STALL, ms = STALL_MS;
        restart = out < c->timer_out;
    } else if (state >= SESSION_LINGER) {
        want = TIMER_LINGER, ms = LINGER_MS;
    }
    c->timer_exchanges = exchanges;
    c->timer_out = out;
    if (want != c->timer_kind || restart)
        timer_set(c, want, ms);
}

/* ---- protocol ---- */

/* Makes the session and hands it what was read while finding out which one. */
static int conn_start(struct http_conn *c, bool h2)
{
    struct session_env env = {.handler = c->server->handler,
                              .limits = c->server->limits,
                              .loop = c->server->loop,
                              .sni = transport_sni(&c->t),
                              .wake = conn_wake,
                              .wake_arg = c};
    c->session = h2 ? h2_session_new(&env) : h1_session_new(&env);
    if (!c->session)
        return -ENOMEM;
    if (c->first_n)
        c->session->vt->feed(c->session, c->first, c->first_n);
    return 0;
}

static int conn_detect(struct http_conn *c, const char *p, size_t n)
{
    size_t take = PREFACE_LEN - c->first_n;
    if (take > n)
        take = n;
    memcpy(c->first + c->first_n, p, take);
    c->first_n += take;
    bool same = memcmp(c->first, preface, c->first_n) == 0;
    if (same && c->first_n < PREFACE_LEN)
        return 0;
    int r = conn_start(c, same);
    if (r == 0 && take < n)
        c->session->vt->feed(c->session, p + take, n - take);
    return r;
}

static int conn_handshake(struct http_conn *c)
{
    int r = transport_handshake(&c->t);
    if (r < 0)
        return r;
    if (c->session || c->first_n)
        return 0;
    if (c->server->tls)
        return conn_start(c, transport_is_h2(&c->t));
    return c->server->h2 ? 0 : conn_start(c, false);
}

/* ---- I/O ---- */

static bool conn_may_read(const struct http_conn *c)
{
    if (c->eof)
        return false;
    if (!c->session)
        return true;
    return c->session->vt->state(c->session) >= SESSION_LINGER ||
           c->session->vt->want_read(c->session);
}

static int conn_take(struct http_conn *c, const char *p, size_t n)
{
    if (!c->session)
        return conn_detect(c, p, n);
    if (c->session->vt->state(c->session) < SESSION_LINGER)
        c->session->vt->feed(c->session, p, n);
    return 0; /* a closing session's input is read and dropped */
}

/* -EAGAIN: the socket is empty; 0: there may be more. */
static int conn_read(struct http_conn *c)
{
    for (unsigned i = 0; i < READS_PER_RUN && conn_may_read(c); i++) {
        ssize_t n = transport_read(&c->t, c->server->scratch, CONN_SCRATCH);
        if (n < 0)
            return (int)n;
        if (n == 0) {
            c->eof = true;
            if (!c->session)
                return -ECONNRESET;
            c->session->vt->eof(c->session);
            return -EAGAIN;
        }
        int r = conn_take(c, c->server->scratch, (size_t)n);
        if (r < 0)
            return r;
        if (!c->t.ssl && (size_t)n < CONN_SCRATCH)
            return -EAGAIN;
    }
    return 0;
}

/* Bytes written, 0 when the socket is full or nothing waits, -errno. */
static ssize_t conn_flush(struct http_conn *c)
{
    struct queue *out = &c->session->out;
    size_t total = 0;
    while (out->len) {
        ssize_t n = transport_write(&c->t, queue_head(out), out->len);
        if (n == -EAGAIN)
            break;
        if (n < 0)
            return n;
        queue_consume(out, (size_t)n);
        total += (size_t)n;
    }
    bool full = c->t.want_write;
    int r = transport_flush(&c->t);
    c->t.want_write |= full;
    return r < 0 && r != -EAGAIN ? r : (ssize_t)total;
}

/* Nothing is left to send, neither in the session nor in the transport. */
static bool conn_flushed(const struct http_conn *c)
{
    return (!c->session || !c->session->out.len) && !c->t.wire.len;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void events_update(struct http_conn *c)
{
    int want = 0;
    bool out = !conn_flushed(c);
    if (conn_may_read(c) || !c->t.ready)
        want |= UV_READABLE;
    if (out || c->t.want_write)
        want |= UV_WRITABLE;
    if (want == c->events)
        return;
    c->events = want;
    if (!want)
        uv_poll_stop(&c->poll);
    else if (uv_poll_start(&c->poll, want, on_poll) < 0)
        conn_destroy(c);
}

/* Lets the session and the socket act on each other until neither moves. */
static int conn_turns(struct http_conn *c)
{
    for (unsigned turn = 0; turn < TURNS_PER_RUN; turn++) {
        int r = conn_handshake(c);
        if (r < 0)
            return r == -EAGAIN ? 0 : r;
        c->again = false;
        r = conn_read(c);
        if (r < 0 && r != -EAGAIN)
            return r;
        bool more_input = r == 0 && conn_may_read(c);
        if (!c->session)
            return 0;
        c->session->vt->work(c->session);
        ssize_t wrote = conn_flush(c);
        if (wrote < 0)
            return (int)wrote;
        if (!wrote && !c->again && !more_input)
            return 0;
    }
    c->again = true; /* others first */
    return 0;
}

static void conn_run(struct http_conn *c)
{
    if (c->gone || c->running)
        return;
    c->running = true;
    int r = conn_turns(c);
    c->running = false;
    enum session_state state = c->session ? c->session->vt->state(c->session) : SESSION_IDLE;
    bool flushed = conn_flushed(c);
    if (r < 0 || state == SESSION_DEAD || (state == SESSION_CLOSE && flushed) ||
        (state == SESSION_LINGER && flushed && c->eof)) {
        conn_destroy(c);
        return;
    }
    if (flushed && (state == SESSION_LINGER || (c->session && c->session->shut_write)))
        transport_end(&c->t);
    if (state == SESSION_IDLE && c->session) {
        queue_trim(&c->session->out);
        queue_trim(&c->t.wire);
    }
    timer_update(c, state);
    events_update(c);
    if (c->again && !c->gone)
        conn_wake(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct http_conn *c = poll->data;
    (void)events;
    if (status < 0)
        conn_destroy(c);
    else
        conn_run(c);
}

/* ---- what the server calls ---- */

static void socket_options(int fd)
{
    int one = 1, idle = 60, interval = 15, count = 4;
    /* None of these can fail on a TCP socket in a way that matters. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

void conn_accept(struct http_server *s, int fd)
{
    struct http_conn *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return;
    }
    socket_options(fd);
    c->server = s;
    if (transport_init(&c->t, fd, s->tls) < 0) {
        free(c);
        return;
    }
    c->poll.data = c->timer.data = c;
    if (uv_poll_init(s->uv, &c->poll, fd) < 0) {
        transport_done(&c->t);
        free(c);
        return;
    }
    uv_timer_init(s->uv, &c->timer);
    c->open_handles = 2;
    LIST_ADD(&s->conns, c, all);
    s->n_conns++;
    conn_run(c); /* data is often there already */
}

void conn_run_woken(struct http_server *s)
{
    struct http_conn *last = s->woken.last;
    while (s->woken.first) {
        struct http_conn *c = s->woken.first;
        LIST_REMOVE(&s->woken, c, wakes);
        c->woken = false;
        bool done = c == last; /* those woken from now on wait for the next iteration */
        conn_run(c);
        if (done)
            return;
    }
}

bool conn_evict_idle(struct http_server *s)
{
    for (struct http_conn *c = s->conns.first; c; c = c->all.next) {
        if (c->session && c->session->vt->state(c->session) != SESSION_IDLE)
            continue;
        conn_destroy(c);
        return true;
    }
    return false;
}

void conn_close_all(struct http_server *s)
{
    while (s->conns.first)
        conn_destroy(s->conns.first);
}
