/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_response.h"

#include <errno.h>
#include <stdlib.h>

#include "http/h1_head.h"

#define MAX_INTERIM 16 /* an upstream that only ever sends 103 would never end */

struct h1_response {
    const struct h1_response_ops *ops; /* borrowed */
    void *arg;
    enum h1_state state;
    int error;
    bool paused, head_only, may_switch, keep_alive, touched;
    unsigned n_interim;
    struct h1_head_parser head;
    struct h1_body body;
};

struct framing {
    bool chunked, other_coding, has_length, close, keep_alive;
    uint64_t length;
};

static int framing_read(const struct h1_response *c, struct framing *f)
{
    for (unsigned i = 0; i < c->head.n_headers; i++) {
        struct slice name = c->head.headers[i].name, value = c->head.headers[i].value;
        if (slice_eq(name, "content-length")) {
            if (f->has_length || field_parse_length(value, &f->length) < 0)
                return -EINVAL;
            f->has_length = true;
        } else if (slice_eq(name, "transfer-encoding")) {
            f->other_coding |= !slice_eq_nocase(value, "chunked") || f->chunked;
            f->chunked = true;
        } else if (slice_eq(name, "connection")) {
            f->close |= field_list_has(value, "close");
            f->keep_alive |= field_list_has(value, "keep-alive");
        }
    }
    /* A coding we would have to undo, or two of them: nobody asked for that (no TE was sent). */
    return f->other_coding ? -EINVAL : 0;
}

static enum h1_body_kind body_kind(const struct h1_response *c, const struct framing *f, int status)
{
    if (c->head_only || status == 204 || status == 304 || status < 200)
        return H1_BODY_NONE;
    if (f->chunked)
        return H1_BODY_CHUNKED;
    return f->has_length ? H1_BODY_LENGTH : H1_BODY_EOF;
}

static int interim_done(struct h1_response *c, const struct h1_response_info *r)
{
    if (++c->n_interim > MAX_INTERIM)
        return -EMSGSIZE;
    c->ops->on_interim(r, c->arg);
    h1_head_reset(&c->head);
    return 0;
}

static int head_done(struct h1_response *c)
{
    struct framing f = {0};
    int status = h1_head_status(&c->head);
    int error = framing_read(c, &f);
    if (error < 0)
        return error;
    if (status < 100 || status > 599 || (status == 101 && !c->may_switch))
        return -EINVAL;
    enum h1_body_kind kind = body_kind(c, &f, status);
    struct h1_response_info r = {
        .status = status,
        .version = c->head.version,
        .headers = c->head.headers,
        .n_headers = c->head.n_headers,
        .has_body = kind == H1_BODY_LENGTH ? f.length > 0 : kind != H1_BODY_NONE,
        .has_length = f.has_length && !f.chunked && status != 204 && status >= 200,
        .length = f.length,
    };
    if (status < 200 && status != 101)
        return interim_done(c, &r);
    c->keep_alive = (c->head.version == 11 ? !f.close : f.keep_alive && !f.close) &&
                    kind != H1_BODY_EOF && !(f.chunked && f.has_length);
    h1_body_start(&c->body, kind, f.length);
    c->state = status == 101 ? H1_UPGRADED : H1_BODY;
    c->ops->on_head(&r, c->arg);
    return 0;
}

int h1_response_new(const struct http_limits *l, const struct h1_response_ops *ops, void *arg,
                    struct h1_response **ret)
{
    struct h1_response *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    if (h1_head_init(&c->head, false, l->header_bytes, l->headers) < 0) {
        free(c);
        return -ENOMEM;
    }
    c->ops = ops;
    c->arg = arg;
    h1_body_init(&c->body, l->header_bytes, l->headers);
    *ret = c;
    return 0;
}

void h1_response_free(struct h1_response *c)
{
    if (!c)
        return;
    h1_head_done(&c->head);
    h1_body_done(&c->body);
    free(c);
}

void h1_response_start(struct h1_response *c, bool head_only, bool may_switch)
{
    c->state = H1_HEAD;
    c->error = 0;
    c->paused = c->keep_alive = c->touched = false;
    c->head_only = head_only;
    c->may_switch = may_switch;
    c->n_interim = 0;
    h1_head_reset(&c->head);
}

static int body_feed(struct h1_response *c, const char *p, size_t n, size_t *used)
{
    int r = H1_BODY_DATA;
    while (r == H1_BODY_DATA && !c->paused) {
        size_t took;
        struct slice data;
        r = h1_body_feed(&c->body, p + *used, n - *used, &took, &data);
        *used += took;
        if (r == H1_BODY_DATA)
            c->ops->on_body(data.p, data.n, c->arg);
    }
    if (r == H1_BODY_DONE) {
        c->state = H1_END;
        c->ops->on_end(fields_view(&c->body.trailers), c->body.trailers.n, c->arg);
    }
    return r < 0 ? r : 0;
}

static int feed(struct h1_response *c, const char *p, size_t n, size_t *used)
{
    while (c->state == H1_HEAD && *used < n && !c->paused) {
        size_t took = 0;
        int r = h1_head_feed(&c->head, p + *used, n - *used, &took);
        *used += took;
        if (r == 1)
            r = head_done(c);
        if (r < 0)
            return r;
    }
    return c->state == H1_BODY && !c->paused ? body_feed(c, p, n, used) : 0;
}

int h1_response_feed(struct h1_response *c, const char *p, size_t n, size_t *used)
{
    *used = 0;
    if (c->state == H1_FAILED)
        return c->error;
    c->touched |= n > 0;
    int r = feed(c, p, n, used);
    if (r < 0) {
        c->state = H1_FAILED;
        c->error = r;
    }
    return r;
}

int h1_response_eof(struct h1_response *c)
{
    if (c->state == H1_END || c->state == H1_UPGRADED)
        return 0;
    if (c->state != H1_BODY || h1_body_eof(&c->body) < 0) {
        c->state = H1_FAILED;
        c->error = -EPROTO;
        return -EPROTO;
    }
    c->state = H1_END;
    c->ops->on_end(NULL, 0, c->arg);
    return 0;
}

void h1_response_pause(struct h1_response *c, bool paused)
{
    c->paused = paused;
}

enum h1_state h1_response_state(const struct h1_response *c)
{
    return c->state;
}

bool h1_response_is_fresh(const struct h1_response *c)
{
    return !c->touched;
}

bool h1_response_keep_alive(const struct h1_response *c)
{
    return c->state == H1_END && c->keep_alive;
}
