/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extension: files of a running microVM. GET answers a directory's list or a tar of what is at a
 * path, PUT unpacks a tar in a directory. The tar goes through a file: a guest that fails half-way
 * becomes an error and not a cut-off reply. Bounded in bytes and in time: the guest is hostile.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/body.h"
#include "base/fs.h"
#include "base/log.h"
#include "proto/wire.h"

#define AGENT_TIMEOUT_MS 30000
#define STALL_MS 60000        /* without a byte taken or given */
#define TOTAL_MS (15 * 60000) /* for one request */
#define RETRY_MS 10           /* while the guest takes nothing */

struct transfer {
    struct agent_stream *stream;
    struct buf payload;
    int64_t end_ms;
};

bool api_takes_large_body(struct slice method, struct slice target)
{
    static const char PREFIX[] = "/tinderbox/v1/microvms/", SUFFIX[] = "/files";
    const char *query = memchr(target.p, '?', target.n);
    size_t n = query ? (size_t)(query - target.p) : target.n;
    return slice_eq(method, "PUT") && n > sizeof PREFIX + sizeof SUFFIX &&
           memcmp(target.p, PREFIX, sizeof PREFIX - 1) == 0 &&
           memcmp(target.p + n - (sizeof SUFFIX - 1), SUFFIX, sizeof SUFFIX - 1) == 0;
}

/* {message, code} of an ERROR frame: everything but INTERNAL is the caller's to mend. */
static int guest_error(struct transfer *t, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    const struct buf *b = &t->payload;
    if (json_parse(b->data ? b->data : "", b->len, WIRE_MAX_FRAME_DATA, &v, NULL) < 0)
        return err_set(e, EPROTO, "The guest's answer is not valid");
    const char *code = json_get_str(v, "code"), *text = json_get_str(v, "message");
    text = text ? text : "the guest gave no reason";
    if (code && strcmp(code, "NOT_FOUND") == 0)
        return err_set(e, ENOENT, "%s", text);
    if (!code || strcmp(code, "INTERNAL") != 0)
        return err_set(e, EINVAL, "%s", text);
    return err_set(e, EIO, "%s", text);
}

/* The next frame's type, 0 after EXIT; -ETIMEDOUT after wait_ms. */
static int next(struct transfer *t, int wait_ms, struct err *e)
{
    int type = agent_stream_next(t->stream, &t->payload, wait_ms, e);
    if (type < 0)
        return type;
    if (type == WIRE_FRAME_ERROR)
        return guest_error(t, e);
    if (type == WIRE_FRAME_EXIT)
        return 0;
    if (type != WIRE_FRAME_STDOUT && type != WIRE_FRAME_RECORD)
        return err_set(e, EPROTO, "The guest ended the stream without a result");
    return clock_mono_ms() < t->end_ms ? type : -ETIMEDOUT;
}

static int too_slow(int r, struct err *e)
{
    return r == -ETIMEDOUT ? err_set(e, EINVAL, "The guest did not finish the transfer in time")
                           : r;
}

static int begin(struct transfer *t, struct agent *a, const char *op, const char *path,
                 struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:s, s:s}", "op", op, "path", path);
    CLEANUP(cleanup_free)
    char *text = json_text(spec);
    int r = agent_stream_open(a, "POST", WIRE_FILES, &t->stream, e);
    return r < 0 ? r : agent_stream_send(t->stream, WIRE_FRAME_SPEC, text, strlen(text), e);
}

/* ---- GET ---- */

static int get_list(struct transfer *t, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *self = NULL;
    CLEANUP(cleanup_json)
    json_t *entries = json_array();
    int type;
    while ((type = next(t, STALL_MS, e)) > 0) {
        json_t *v = NULL;
        int r = json_parse(t->payload.data ? t->payload.data : "", t->payload.len,
                           WIRE_MAX_FRAME_DATA, &v, NULL);
        if (r < 0 || !json_is_object(v) || json_array_size(entries) >= WIRE_FILES_MAX_LIST) {
            json_decref(v);
            return err_set(e, EPROTO, "The guest's answer is not valid");
        }
        if (self)
            json_array_append_new(entries, v);
        else
            self = v;
    }
    if (type < 0)
        return too_slow(type, e);
    if (!self)
        return err_set(e, EPROTO, "The guest's answer is empty");
    json_object_del(self, "name");
    if (strcmp(json_get_str(self, "type") ? json_get_str(self, "type") : "", "dir") == 0)
        json_object_set(self, "entries", entries);
    *ret = TAKE(self);
    return 0;
}

