/* SPDX-License-Identifier: Apache-2.0 */
/* The table of endpoints, and the collection of JSON request bodies. */
#include <errno.h>
#include <string.h>

#include "guest/guest.h"
#include "proto/wire.h"

struct route {
    const char *method, *path;
    void (*json)(struct guest *g, struct stream *st, const json_t *body);
    void (*open)(struct guest *g, struct stream *st);
};

static const struct route ROUTES[] = {
    {"GET", WIRE_INFO, guest_info, NULL},
    {"GET", WIRE_STATS, guest_stats, NULL},
    {"GET", WIRE_WAIT, guest_wait, NULL},
    {"GET", WIRE_LOGS, NULL, guest_logs},
    {"POST", WIRE_BOOT, guest_boot, NULL},
    {"POST", WIRE_START, guest_start, NULL},
    {"POST", WIRE_HOOK, guest_hook, NULL},
    {"POST", WIRE_SETTLE, guest_settle, NULL},
    {"POST", WIRE_PREPARE, guest_prepare, NULL},
    {"POST", WIRE_RESUMED, guest_resumed, NULL},
    {"POST", WIRE_EXEC, NULL, guest_exec},
    {"POST", WIRE_FILES, NULL, guest_files},
    {"POST", WIRE_BUILD_SCAN, NULL, guest_build_unpack},
    {"POST", WIRE_BUILD_READ, NULL, guest_build_unpack},
    {"POST", WIRE_BUILD_COPY, NULL, guest_build_unpack},
    {"POST", WIRE_BUILD_RUN, NULL, guest_build_run},
    {"POST", WIRE_BUILD_MOUNT, guest_build_mount, NULL},
    {"POST", WIRE_BUILD_FINISH, guest_build_finish, NULL},
};

static void nothing(struct stream *st UNUSED)
{
}

/* A stream whose answer is complete: what else comes is thrown away. */
static void discard(struct stream *st, const char *p UNUSED, size_t n)
{
    stream_consume(st, n);
}

static const struct stream_ops DONE_OPS = {.data = discard, .closed = nothing};

static const struct route *find_route(const struct stream *st, bool *path_known)
{
    *path_known = false;
    for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++) {
        if (strcmp(ROUTES[i].path, st->path) != 0)
            continue;
        *path_known = true;
        if (strcmp(ROUTES[i].method, st->method) == 0)
            return &ROUTES[i];
    }
    return NULL;
}

static void collect(struct stream *st, const char *p, size_t n)
{
    stream_consume(st, n);
    if (!st->answered && buf_add(&st->body, p, n) < 0)
        stream_error(st, 413, "the request is larger than %d bytes", WIRE_MAX_REQUEST);
}

static void collected(struct stream *st)
{
    if (st->answered)
        return;
    struct guest *g = st->ctx;
    bool known;
    const struct route *r = find_route(st, &known);
    CLEANUP(cleanup_json)
    json_t *body = NULL;
    struct err e = {0};
    st->ops = &DONE_OPS; /* a handler that answers later sets its own */
    st->ctx = NULL;
    if (st->body.len == 0)
        body = json_object();
    else if (json_parse(st->body.data, st->body.len, WIRE_MAX_REQUEST, &body, &e) < 0) {
        stream_error(st, 400, "%s: bad JSON: %s", st->path, e.text);
        return;
    }
    buf_done(&st->body);
    if (!json_is_object(body)) {
        stream_error(st, 400, "%s: the request must be a JSON object", st->path);
        return;
    }
    r->json(g, st, body);
}

static const struct stream_ops COLLECT_OPS = {.data = collect, .end = collected, .closed = nothing};

void guest_route(struct stream *st, void *app)
{
    struct guest *g = app;
    st->ops = &DONE_OPS;
    if (strcmp(st->method, "CONNECT") == 0) {
        guest_tunnel(g, st);
        return;
    }
    bool known;
    const struct route *r = find_route(st, &known);
    if (!r) {
        stream_error(st, known ? 405 : 404, "no such operation: %s %s", st->method, st->path);
    } else if (r->open) {
        r->open(g, st);
    } else {
        st->body.max = WIRE_MAX_REQUEST;
        st->ctx = g;
        st->ops = &COLLECT_OPS;
    }
}
