/* SPDX-License-Identifier: Apache-2.0 */
/* Extensions below /tinderbox/v1/: status, logs, exec, statistics. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "base/encode.h"
#include "proto/wire.h"

#define LOG_CHUNK (1024 * 1024)
#define EXEC_STREAM_MAX (4u * 1024 * 1024) /* each of stdin, stdout and stderr */
#define EXEC_TIMEOUT_S 60
#define AGENT_TIMEOUT_MS 30000
#define FEED_RETRY_MS 10 /* while a command leaves its input unread */

/* ---- status, statistics ------------------------------------------------------------------------
 */

struct live {
    unsigned count[MICROVM_TERMINATED + 1];
    int64_t memory_mib;
};

static int on_live(const struct store_microvm *r, void *arg)
{
    struct live *l = arg;
    l->count[r->state]++;
    l->memory_mib += r->memory_mib;
    return 0;
}

int op_status(struct op_call *c, json_t **ret, struct err *e)
{
    struct live l = {0};
    int r = store_microvm_live(c->api->store, on_live, &l, e);
    if (r < 0)
        return r;
    json_t *states = json_object();
    for (int s = 0; s < MICROVM_TERMINATED; s++)
        json_object_set_new(states, microvm_state_name((enum microvm_state)s),
                            json_integer(l.count[s]));
    *ret = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:I}", "version", TINDERBOX_VERSION, "account",
                     c->api->account, "region", c->region, "endpointDomain", c->api->domain,
                     "endpointPort", (int)c->api->endpoint_port, "microvms", states,
                     "allocatedMemoryMiB", (json_int_t)l.memory_mib);
    return 0;
}

int op_stats(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_microvm vm = {0};
    int r = body_find_microvm(c, &vm, e);
    if (r == 0)
        r = microvm_stats(c->api->microvms, vm.id, ret, e);
    store_microvm_done(&vm);
    return r;
}

/* ---- logs --------------------------------------------------------------------------------------
 */

int op_logs(struct op_call *c, json_t **ret, struct err *e)
{
    (void)ret; /* raw bytes */
    const char *kind = json_get_str(c->in, "kind"), *key = json_get_str(c->in, "key");
    uint64_t offset = (uint64_t)json_get_int(c->in, "offset", 0);
    bool ended = false;
    struct http_call *h = c->http;
    int r = microvm_log_read(c->api->microvms, kind, key, offset, LOG_CHUNK, &h->reply, &ended, e);
    if (r == -ENOENT)
        err_set(e, ENOENT, "No log of %s %s", kind, key);
    if (r < 0)
        return r;
    http_call_header(h, "content-type", "text/plain; charset=utf-8");
    http_call_header(h, "x-tinderbox-next-offset", "%" PRIu64, offset + h->reply.len);
    http_call_header(h, "x-tinderbox-ended", "%s", ended ? "true" : "false");
    return 0;
}

/* ---- exec --------------------------------------------------------------------------------------
 */

struct exec {
    struct agent_stream *stream;
    struct buf in, out, err;
    size_t in_at; /* sent */
    bool fed;     /* all of it, with its end */
    bool truncated;
    int64_t deadline_ms;
    int exit_code, signal;
};

/* The request in the guest protocol's words. */
static json_t *exec_spec(const struct op_call *c)
{
    static const char *const MEMBERS[] = {"args", "cwd", "user"};
    json_t *spec = json_object(), *env = json_array();
    for (size_t i = 0; i < ARRAY_LEN(MEMBERS); i++) {
        json_t *v = json_object_get(c->in, MEMBERS[i]);
        if (v)
            json_object_set(spec, MEMBERS[i], v);
    }
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(c->in, "env"), key, value)
        json_array_append_new(env, json_sprintf("%s=%s", key, json_string_value(value)));
    json_object_set_new(spec, "env", env);
    return spec;
}

static int exec_begin(struct exec *x, const struct op_call *c, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *spec = exec_spec(c);
    CLEANUP(cleanup_free)
    char *text = json_text(spec);
    if (strlen(text) > WIRE_MAX_FRAME_DATA)
        return err_set(e, EINVAL, "args and env together are longer than %d bytes",
                       WIRE_MAX_FRAME_DATA);
    return agent_stream_send(x->stream, WIRE_FRAME_SPEC, text, strlen(text), e);
}

/* Sends what the stream takes without waiting, for a command may write before it reads. A command
 * that has ended takes no more input; its exit status is still to be read. */
static void exec_feed(struct exec *x)
{
    while (!x->fed && agent_stream_room(x->stream)) {
        size_t left = x->in.len - x->in_at;
        size_t n = left < WIRE_MAX_FRAME_DATA ? left : WIRE_MAX_FRAME_DATA;
        const char *p = x->in.data ? x->in.data + x->in_at : "";
        x->in_at += n;
        x->fed = agent_stream_send(x->stream, left ? WIRE_FRAME_STDIN : WIRE_FRAME_STDIN_END, p, n,
                                   NULL) < 0 ||
                 !left;
    }
}

