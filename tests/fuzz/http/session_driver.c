/* SPDX-License-Identifier: Apache-2.0 */
#include "session_driver.h"

#include <stdlib.h>

static int open_exchanges;

static void on_body(struct http_exchange *x, const char *p, size_t n, void *ctx)
{
    (void)ctx;
    if (n && *p == 'A')
        http_abort(x);
    else if (!http_write(x, p, n))
        http_body_pause(x);
}

static void on_end(struct http_exchange *x, const struct http_header *t, size_t n, void *ctx)
{
    bool *ended = ctx;
    if (!*ended)
        http_end(x, t, n);
    *ended = true;
}

static void on_writable(struct http_exchange *x, void *ctx)
{
    (void)ctx;
    http_body_resume(x);
}

static void on_close(struct http_exchange *x, void *ctx)
{
    (void)x;
    free(ctx);
    open_exchanges--;
}

static const struct http_exchange_ops ops = {on_body, on_end, on_writable, on_close};

static void on_request(struct http_exchange *x, const struct http_request *r, void *arg)
{
    (void)arg;
    open_exchanges++;
    bool *ended = calloc(1, sizeof *ended);
    if (!ended)
        abort();
    http_exchange_set(x, &ops, ended);
    if (r->upgrade)
        http_upgrade(x, r->headers, r->n_headers);
    else
        http_respond(x, 200, r->headers, r->n_headers);
    if (slice_eq(r->target, "/end")) {
        http_end(x, NULL, 0);
        *ended = true;
        /* on_body and on_end may not come any more; http_write() would be a misuse */
        static const struct http_exchange_ops closing = {.on_close = on_close};
        http_exchange_set(x, &closing, ended);
    }
}

static void wake(void *arg)
{
    *(bool *)arg = true;
}

static void settle(struct session *s, bool *again)
{
    for (int i = 0; i < 100; i++) {
        *again = false;
        s->vt->work(s);
        size_t n = s->out.len; /* a peer that reads half of what there is */
        queue_consume(&s->out, n - n / 2);
        if (!*again && !n)
            return;
    }
}

void fuzz_session(struct session *(*make)(const struct session_env *env), const uint8_t *data,
                  size_t size)
{
    bool again = false;
    struct session_env env = {.handler = {on_request, NULL},
                              .limits = {.header_bytes = 4096, .headers = 20, .streams = 8},
                              .wake = wake,
                              .wake_arg = &again};
    struct session *s = make(&env);
    if (!s || !size)
        abort();
    size_t step = data[0] ? data[0] : 65536;
    for (size_t i = 1; i < size && s->vt->state(s) < SESSION_LINGER; i += step) {
        size_t n = size - i < step ? size - i : step;
        s->vt->feed(s, (const char *)data + i, n);
        settle(s, &again);
    }
    if (s->vt->state(s) < SESSION_LINGER) {
        if (s->vt->tick)
            s->vt->tick(s);
        s->vt->eof(s);
        settle(s, &again);
    }
    if (s->vt->state(s) == SESSION_IDLE)
        s->vt->timeout(s);
    s->vt->kill(s);
    s->vt->free(s);
    if (open_exchanges)
        abort();
}
