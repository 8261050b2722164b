/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A call passes through
 *   COLLECT  body bytes arrive on the loop. Up to max_in_memory they stay in memory; beyond, they
 *            are handed in pieces to the loop's thread pool, which hashes them and writes them to
 *            an unlinked file. At most two pieces exist at a time; then the exchange is paused.
 *   HANDLE   the handler runs on a worker.
 *   REPLY    the answer is written as the exchange takes it; files are read on the thread pool.
 * The exchange may close in any of them (x becomes NULL); the call is freed by whoever lets go of
 * it last: the exchange, the job on the thread pool, or the worker.
 */
#include "http/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/log.h"
#include "http/fields.h"
#include "http/session.h"

#define PIECE ((size_t)256 * 1024)

enum phase { COLLECT, HANDLE, REPLY };

struct http_service {
    struct http_service_config config;
    unsigned refs; /* the owner and every call; loop thread */
};

struct service_call {
    struct http_call pub;
    struct http_service *service;
    struct http_exchange *x; /* NULL once closed */
    struct loop *loop;
    enum phase phase;
    bool answered;   /* an early answer (413, 500) was given: the rest is ignored */
    struct buf text; /* owned strings of the request */
    struct http_header *headers;

    bool spooling, paused, collected;
    struct sha256 *sha; /* owned while spooling */
    uv_work_t job;
    bool job_running;
    struct buf piece; /* owned by the job while it runs */
    int job_result;

    uint64_t max_body;
    uint64_t sent, reply_total;
};

static void call_free(struct service_call *c)
{
    if (--c->service->refs == 0)
        free(c->service);
    cleanup_close(&c->pub.body_fd);
    cleanup_close(&c->pub.reply_fd);
    buf_done(&c->pub.body);
    buf_done(&c->pub.reply);
    buf_done(&c->pub.reply_headers);
    buf_done(&c->piece);
    buf_done(&c->text);
    sha256_free(c->sha);
    free(c->headers);
    free(c);
}

static void call_release(struct service_call *c)
{
    if (!c->x && !c->job_running && c->phase != HANDLE)
        call_free(c);
}

void http_call_header(struct http_call *c, const char *name, const char *fmt, ...)
{
    char value[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    bool bad = n < 0 || (size_t)n >= sizeof value || strpbrk(value, "\r\n") ||
               !field_name_valid(slice_from(name));
    /* A lone newline cannot come from a good field: the sender answers 500 when it sees one. */
    if ((bad ? buf_adds(&c->reply_headers, "\n")
             : buf_addf(&c->reply_headers, "%s: %s\r\n", name, value)) < 0)
        abort(); /* no ceiling is set: only an exhausted machine gets here */
}

/* ---- reply ---- */

static void answer_bare(struct service_call *c, int status)
{
    static const struct http_header h[] = {{SLICE("content-length"), SLICE("0")},
                                           {SLICE("retry-after"), SLICE("1")}};
    c->answered = true;
    if (!c->x)
        return;
    http_respond(c->x, status, h, status == 503 ? 2 : 1);
    http_end(c->x, NULL, 0);
}

/* Splits "Name: value\r\n" lines; -EINVAL when one is not of that form. */
static int reply_fields(struct service_call *c, struct fields *f)
{
    if (!c->pub.reply_headers.len)
        return 0;
    const char *p = c->pub.reply_headers.data, *end = p + c->pub.reply_headers.len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *colon = nl ? memchr(p, ':', (size_t)(nl - p)) : NULL;
        if (!nl || nl == p || nl[-1] != '\r' || !colon)
            return -EINVAL;
        struct slice name = {p, (size_t)(colon - p)};
        struct slice value = {colon + 2, (size_t)(nl - 1 - (colon + 2))};
        if (!slice_eq_nocase(name, "content-length") &&
            fields_add(f, name.p, name.n, value.p, value.n) < 0)
            return -ENOMEM;
        p = nl + 1;
    }
    return 0;
}

static void reply_pump(struct service_call *c);

static void read_piece(uv_work_t *job)
{
    struct service_call *c = CONTAINER_OF(job, struct service_call, job);
    uint64_t left = c->reply_total - c->sent;
    size_t n = left < PIECE ? (size_t)left : PIECE;
    buf_clear(&c->piece);
    c->job_result = buf_reserve(&c->piece, n);
    while (c->job_result == 0 && c->piece.len < n) {
        ssize_t r = pread(c->pub.reply_fd, c->piece.data + c->piece.len, n - c->piece.len,
                          (off_t)(c->pub.reply_offset + c->sent + c->piece.len));
        if (r > 0)
            c->piece.len += (size_t)r;
        else if (r == 0)
            c->job_result = -EIO; /* the file is shorter than announced */
        else if (errno != EINTR)
            c->job_result = -errno;
    }
}