static int get_tar(struct transfer *t, int fd, uint64_t *size, struct err *e)
{
    int type;
    while ((type = next(t, STALL_MS, e)) > 0) {
        *size += t->payload.len;
        if (*size > API_MAX_FILES)
            return err_set(e, EINVAL, "The files are larger than %llu bytes together",
                           (unsigned long long)API_MAX_FILES);
        int r = fs_write_all(fd, t->payload.data, t->payload.len);
        if (r < 0)
            return err_set_errno(e, -r, "cannot keep the files");
    }
    return too_slow(type, e);
}

static int get(struct op_call *c, struct transfer *t, struct agent *a, json_t **ret, struct err *e)
{
    bool list = json_get_str(c->in, "list") != NULL;
    struct http_call *h = c->http;
    int r = begin(t, a, list ? "list" : "read", json_get_str(c->in, "path"), e);
    if (r < 0 || list)
        return r < 0 ? r : get_list(t, ret, e);
    CLEANUP(cleanup_close)
    int fd = open(c->api->spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a temporary file");
    uint64_t size = 0;
    r = get_tar(t, fd, &size, e);
    if (r < 0)
        return r;
    h->reply_fd = fd;
    fd = -1;
    h->reply_size = size;
    http_call_header(h, "content-type", "application/x-tar");
    return 0;
}

/* ---- PUT ---- */

static ssize_t body_piece(const struct http_call *h, uint64_t at, char *out, size_t n)
{
    uint64_t left = h->body_size - at;
    if (left < n)
        n = (size_t)left;
    if (h->body_fd >= 0)
        return pread(h->body_fd, out, n, (off_t)at);
    if (n)
        memcpy(out, h->body.data + at, n);
    return (ssize_t)n;
}

/* Sends the tar while the guest takes it; an error that comes meanwhile is the result. 1 = all
 * was sent, 0 = the guest has finished already (a tar may end before its file does). */
static int feed(struct transfer *t, const struct http_call *h, struct err *e)
{
    char piece[32768];
    int64_t moved = clock_mono_ms();
    for (uint64_t at = 0; at < h->body_size;) {
        bool room = agent_stream_room(t->stream);
        int r = next(t, room ? 0 : RETRY_MS, e);
        if (r != -ETIMEDOUT || clock_mono_ms() > moved + STALL_MS || clock_mono_ms() > t->end_ms)
            return r > 0 ? err_set(e, EPROTO, "The guest's answer is not valid") : r;
        if (!room)
            continue;
        ssize_t n = body_piece(h, at, piece, sizeof piece);
        if (n <= 0)
            return err_set_errno(e, n < 0 ? errno : EIO, "cannot read the request body");
        if (agent_stream_send(t->stream, WIRE_FRAME_STDIN, piece, (size_t)n, e) < 0)
            return 1; /* it may have told why */
        at += (uint64_t)n;
        moved = clock_mono_ms();
    }
    if (agent_stream_send(t->stream, WIRE_FRAME_STDIN_END, "", 0, e) < 0)
        log_debug("api", "files: %s", e->text); /* the next frame tells why */
    return 1;
}

static int put(struct op_call *c, struct transfer *t, struct agent *a, struct err *e)
{
    int r = begin(t, a, "write", json_get_str(c->in, "path"), e);
    if (r == 0)
        r = feed(t, c->http, e);
    if (r == 1)
        r = next(t, (int)(t->end_ms - clock_mono_ms()), e);
    return r > 0 ? err_set(e, EPROTO, "The guest's answer is not valid") : too_slow(r, e);
}

static int with_agent(struct op_call *c, bool write, json_t **ret, struct err *e)
{
    struct transfer t = {.payload = BUF_INIT(WIRE_MAX_FRAME_DATA),
                         .end_ms = clock_mono_ms() + TOTAL_MS};
    struct store_microvm vm = {0};
    struct agent *a = NULL;
    if (json_get_str(c->in, "path")[0] != '/')
        return err_set(e, EINVAL, "path must begin with '/'");
    int r = body_find_microvm(c, &vm, e);
    if (r == 0)
        r = microvm_agent(c->api->microvms, vm.id, AGENT_TIMEOUT_MS, &a, e);
    if (r == 0)
        r = write ? put(c, &t, a, e) : get(c, &t, a, ret, e);
    agent_stream_free(t.stream);
    if (a)
        agent_unref(a);
    buf_done(&t.payload);
    store_microvm_done(&vm);
    return r;
}

int op_files_get(struct op_call *c, json_t **ret, struct err *e)
{
    return with_agent(c, false, ret, e);
}

int op_files_put(struct op_call *c, json_t **ret, struct err *e)
{
    return with_agent(c, true, ret, e);
}
