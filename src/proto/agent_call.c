/* SPDX-License-Identifier: Apache-2.0 */
/* One JSON request and its answer: a blocking face over a stream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proto/agent_internal.h"

/* Two owners: the waiting thread and the loop. The last one frees. */
struct call {
    struct h2s s;
    struct agent *a; /* the waiter's reference */
    atomic_uint owners;
    const char *method; /* owned copies: the waiter may leave before the loop starts the stream */
    char path[128];
    char *body; /* owned, loop side after posting */
    pthread_cond_t cond;
    /* guarded by a->lock: */
    bool done;
    int code; /* 0 or an errno, once done */
    int status;
    struct buf answer;
};

static const char *const METHODS[] = {"GET", "POST", "CONNECT"};

static void call_drop(struct call *c)
{
    if (atomic_fetch_sub(&c->owners, 1) != 1)
        return;
    struct agent *a = c->a;
    buf_done(&c->answer);
    free(c->body);
    pthread_cond_destroy(&c->cond);
    free(c);
    agent_unref(a);
}

static void call_finish(struct call *c, int code)
{
    pthread_mutex_lock(&c->a->lock);
    if (!c->done) {
        c->done = true;
        c->code = code;
        pthread_cond_signal(&c->cond);
    }
    pthread_mutex_unlock(&c->a->lock);
}

static void call_status(struct h2s *s, int status)
{
    struct call *c = CONTAINER_OF(s, struct call, s);
    pthread_mutex_lock(&c->a->lock);
    c->status = status;
    pthread_mutex_unlock(&c->a->lock);
}

static void call_data(struct h2s *s, const char *p, size_t n)
{
    struct call *c = CONTAINER_OF(s, struct call, s);
    h2s_consume(s, n);
    pthread_mutex_lock(&c->a->lock);
    int r = c->done ? 0 : buf_add(&c->answer, p, n);
    pthread_mutex_unlock(&c->a->lock);
    if (r < 0) {
        call_finish(c, EMSGSIZE);
        h2s_reset(s);
    }
}

static void call_end(struct h2s *s)
{
    call_finish(CONTAINER_OF(s, struct call, s), 0);
}

static void call_nothing(struct h2s *s UNUSED)
{
}

static void call_closed(struct h2s *s, int code, bool dead)
{
    struct call *c = CONTAINER_OF(s, struct call, s);
    call_finish(c, dead ? EPIPE : code ? code : EPROTO);
    call_drop(c);
}

static const struct h2s_ops CALL_OPS = {
    .status = call_status,
    .data = call_data,
    .end = call_end,
    .drained = call_nothing,
    .closed = call_closed,
};

static void call_begin(void *arg)
{
    struct call *c = arg;
    if (!h2s_start(&c->s, c->a, &CALL_OPS, c->method, c->path, NULL, c->body != NULL)) {
        call_finish(c, EPIPE);
        call_drop(c);
        return;
    }
    if (c->body) {
        (void)h2s_send(&c->s, c->body, strlen(c->body)); /* a failure comes back as closed() */
        h2s_send_end(&c->s);
        free(TAKE(c->body));
    }
}

static void call_cancel(void *arg)
{
    struct call *c = arg;
    h2s_reset(&c->s);
    call_drop(c);
}

int agent_status_err(int status, const struct buf *body, struct err *e)
{
    static const struct {
        int status, code;
    } map[] = {{400, EINVAL}, {404, ENOENT}, {409, EBUSY}};
    int code = EIO;
    for (size_t i = 0; i < ARRAY_LEN(map); i++)
        if (map[i].status == status)
            code = map[i].code;
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    const char *text = NULL;
    if (body->len && json_parse(body->data, body->len, WIRE_MAX_JSON, &v, NULL) == 0)
        text = json_get_str(v, "message");
    if (text)
        return err_set(e, code, "%s", text);
    return err_set(e, code, "the guest agent answered with status %d", status);
}

static int call_result(struct call *c, int timeout_ms, json_t **ret, struct err *e)
{
    if (!c->done)
        return err_set(e, ETIMEDOUT, "%s: the guest did not answer within %d ms", c->path,
                       timeout_ms);
    if (c->code == EMSGSIZE)
        return err_set(e, EIO, "%s: the answer is larger than %d bytes", c->path, WIRE_MAX_JSON);
    if (c->code == EPIPE)
        return err_set(e, EPIPE, "%s: the session with the guest ended", c->path);
    if (c->code)
        return err_set(e, EIO, "%s: the guest reset the stream", c->path);
    if (c->status != 200)
        return agent_status_err(c->status, &c->answer, e);
    *ret = NULL;
    if (c->answer.len == 0)
        return 0;
    int r = json_parse(c->answer.data, c->answer.len, WIRE_MAX_JSON, ret, e);
    return r < 0 ? err_wrap(e, "%s: bad answer from the guest", c->path) : 0;
}

static int call_new(struct agent *a, const char *method, const char *path, const json_t *body,
                    struct call **ret, struct err *e)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ENOMEM, "out of memory");
    for (size_t i = 0; i < ARRAY_LEN(METHODS); i++)
        if (strcmp(METHODS[i], method) == 0)
            c->method = METHODS[i];
    if (!c->method || strlen(path) >= sizeof c->path) {
        free(c);
        return err_set(e, EINVAL, "bad request %s %s", method, path);
    }
    memcpy(c->path, path, strlen(path) + 1);
    if (body)
        c->body = json_text(body);
    if (c->body && strlen(c->body) > WIRE_MAX_REQUEST) {
        free(c->body);
        free(c);
        return err_set(e, EMSGSIZE, "%s: the request is larger than %d bytes", path,
                       WIRE_MAX_REQUEST);
    }
    c->a = agent_ref(a);
    c->answer.max = WIRE_MAX_JSON;
    cond_init(&c->cond);
    atomic_init(&c->owners, 2);
    *ret = c;
    return 0;
}

int agent_call(struct agent *a, const char *method, const char *path, const json_t *body,
               int timeout_ms, json_t **ret, struct err *e)
{
    struct call *c = NULL;
    int r = call_new(a, method, path, body, &c, e);
    if (r < 0 || !c)
        return r;
    int64_t deadline = deadline_after(timeout_ms);
    loop_post(a->loop, call_begin, c);
    json_t *answer = NULL;
    pthread_mutex_lock(&a->lock);
    while (!c->done && r == 0)
        r = cond_wait_until(&c->cond, &a->lock, deadline);
    r = call_result(c, timeout_ms, &answer, e);
    bool cancel = !c->done;
    c->done = true;
    pthread_mutex_unlock(&a->lock);
    if (ret)
        *ret = TAKE(answer);
    json_decref(answer);
    if (cancel)
        loop_post(a->loop, call_cancel, c); /* after call_begin: posts keep their order */
    else
        call_drop(c);
    return r;
}