static void on_piece_read(uv_work_t *job, int status)
{
    struct service_call *c = CONTAINER_OF(job, struct service_call, job);
    (void)status; /* never cancelled */
    c->job_running = false;
    if (!c->x) {
        call_release(c);
        return;
    }
    if (c->job_result < 0) {
        log_warn("http", "reading a reply body: %s", strerror(-c->job_result));
        http_abort(c->x);
        return;
    }
    c->sent += c->piece.len;
    if (http_write(c->x, c->piece.data, c->piece.len) || c->sent == c->reply_total)
        reply_pump(c);
}

static void reply_pump(struct service_call *c)
{
    while (c->sent < c->reply_total) {
        if (c->job_running)
            return;
        if (c->pub.reply_fd >= 0) {
            c->job_running =
                uv_queue_work(loop_uv(c->loop), &c->job, read_piece, on_piece_read) == 0;
            if (!c->job_running)
                http_abort(c->x);
            return;
        }
        uint64_t left = c->reply_total - c->sent;
        size_t n = left < PIECE ? (size_t)left : PIECE;
        const char *p = c->pub.reply.data + c->sent;
        c->sent += n;
        if (!http_write(c->x, p, n) && c->sent < c->reply_total)
            return;
    }
    http_end(c->x, NULL, 0);
}

static void add_date(struct fields *f)
{
    char date[48];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    size_t n = strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (fields_add(f, "date", 4, date, n) < 0)
        log_debug("http", "no memory for a date field"); /* harms nobody */
}

static void reply_start(struct service_call *c)
{
    CLEANUP(fields_done)
    struct fields f = {0};
    char length[24];
    int status = c->pub.status;
    c->reply_total = c->pub.reply_fd >= 0 ? c->pub.reply_size : c->pub.reply.len;
    bool bodyless = status == 204 || status == 304;
    int n = snprintf(length, sizeof length, "%llu", (unsigned long long)c->reply_total);
    add_date(&f);
    if (status < 200 || status > 599 || reply_fields(c, &f) < 0 ||
        (!bodyless && fields_add(&f, "content-length", 14, length, (size_t)n) < 0)) {
        log_error("http", "%s %s: the handler's answer is not valid HTTP", c->pub.method,
                  c->pub.target);
        answer_bare(c, 500);
        return;
    }
    http_respond(c->x, status, fields_view(&f), f.n);
    if (bodyless || strcmp(c->pub.method, "HEAD") == 0)
        c->sent = c->reply_total;
    reply_pump(c);
}

static void on_handled(void *arg)
{
    struct service_call *c = arg;
    c->phase = REPLY;
    if (c->x)
        reply_start(c);
    else
        call_release(c);
}

/* ---- handler ---- */

static void run_handler(void *arg)
{
    struct service_call *c = arg;
    if (c->sha) {
        unsigned char digest[SHA256_LEN];
        sha256_end(TAKE(c->sha), digest);
        for (size_t i = 0; i < SHA256_LEN; i++)
            snprintf(c->pub.body_sha256 + 2 * i, 3, "%02x", digest[i]);
    } else {
        sha256_hex_of(c->pub.body.data, c->pub.body.len, c->pub.body_sha256);
    }
    bool at_start = c->pub.body_fd < 0 || lseek(c->pub.body_fd, 0, SEEK_SET) == 0;
    if (at_start)
        c->service->config.fn(&c->pub, c->service->config.arg);
    else
        c->pub.status = 500;
    cleanup_close(&c->pub.body_fd);
    c->pub.body_fd = -1;
    loop_post(c->loop, on_handled, c);
}

static void start_handler(struct service_call *c)
{
    if (c->answered || !c->x)
        return;
    c->phase = HANDLE;
    if (workers_submit(c->service->config.workers, run_handler, c) == 0)
        return;
    c->phase = COLLECT;
    answer_bare(c, 503);
}

/* ---- body ---- */

static void collect_next(struct service_call *c);

