/* SPDX-License-Identifier: Apache-2.0 */
/* Frame streams with a blocking face (exec, logs, builds) and agent_exec() on top of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/agent_internal.h"
#include "proto/frame.h"

#define QUEUED_MAX H2S_OUT_HIGH
#define CONSUME_STEP (32 * 1024)

struct piece {
    struct piece *next;
    bool end; /* the last one */
    size_t n;
    char data[];
};

/* Two owners: the user's thread and the loop (until the HTTP/2 stream has closed). */
struct agent_stream {
    struct h2s s;
    struct agent *a; /* a reference */
    atomic_uint owners;
    const char *method;
    char path[128];
    pthread_cond_t cond; /* a reader and a writer may both wait: always broadcast */
    /* loop thread only */
    size_t in_out; /* bytes of `queued` that h2s has taken over and not sent yet */
    /* guarded by a->lock: */
    struct piece *first, **last; /* to be sent */
    size_t queued;               /* bytes handed in and not sent yet */
    bool flush_posted;
    bool ended_by_us;
    struct frame_reader in;
    struct buf body; /* of an answer that is not 200 */
    int status;
    bool ended; /* the guest has sent everything */
    bool closed;
    int code; /* errno of closed */
    bool dead;
    size_t unread;    /* handed to the user, window not given back yet */
    size_t give_back; /* the loop's share of that */
    /* the user's thread only */
    struct buf enc;
};

static void stream_drop(struct agent_stream *st)
{
    if (atomic_fetch_sub(&st->owners, 1) != 1)
        return;
    struct agent *a = st->a;
    while (st->first) {
        struct piece *p = st->first;
        st->first = p->next;
        free(p);
    }
    frame_reader_done(&st->in);
    buf_done(&st->body);
    buf_done(&st->enc);
    pthread_cond_destroy(&st->cond);
    free(st);
    agent_unref(a);
}

static void on_status(struct h2s *s, int status)
{
    struct agent_stream *st = CONTAINER_OF(s, struct agent_stream, s);
    pthread_mutex_lock(&st->a->lock);
    st->status = status;
    pthread_cond_broadcast(&st->cond);
    pthread_mutex_unlock(&st->a->lock);
}

static void on_data(struct h2s *s, const char *p, size_t n)
{
    struct agent_stream *st = CONTAINER_OF(s, struct agent_stream, s);
    int r;
    pthread_mutex_lock(&st->a->lock);
    if (st->status == 200) {
        r = frame_reader_add(&st->in, p, n);
    } else {
        r = buf_add(&st->body, p, n);
        h2s_consume(s, n);
    }
    pthread_cond_broadcast(&st->cond);
    pthread_mutex_unlock(&st->a->lock);
    if (r < 0)
        h2s_reset(s);
}

static void on_end(struct h2s *s)
{
    struct agent_stream *st = CONTAINER_OF(s, struct agent_stream, s);
    pthread_mutex_lock(&st->a->lock);
    st->ended = true;
    pthread_cond_broadcast(&st->cond);
    pthread_mutex_unlock(&st->a->lock);
}

/* Bytes nghttp2 has taken leave the user's quota. */
static void settle_sent(struct agent_stream *st)
{
    pthread_mutex_lock(&st->a->lock);
    st->queued -= st->in_out - st->s.out.len;
    st->in_out = st->s.out.len;
    pthread_cond_broadcast(&st->cond);
    pthread_mutex_unlock(&st->a->lock);
}

static void on_drained(struct h2s *s)
{
    settle_sent(CONTAINER_OF(s, struct agent_stream, s));
}

static void on_closed(struct h2s *s, int code, bool dead)
{
    struct agent_stream *st = CONTAINER_OF(s, struct agent_stream, s);
    pthread_mutex_lock(&st->a->lock);
    st->closed = true;
    st->code = code;
    st->dead = dead;
    pthread_cond_broadcast(&st->cond);
    pthread_mutex_unlock(&st->a->lock);
    stream_drop(st);
}

static const struct h2s_ops STREAM_OPS = {
    .status = on_status,
    .data = on_data,
    .end = on_end,
    .drained = on_drained,
    .closed = on_closed,
};

static void begin(void *arg)
{
    struct agent_stream *st = arg;
    if (!h2s_start(&st->s, st->a, &STREAM_OPS, st->method, st->path, NULL,
                   strcmp(st->method, "GET") != 0))
        on_closed(&st->s, EPIPE, true);
}

int agent_stream_open(struct agent *a, const char *method, const char *path,
                      struct agent_stream **ret, struct err *e)
{
    if (strlen(path) >= sizeof((struct agent_stream *)0)->path)
        return err_set(e, EINVAL, "bad request path");
    if (agent_is_dead(a))
        return agent_dead_err(a, e);
    struct agent_stream *st = calloc(1, sizeof *st);
    if (!st)
        return err_set(e, ENOMEM, "out of memory");
    st->a = agent_ref(a);
    atomic_init(&st->owners, 2);
    st->method = strcmp(method, "GET") == 0 ? "GET" : "POST";
    memcpy(st->path, path, strlen(path) + 1);
    st->last = &st->first;
    st->body.max = WIRE_MAX_JSON;
    cond_init(&st->cond);
    loop_post(a->loop, begin, st);
    *ret = st;
    return 0;
}

