/* SPDX-License-Identifier: Apache-2.0 */
#include "app.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct app {
    char path[64];
    struct http_exchange *x;
    uint64_t left; /* /size: bytes still to send */
    bool upgraded;
};

atomic_uint app_opened;
atomic_uint app_closed;

static void send_more(struct app *a)
{
    static const char block[16384];
    while (a->left) {
        size_t n = a->left < sizeof block ? (size_t)a->left : sizeof block;
        a->left -= n;
        if (!http_write(a->x, block, n) && a->left)
            return;
    }
    http_end(a->x, NULL, 0);
}

static void on_body(struct http_exchange *x, const char *p, size_t n, void *ctx)
{
    struct app *a = ctx;
    if (strcmp(a->path, "/sink") == 0 || strcmp(a->path, "/hang") == 0)
        return;
    if (!http_write(x, p, n))
        http_body_pause(x);
}

static void on_end(struct http_exchange *x, const struct http_header *t, size_t n, void *ctx)
{
    struct app *a = ctx;
    struct http_header done = {SLICE("x-done"), SLICE("yes")};
    struct http_header all[8] = {done};
    if (strcmp(a->path, "/sink") == 0) {
        http_respond(x, 200, NULL, 0);
        http_end(x, NULL, 0);
    } else if (strcmp(a->path, "/echo") == 0) {
        for (size_t i = 0; i < n && i < 7; i++)
            all[i + 1] = t[i];
        http_end(x, all, 1 + (n < 7 ? n : 7));
    } else if (a->upgraded) {
        http_end(x, NULL, 0);
    }
}

static void on_writable(struct http_exchange *x, void *ctx)
{
    struct app *a = ctx;
    if (strncmp(a->path, "/size/", 6) == 0)
        send_more(a);
    else
        http_body_resume(x);
}

static void on_close(struct http_exchange *x, void *ctx)
{
    (void)x;
    atomic_fetch_add(&app_closed, 1);
    free(ctx);
}

static const struct http_exchange_ops app_ops = {on_body, on_end, on_writable, on_close};

static void answer_text(struct http_exchange *x, int status, const char *text)
{
    char length[24];
    snprintf(length, sizeof length, "%zu", strlen(text));
    struct http_header h[] = {{SLICE("content-type"), SLICE("text/plain")},
                              {SLICE("content-length"), slice_from(length)}};
    http_respond(x, status, h, 2);
    http_write(x, text, strlen(text));
    http_end(x, NULL, 0);
}

static void answer_info(struct http_exchange *x, const struct http_request *r)
{
    struct buf b = {0};
    int bad = buf_addf(&b, "%d %.*s %.*s %.*s sni=%.*s\n", r->version, (int)r->method.n,
                       r->method.p, (int)r->target.n, r->target.p, (int)r->authority.n,
                       r->authority.p, (int)r->sni.n, r->sni.p);
    for (size_t i = 0; i < r->n_headers; i++)
        bad |= buf_addf(&b, "%.*s: %.*s\n", (int)r->headers[i].name.n, r->headers[i].name.p,
                        (int)r->headers[i].value.n, r->headers[i].value.p);
    if (bad)
        abort();
    answer_text(x, 200, b.data);
    buf_done(&b);
}

static void on_request(struct http_exchange *x, const struct http_request *r, void *arg)
{
    struct app *a = calloc(1, sizeof *a);
    struct http_header up = {SLICE("upgrade"), SLICE("echo")};
    (void)arg;
    if (!a)
        abort();
    snprintf(a->path, sizeof a->path, "%.*s", (int)r->target.n, r->target.p);
    a->x = x;
    atomic_fetch_add(&app_opened, 1);
    http_exchange_set(x, &app_ops, a);
    if (strcmp(a->path, "/info") == 0) {
        answer_info(x, r);
    } else if (strcmp(a->path, "/echo") == 0) {
        http_respond(x, 200, NULL, 0);
    } else if (strcmp(a->path, "/early") == 0) {
        answer_text(x, 403, "no");
    } else if (strcmp(a->path, "/hints") == 0) {
        struct http_header link = {SLICE("link"), SLICE("</a>")};
        http_respond(x, 103, &link, 1);
        answer_text(x, 200, "ok");
    } else if (strcmp(a->path, "/short") == 0) {
        struct http_header cl = {SLICE("content-length"), SLICE("10")};
        http_respond(x, 200, &cl, 1);
        http_write(x, "abc", 3);
        http_end(x, NULL, 0);
    } else if (strncmp(a->path, "/size/", 6) == 0) {
        a->left = strtoull(a->path + 6, NULL, 10);
        http_respond(x, 200, NULL, 0);
        send_more(a);
    } else if (strncmp(a->path, "/status/", 8) == 0) {
        http_respond(x, atoi(a->path + 8), NULL, 0);
        http_end(x, NULL, 0);
    } else if (r->upgrade) {
        a->upgraded = true;
        http_upgrade(x, &up, 1);
        http_write(x, "hello ", 6);
    } else if (strcmp(a->path, "/sink") != 0 && strcmp(a->path, "/hang") != 0) {
        answer_text(x, 404, "nothing here");
    }
}

const struct http_handler app = {.on_request = on_request};

/* Waits for every exchange to have been closed: none may leak or hang. */
void app_all_closed(void)
{
    for (int i = 0; i < 1000 && atomic_load(&app_opened) != atomic_load(&app_closed); i++)
        usleep(10 * 1000);
    assert_int_equal(atomic_load(&app_opened), atomic_load(&app_closed));
}