/* Keeps what fits; the rest is read and dropped so that the command can end. */
static void keep_output(struct exec *x, int type, const struct buf *payload)
{
    struct buf *b = type == WIRE_FRAME_STDOUT ? &x->out : &x->err;
    size_t room = b->max - b->len, n = payload->len < room ? payload->len : room;
    if (buf_add(b, payload->data, n) < 0 || n < payload->len)
        x->truncated = true;
}

static int exec_ended(struct exec *x, int type, const struct buf *payload, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    int r =
        json_parse(payload->data ? payload->data : "", payload->len, WIRE_MAX_FRAME_DATA, &v, e);
    if (r < 0)
        return err_set(e, EPROTO, "The guest's answer is not valid");
    if (type == WIRE_FRAME_ERROR) {
        const char *text = json_get_str(v, "message");
        return err_set(e, EINVAL, "%s", text ? text : "The command could not be started");
    }
    x->exit_code = (int)json_get_int(v, "exitCode", 0);
    x->signal = (int)json_get_int(v, "signal", 0);
    return 0;
}

/* The next frame into payload, feeding input meanwhile. */
static int exec_next(struct exec *x, struct buf *payload, struct err *e)
{
    for (;;) {
        int64_t left = x->deadline_ms - clock_mono_ms();
        exec_feed(x);
        int wait = !x->fed && left > FEED_RETRY_MS ? FEED_RETRY_MS : (int)left;
        int type = left > 0 ? agent_stream_next(x->stream, payload, wait, e) : -ETIMEDOUT;
        if (type != -ETIMEDOUT || left <= 0)
            return type;
    }
}

/* Reads frames until the command has ended. */
static int exec_read(struct exec *x, struct err *e)
{
    CLEANUP(buf_done)
    struct buf payload = BUF_INIT(WIRE_MAX_FRAME_DATA);
    for (;;) {
        int type = exec_next(x, &payload, e);
        if (type == -ETIMEDOUT)
            return err_set(e, EINVAL, "The command did not end within timeoutSeconds");
        if (type < 0)
            return type;
        if (type == WIRE_FRAME_EXIT || type == WIRE_FRAME_ERROR)
            return exec_ended(x, type, &payload, e);
        if (type != WIRE_FRAME_STDOUT && type != WIRE_FRAME_STDERR)
            return err_set(e, EPROTO, "The guest ended the stream without an exit status");
        keep_output(x, type, &payload);
    }
}

static int exec_reply(const struct exec *x, json_t **ret, struct err *e)
{
    CLEANUP(buf_done)
    struct buf out = BUF_INIT(0);
    CLEANUP(buf_done)
    struct buf err = BUF_INIT(0);
    if (base64_encode(&out, x->out.data, x->out.len) < 0 ||
        base64_encode(&err, x->err.data, x->err.len) < 0)
        return err_set(e, ENOMEM, "out of memory");
    *ret = json_pack("{s:i, s:i, s:s, s:s, s:b}", "exitCode", x->exit_code, "signal", x->signal,
                     "stdout", out.data ? out.data : "", "stderr", err.data ? err.data : "",
                     "truncated", x->truncated);
    return 0;
}

static int exec_in(struct op_call *c, struct agent *a, struct exec *x, json_t **ret, struct err *e)
{
    int r = agent_stream_open(a, "POST", WIRE_EXEC, &x->stream, e);
    if (r < 0)
        return r;
    r = exec_begin(x, c, e);
    if (r == 0)
        r = exec_read(x, e);
    agent_stream_free(x->stream); /* ends the command if it still runs */
    return r == 0 ? exec_reply(x, ret, e) : r;
}

static int exec_on(struct op_call *c, const char *id, struct exec *x, json_t **ret, struct err *e)
{
    struct agent *a = NULL;
    const char *in = json_get_str(c->in, "stdin");
    if (in && base64_decode(&x->in, in, strlen(in)) < 0)
        return err_set(e, EINVAL, "stdin is not base64 of at most %u bytes", EXEC_STREAM_MAX);
    int r = microvm_agent(c->api->microvms, id, AGENT_TIMEOUT_MS, &a, e);
    if (r < 0)
        return r;
    x->deadline_ms = clock_mono_ms() + 1000 * json_get_int(c->in, "timeoutSeconds", EXEC_TIMEOUT_S);
    r = exec_in(c, a, x, ret, e);
    agent_unref(a);
    return r;
}

int op_exec(struct op_call *c, json_t **ret, struct err *e)
{
    struct exec x = {.in = BUF_INIT(EXEC_STREAM_MAX),
                     .out = BUF_INIT(EXEC_STREAM_MAX),
                     .err = BUF_INIT(EXEC_STREAM_MAX)};
    struct store_microvm vm = {0};
    int r = body_find_microvm(c, &vm, e);
    if (r == 0)
        r = exec_on(c, vm.id, &x, ret, e);
    store_microvm_done(&vm);
    buf_done(&x.in);
    buf_done(&x.out);
    buf_done(&x.err);
    return r;
}