/* Moves queued pieces into the HTTP/2 stream. */
static void flush(void *arg)
{
    struct agent_stream *st = arg;
    pthread_mutex_lock(&st->a->lock);
    struct piece *list = st->first;
    st->first = NULL;
    st->last = &st->first;
    st->flush_posted = false;
    pthread_mutex_unlock(&st->a->lock);
    while (list) {
        struct piece *p = list;
        list = p->next;
        st->in_out += p->n;
        st->s.was_full = true; /* every byte sent is told, so that the quota is exact */
        (void)h2s_send(&st->s, p->data, p->n); /* a failure comes back as closed() */
        if (p->end)
            h2s_send_end(&st->s);
        free(p);
    }
    stream_drop(st);
}

static int stream_gone(struct agent_stream *st, struct err *e)
{
    if (st->dead)
        return err_set(e, EPIPE, "%s: the session with the guest ended", st->path);
    return err_set(e, EPIPE, "%s: the guest closed the stream", st->path);
}

/* Waits for room, then queues. A piece goes out whole or not at all. */
static int queue_piece(struct agent_stream *st, const void *data, size_t n, bool end, struct err *e)
{
    struct piece *p = malloc(sizeof *p + n);
    if (!p)
        return err_set(e, ENOMEM, "out of memory");
    p->next = NULL;
    p->end = end;
    p->n = n;
    if (n)
        memcpy(p->data, data, n);
    pthread_mutex_lock(&st->a->lock);
    while (!st->closed && st->queued >= QUEUED_MAX) /* ends at the latest when the stream closes */
        pthread_cond_wait(&st->cond, &st->a->lock);
    bool closed = st->closed, post = false;
    if (!closed) {
        *st->last = p;
        st->last = &p->next;
        st->queued += n;
        post = !st->flush_posted;
        st->flush_posted = true;
        if (post)
            atomic_fetch_add(&st->owners, 1);
    }
    int r = closed ? stream_gone(st, e) : 0;
    pthread_mutex_unlock(&st->a->lock);
    if (closed)
        free(p);
    if (post)
        loop_post(st->a->loop, flush, st);
    return r;
}

int agent_stream_send(struct agent_stream *st, int type, const void *p, size_t n, struct err *e)
{
    buf_clear(&st->enc);
    int r = frame_put_all(&st->enc, type, p, n);
    if (r < 0)
        return err_set_errno(e, -r, "cannot encode a frame");
    return queue_piece(st, st->enc.data, st->enc.len, false, e);
}

bool agent_stream_room(struct agent_stream *st)
{
    pthread_mutex_lock(&st->a->lock);
    bool room = st->closed || st->queued < QUEUED_MAX;
    pthread_mutex_unlock(&st->a->lock);
    return room;
}

int agent_stream_send_end(struct agent_stream *st, struct err *e)
{
    return queue_piece(st, NULL, 0, true, e);
}

static void give_back(void *arg)
{
    struct agent_stream *st = arg;
    pthread_mutex_lock(&st->a->lock);
    size_t n = st->give_back;
    st->give_back = 0;
    pthread_mutex_unlock(&st->a->lock);
    h2s_consume(&st->s, n);
    stream_drop(st);
}

/* Lock held. Window updates go in steps; the whole rest when nothing is left to read. */
static bool want_give_back(struct agent_stream *st)
{
    if (st->unread < CONSUME_STEP && (st->unread == 0 || frame_reader_left(&st->in)))
        return false;
    bool post = st->give_back == 0;
    st->give_back += st->unread;
    st->unread = 0;
    if (post)
        atomic_fetch_add(&st->owners, 1);
    return post;
}

/* Lock held: 1 with *type, 0 at the end, -EAGAIN to wait, else an error. */
static int try_next(struct agent_stream *st, int *type, struct buf *payload, struct err *e)
{
    if (st->status && st->status != 200) {
        if (!st->ended && !st->closed)
            return -EAGAIN;
        return agent_status_err(st->status, &st->body, e);
    }
    struct slice part;
    size_t before = frame_reader_left(&st->in);
    int r = frame_reader_next(&st->in, type, &part);
    if (r < 0)
        return err_set(e, EPROTO, "%s: the guest sent a frame over the limit", st->path);
    if (r == 1) {
        st->unread += before - frame_reader_left(&st->in);
        r = buf_add(payload, part.p, part.n);
        return r < 0 ? err_set_errno(e, -r, "%s: cannot keep a frame", st->path) : 1;
    }
    if (st->ended || (st->closed && st->code == 0 && !st->dead)) {
        if (before)
            return err_set(e, EPROTO, "%s: the guest ended the stream inside a frame", st->path);
        return 0;
    }
    return st->closed ? stream_gone(st, e) : -EAGAIN;
}

