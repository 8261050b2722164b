/* SPDX-License-Identifier: Apache-2.0 */
/* The response parser, by table, with every cut of the input. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/h1_response.h"

struct row {
    const char *name, *input;
    bool head_only, may_switch;
    const char *events; /* "status ...|body|E" with k = keep-alive, ! = error, ^ = upgraded */
    const char *rest;   /* what must be left over */
};

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct row rows[] = {
    {"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: B\r\n\r\nhello", false, false,
     "200 L5 content-length=5,a=B,|hello|E k", ""},
    {"zero", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, false,
     "200 L0 content-length=0,||E k", ""},
    {"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, false,
     "200 L0 content-length=0,||E k", ""},
    {"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", false, false,
     "200 L1 connection=close,content-length=1,|x|E", ""},
    {"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", false, false,
     "200 L1 content-length=1,|x|E", ""},
    {"1.0 keep", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", false,
     false, "200 L1 connection=keep-alive,content-length=1,|x|E k", ""},
    {"eof", "HTTP/1.1 200 OK\r\n\r\nall the rest", false, false, "200 |all the rest|E", ""},
    {"chunked", CHUNKED "3\r\nabc\r\n0\r\n\r\n", false, false,
     "200 transfer-encoding=chunked,|abc|E k", ""},
    {"trailers", CHUNKED "0\r\nGrpc-Status: 0\r\n\r\n", false, false,
     "200 transfer-encoding=chunked,||E grpc-status=0, k", ""},
    {"cut chunked", CHUNKED "3\r\nab", false, false, "200 transfer-encoding=chunked,|ab!", ""},
    {"cut length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", false, false,
     "200 L5 content-length=5,|he!", ""},
    {"cut head", "HTTP/1.1 200 OK\r\nConte", false, false, "!", ""},
    {"nothing", "", false, false, "!", ""},
    {"head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, false,
     "200 L5 content-length=5,||E k", ""},
    {"head chunked", CHUNKED, true, false, "200 transfer-encoding=chunked,||E k", ""},
    {"204", "HTTP/1.1 204 No\r\n\r\n", false, false, "204 ||E k", ""},
    {"304", "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", false, false,
     "304 L9 content-length=9,||E k", ""},
    {"continue",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 "
     "OK\r\nContent-Length: 0\r\n\r\n",
     false, false, "(100 )(103 link=x,)200 L0 content-length=0,||E k", ""},
    {"switch", "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00", false,
     true, "101 upgrade=websocket,connection=Upgrade,|^", "\x81"},
    {"unasked switch", "HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", false, false, "!", ""},
    {"leftover", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxyz", false, false,
     "200 L1 content-length=1,|x|E k", "yz"},
    {"bare lf", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", false, false,
     "200 L1 content-length=1,|x|E k", ""},
    {"folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", false, false,
     "200 L0 a=b  c,content-length=0,||E k", ""},
    {"same lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx", false, false, "!", ""},
    {"other lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", false,
     false, "!", ""},
    {"both",
     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: "
     "chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
     false, false, "!", ""},
    {"gzip coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false, false,
     "!", ""},
    {"bad chunk", CHUNKED "zz\r\n", false, false, "200 transfer-encoding=chunked,|!", ""},
    {"bad status", "HTTP/1.1 099 X\r\n\r\n", false, false, "!", ""},
    {"status 600", "HTTP/1.1 600 X\r\n\r\n", false, false, "!", ""},
    {"h2", "HTTP/2.0 200 OK\r\n\r\n", false, false, "!", ""},
    {"garbage", "SSH-2.0-OpenSSH\r\n\r\n", false, false, "!", ""},
    {"nul", NULL, false, false, "!", ""},
};

static void fields(struct buf *b, const struct http_header *h, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_addf(b, "%.*s=%.*s,", (int)h[i].name.n, h[i].name.p, (int)h[i].value.n,
                                  h[i].value.p),
                         0);
}

static void on_interim(const struct h1_response_info *r, void *arg)
{
    assert_int_equal(buf_addf(arg, "(%d ", r->status), 0);
    fields(arg, r->headers, r->n_headers);
    assert_int_equal(buf_adds(arg, ")"), 0);
}

static void on_head(const struct h1_response_info *r, void *arg)
{
    assert_int_equal(buf_addf(arg, "%d ", r->status), 0);
    if (r->has_length)
        assert_int_equal(buf_addf(arg, "L%d ", (int)r->length), 0);
    fields(arg, r->headers, r->n_headers);
    assert_int_equal(buf_adds(arg, "|"), 0);
}

static void on_body(const char *p, size_t n, void *arg)
{
    assert_int_equal(buf_add(arg, p, n), 0);
}

static void on_end(const struct http_header *t, size_t n, void *arg)
{
    assert_int_equal(buf_adds(arg, n ? "|E " : "|E"), 0);
    fields(arg, t, n);
}

static const struct h1_response_ops ops = {on_interim, on_head, on_body, on_end};
static const struct http_limits limits = {.header_bytes = 4096, .headers = 20};

/* Feeds with the given step; returns what was left over. */
static const char *run(const struct row *row, const char *p, size_t n, size_t step, struct buf *log)
{
    struct h1_response *c;
    assert_int_equal(h1_response_new(&limits, &ops, log, &c), 0);
    h1_response_start(c, row->head_only, row->may_switch);
    assert_true(h1_response_is_fresh(c));
    int r = 0;
    while (n && r == 0 && h1_response_state(c) < H1_END) {
        size_t give = n < step ? n : step, used;
        r = h1_response_feed(c, p, give, &used);
        p += used;
        n -= used;
    }
    if (r == 0)
        r = h1_response_eof(c);
    if (r < 0)
        assert_int_equal(buf_adds(log, "!"), 0);
    else if (h1_response_state(c) == H1_UPGRADED)
        assert_int_equal(buf_adds(log, "^"), 0);
    else if (h1_response_keep_alive(c))
        assert_int_equal(buf_adds(log, " k"), 0);
    h1_response_free(c);
    return r < 0 ? "" : p;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static const char nul[] = "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n";
        const char *in = rows[i].input ? rows[i].input : nul;
        size_t n = rows[i].input ? strlen(in) : sizeof nul - 1;
        for (size_t step = 1; step <= n + 1; step++) {
            struct buf log = {0};
            const char *rest = run(&rows[i], in, n, step, &log);
            if (strcmp(log.data, rows[i].events) != 0 || strcmp(rest, rows[i].rest) != 0)
                fail_msg("%s, step %zu: '%s' rest '%s'", rows[i].name, step, log.data, rest);
            buf_done(&log);
        }
    }
}

static void test_endless_interim(void **state)
{
    struct h1_response *c;
    struct buf log = {0};
    size_t used;
    int r = 0, n = 0;
    (void)state;
    assert_int_equal(h1_response_new(&limits, &ops, &log, &c), 0);
    h1_response_start(c, false, false);
    for (; r == 0 && n < 1000; n++)
        r = h1_response_feed(c, "HTTP/1.1 103 E\r\n\r\n", 18, &used);
    assert_int_equal(r, -EMSGSIZE);
    assert_int_equal(n, 17);
    h1_response_free(c);
    buf_done(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_endless_interim),
    };
    return cmocka_run_group_tests_name("http.h1_response", tests, NULL, NULL);
}