static void write_piece(uv_work_t *job)
{
    struct service_call *c = CONTAINER_OF(job, struct service_call, job);
    if (c->pub.body_fd < 0)
        c->pub.body_fd = open(c->service->config.spool_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    c->job_result = c->pub.body_fd < 0 ? -errno : 0;
    if (c->job_result == 0)
        c->job_result = fs_write_all(c->pub.body_fd, c->piece.data, c->piece.len);
    sha256_add(c->sha, c->piece.data, c->piece.len);
    buf_clear(&c->piece);
}

static void on_piece_written(uv_work_t *job, int status)
{
    struct service_call *c = CONTAINER_OF(job, struct service_call, job);
    (void)status; /* never cancelled */
    c->job_running = false;
    if (!c->x) {
        call_release(c);
        return;
    }
    if (c->job_result < 0 && !c->answered) {
        log_error("http", "spooling a request body to %s: %s", c->service->config.spool_dir,
                  strerror(-c->job_result));
        answer_bare(c, c->job_result == -ENOSPC ? 507 : 500);
    }
    collect_next(c);
}

/* Decides what happens to the bytes collected so far. */
static void collect_next(struct service_call *c)
{
    if (c->answered || c->job_running)
        return;
    if (c->spooling && (c->pub.body.len >= PIECE || (c->collected && c->pub.body.len))) {
        struct buf empty = c->piece;
        c->piece = c->pub.body;
        c->pub.body = empty;
        c->job_running =
            uv_queue_work(loop_uv(c->loop), &c->job, write_piece, on_piece_written) == 0;
        if (!c->job_running) {
            answer_bare(c, 500);
            return;
        }
    } else if (c->collected) {
        start_handler(c);
        return;
    }
    if (c->paused && c->pub.body.len < PIECE) {
        c->paused = false;
        http_body_resume(c->x);
    }
}

static void on_body(struct http_exchange *x, const char *p, size_t n, void *ctx)
{
    struct service_call *c = ctx;
    if (c->answered || c->pub.refused)
        return;
    c->pub.body_size += n;
    if (c->pub.body_size > c->max_body) {
        answer_bare(c, 413);
        return;
    }
    if (!c->spooling && c->pub.body_size > c->service->config.max_in_memory) {
        c->spooling = true;
        c->sha = sha256_new();
    }
    if (buf_add(&c->pub.body, p, n) < 0) {
        answer_bare(c, 503);
        return;
    }
    collect_next(c);
    if (c->job_running && c->pub.body.len >= PIECE && !c->paused) {
        c->paused = true;
        http_body_pause(x);
    }
}

static void on_end(struct http_exchange *x, const struct http_header *trailers, size_t n, void *ctx)
{
    struct service_call *c = ctx;
    (void)x, (void)trailers, (void)n;
    if (c->pub.refused)
        return;
    c->collected = true;
    collect_next(c);
}

static void on_writable(struct http_exchange *x, void *ctx)
{
    struct service_call *c = ctx;
    (void)x;
    if (c->phase == REPLY && !c->answered)
        reply_pump(c);
}

static void on_close(struct http_exchange *x, void *ctx)
{
    struct service_call *c = ctx;
    (void)x;
    c->x = NULL;
    call_release(c);
}

static const struct http_exchange_ops service_ops = {
    .on_body = on_body,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_close = on_close,
};

/* ---- request ---- */

static int text_add(struct buf *text, struct slice s)
{
    int r = buf_add(text, s.p, s.n);
    return r < 0 ? r : buf_add(text, "", 1);
}

/* One allocation for all strings, sized first: pointers into it stay valid while it is filled. */
static int copy_request(struct service_call *c, const struct http_request *r)
{
    size_t need = r->method.n + r->target.n + r->authority.n + 3;
    for (size_t i = 0; i < r->n_headers; i++)
        need += r->headers[i].name.n + r->headers[i].value.n + 2;
    c->headers = calloc(r->n_headers ? r->n_headers : 1, sizeof *c->headers);
    if (!c->headers || buf_reserve(&c->text, need) < 0)
        return -ENOMEM;
    const char *base = c->text.data;
    struct slice words[] = {r->method, r->target, r->authority};
    const char **to[] = {&c->pub.method, &c->pub.target, &c->pub.authority};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        *to[i] = base + c->text.len;
        if (text_add(&c->text, words[i]) < 0)
            return -ENOMEM;
    }
    for (size_t i = 0; i < r->n_headers; i++) {
        c->headers[i].name = (struct slice){base + c->text.len, r->headers[i].name.n};
        if (text_add(&c->text, r->headers[i].name) < 0)
            return -ENOMEM;
        c->headers[i].value = (struct slice){base + c->text.len, r->headers[i].value.n};
        if (text_add(&c->text, r->headers[i].value) < 0)
            return -ENOMEM;
    }
    c->pub.headers = c->headers;
    c->pub.n_headers = r->n_headers;
    return 0;
}

static void on_request(struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct http_service *s = arg;
    struct service_call *c = calloc(1, sizeof *c);
    if (!c) {
        http_abort(x);
        return;
    }
    s->refs++;
    c->service = s;
    c->x = x;
    c->loop = x->loop;
    c->pub.body_fd = c->pub.reply_fd = -1;
    c->max_body = s->config.is_large && s->config.is_large(r->method, r->target)
                      ? s->config.max_large
                      : s->config.max_body;
    http_exchange_set(x, &service_ops, c);
    struct slice cl;
    uint64_t length = 0;
    if (http_header_find(r->headers, r->n_headers, "content-length", &cl) &&
        (field_parse_length(cl, &length) < 0 || length > c->max_body))
        answer_bare(c, 413);
    else if (copy_request(c, r) < 0)
        answer_bare(c, 503);
    else if (r->expects_body && s->config.admit && !s->config.admit(&c->pub, s->config.arg)) {
        c->pub.refused = true;
        http_body_pause(x); /* nor is it asked for with 100; the answer's end resumes */
        start_handler(c);
    }
}

int http_service_new(const struct http_service_config *c, struct http_service **ret, struct err *e)
{
    struct http_service *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    s->config = *c;
    s->refs = 1;
    *ret = s;
    return 0;
}

void http_service_free(struct http_service *s)
{
    if (s && --s->refs == 0)
        free(s);
}

struct http_handler http_service_handler(struct http_service *s)
{
    return (struct http_handler){.on_request = on_request, .arg = s};
}