int agent_stream_next(struct agent_stream *st, struct buf *payload, int timeout_ms, struct err *e)
{
    int64_t deadline = deadline_after(timeout_ms);
    int type = 0;
    buf_clear(payload);
    pthread_mutex_lock(&st->a->lock);
    int r = try_next(st, &type, payload, e);
    while (r == -EAGAIN) {
        if (cond_wait_until(&st->cond, &st->a->lock, deadline) == -ETIMEDOUT) {
            r = try_next(st, &type, payload, e);
            if (r == -EAGAIN)
                r = err_set(e, ETIMEDOUT, "%s: no data within %d ms", st->path, timeout_ms);
            break;
        }
        r = try_next(st, &type, payload, e);
    }
    bool post = want_give_back(st);
    pthread_mutex_unlock(&st->a->lock);
    if (post)
        loop_post(st->a->loop, give_back, st);
    return r == 1 ? type : r;
}

static void abandon(void *arg)
{
    struct agent_stream *st = arg;
    h2s_reset(&st->s);
    stream_drop(st);
}

void agent_stream_free(struct agent_stream *st)
{
    if (st)
        loop_post(st->a->loop, abandon, st); /* the user's share goes along */
}

/* {message, code} of an ERROR frame. */
static int frame_error(const struct buf *payload, struct err *e)
{
    static const struct {
        const char *code;
        int errnum;
    } map[] = {{"NOT_FOUND", ENOENT},
               {"ARCHIVE_INVALID", EINVAL},
               {"DISK_FULL", ENOSPC},
               {"INVALID", EINVAL}};
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    int r =
        json_parse(payload->data ? payload->data : "", payload->len, WIRE_MAX_FRAME_DATA, &v, e);
    if (r < 0)
        return err_wrap(e, "bad error frame from the guest");
    const char *code = json_get_str(v, "code"), *text = json_get_str(v, "message");
    int num = EIO;
    for (size_t i = 0; i < ARRAY_LEN(map); i++)
        if (code && strcmp(code, map[i].code) == 0)
            num = map[i].errnum;
    return err_set(e, num, "%s", text ? text : "the guest gave no reason");
}

static int frame_exit(const struct buf *payload, struct agent_exec_result *ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    int r =
        json_parse(payload->data ? payload->data : "", payload->len, WIRE_MAX_FRAME_DATA, &v, e);
    if (r < 0)
        return err_wrap(e, "bad exit frame from the guest");
    ret->exit_code = (int)json_get_int(v, "exitCode", 0) & 0xff;
    ret->signal = (int)json_get_int(v, "signal", 0) & 0x7f;
    return 0;
}

static int exec_output(struct agent_stream *st, int64_t deadline,
                       void (*on_output)(int fd, const char *p, size_t n, void *arg), void *arg,
                       struct agent_exec_result *ret, struct err *e)
{
    struct buf payload = BUF_INIT(WIRE_MAX_FRAME_DATA);
    int r;
    for (;;) {
        int64_t left = deadline < 0 ? -1 : deadline - clock_mono_ms();
        r = agent_stream_next(st, &payload, deadline >= 0 && left < 0 ? 0 : (int)left, e);
        if (r < 0)
            break;
        if (r == WIRE_FRAME_STDOUT || r == WIRE_FRAME_STDERR) {
            if (on_output)
                on_output(r == WIRE_FRAME_STDOUT ? 1 : 2, payload.data, payload.len, arg);
            continue;
        }
        if (r == WIRE_FRAME_EXIT)
            r = frame_exit(&payload, ret, e);
        else if (r == WIRE_FRAME_ERROR)
            r = frame_error(&payload, e);
        else
            r = err_set(e, EPROTO, "the guest ended the stream without an exit status");
        break;
    }
    buf_done(&payload);
    return r;
}

int agent_exec(struct agent *a, const char *path, const json_t *spec, int timeout_ms,
               void (*on_output)(int fd, const char *p, size_t n, void *arg), void *arg,
               struct agent_exec_result *ret, struct err *e)
{
    struct agent_stream *st = NULL;
    int64_t deadline = deadline_after(timeout_ms);
    int r = agent_stream_open(a, "POST", path, &st, e);
    if (r < 0 || !st)
        return r;
    CLEANUP(cleanup_free)
    char *text = json_text(spec);
    size_t n = strlen(text);
    if (n > WIRE_MAX_FRAME_DATA)
        r = err_set(e, EMSGSIZE, "the command and its environment are larger than %d bytes",
                    WIRE_MAX_FRAME_DATA);
    /* A refused stream explains itself in its answer, not in the failure to send. */
    if (r == 0 && (agent_stream_send(st, WIRE_FRAME_SPEC, text, n, NULL) < 0 ||
                   agent_stream_send(st, WIRE_FRAME_STDIN_END, NULL, 0, NULL) < 0 ||
                   agent_stream_send_end(st, NULL) < 0))
        log_debug("proto", "%s: the guest closed the stream early", path);
    if (r == 0)
        r = exec_output(st, deadline, on_output, arg, ret, e);
    agent_stream_free(st);
    return r;
}
