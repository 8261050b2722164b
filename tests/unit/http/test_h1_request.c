/* SPDX-License-Identifier: Apache-2.0 */
/* The request parser: what a table row says goes in, the recorded events must come out, however
 * the input is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/h1_request.h"

struct row {
    const char *name, *input;
    int status;         /* expected answer, 0 = accepted */
    const char *events; /* "METHOD target authority|k=v,...|body|E k=v,..." per message */
};

#define OK_HEAD "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct row rows[] = {
    {"get", "GET /x?y=1 HTTP/1.1\r\nHost: h:80\r\nA: b \r\n\r\n", 0,
     "GET /x?y=1 h:80 k|host=h:80,a=b,||E;"},
    {"crlf before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, "GET / a k|host=a,||E;"},
    {"two crlf before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
    {"empty value", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n", 0,
     "GET / a k|host=a,x=,y=,||E;"},
    {"http/1.0", "GET / HTTP/1.0\r\n\r\n", 0, "GET /  c|||E;"},
    {"http/1.0 keep", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0,
     "GET /  k|connection=keep-alive,||E;"},
    {"close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", 0,
     "GET / a c|host=a,connection=foo, Close,||E;"},
    {"absolute", "GET http://b:1/p HTTP/1.1\r\nHost: a\r\n\r\n", 0, "GET /p b:1 k|host=a,||E;"},
    {"absolute bare", "GET https://b HTTP/1.1\r\nHost: a\r\n\r\n", 0, "GET / b k|host=a,||E;"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0, "OPTIONS * a k|host=a,||E;"},
    {"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 0,
     "GET / a ku|host=a,connection=Upgrade,upgrade=websocket,||E;"},
    {"upgrade with body", OK_HEAD "Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nz",
     0, "POST / a kb|host=a,connection=Upgrade,upgrade=x,content-length=1,|z|E;"},
    {"length", OK_HEAD "Content-Length: 5\r\n\r\nhello", 0,
     "POST / a kb|host=a,content-length=5,|hello|E;"},
    {"length zero", OK_HEAD "Content-Length: 0\r\n\r\n", 0,
     "POST / a k|host=a,content-length=0,||E;"},
    {"pipelined", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 0,
     "GET /1 a k|host=a,||E;GET /2 a k|host=a,||E;"},
    {"pipelined body", OK_HEAD "Content-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 0,
     "POST / a kb|host=a,content-length=2,|hi|E;GET /2 a k|host=a,||E;"},
    {"chunked",
     OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n, world!!!\r\n0\r\n\r\n", 0,
     "POST / a kb|host=a,transfer-encoding=chunked,|hello, world!!!|E;"},
    {"trailers",
     OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: v \r\nHost: "
             "evil\r\nContent-Length: 9\r\n\r\n",
     0, "POST / a kb|host=a,transfer-encoding=chunked,|x|E t=v,;"},
    {"expect", OK_HEAD "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", 0,
     "POST / a kbx|host=a,expect=100-Continue,content-length=1,|x|E;"},
    {"tab value", "GET / HTTP/1.1\r\nHost: a\r\nX:\ta\tb\t\r\n\r\n", 0,
     "GET / a k|host=a,x=a\tb,||E;"},

    {"no host", "GET / HTTP/1.1\r\n\r\n", 400, ""},
    {"connect", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
    {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, ""},
    {"bad host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, ""},
    {"userinfo host", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, ""},
    {"bare lf", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, ""},
    {"bare lf end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, ""},
    {"bare cr", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, ""},
    {"nul", NULL, 400, ""}, /* built in the test: a NUL inside a value */
    {"obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, ""},
    {"space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, ""},
    {"no colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400, ""},
    {"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400, ""},
    {"both lengths", OK_HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
    {"both lengths 2", OK_HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, ""},
    {"two lengths", OK_HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, ""},
    {"same lengths", OK_HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, ""},
    {"list length", OK_HEAD "Content-Length: 5, 5\r\n\r\n", 400, ""},
    {"plus length", OK_HEAD "Content-Length: +5\r\n\r\n", 400, ""},
    {"negative length", OK_HEAD "Content-Length: -5\r\n\r\n", 400, ""},
    {"huge length", OK_HEAD "Content-Length: 99999999999999999999\r\n\r\n", 400, ""},
    {"empty length", OK_HEAD "Content-Length: \r\n\r\n", 400, ""},
    {"te identity", OK_HEAD "Transfer-Encoding: identity\r\n\r\n", 400, ""},
    {"te xchunked", OK_HEAD "Transfer-Encoding: xchunked\r\n\r\n", 400, ""},
    {"te twice", OK_HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
     ""},
    {"te list", OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", 400, ""},
    {"te not last", OK_HEAD "Transfer-Encoding: chunked, identity\r\n\r\n", 400, ""},
    {"te vertical tab",
     OK_HEAD "Transfer-Encoding: \x0b"
             "chunked\r\n\r\n",
     400, ""},
    {"te 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
    {"connect", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
    {"absolute other", "GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
    {"relative", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
    {"version 2", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, ""},
    {"version 1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, ""},
    {"version 0.9", "GET /\r\n\r\n", 505, ""},
    {"not http", "\x16\x03\x01\x02", 0, ""}, /* incomplete: nothing yet */
    {"unknown method", "FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
    {"expect other", OK_HEAD "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417, ""},
    {"chunk bare lf", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"chunk no crlf", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|hello"},
    {"chunk cr x", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\rXhello\r\n0\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"chunk ends lf", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"chunk space", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"chunk 0x", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"chunk overflow", OK_HEAD "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"chunk empty", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"trailer fold", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
    {"trailer no colon", OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\nAb\r\n\r\n", 400,
     "POST / a kb|host=a,transfer-encoding=chunked,|"},
};

struct record {
    struct h1_request *codec;
    struct buf log;
};

static void rec(struct record *r, const char *p, size_t n)
{
    assert_int_equal(buf_add(&r->log, p, n), 0);
}

static void rec_fields(struct record *r, const struct http_header *h, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_addf(&r->log, "%.*s=%.*s,", (int)h[i].name.n, h[i].name.p,
                                  (int)h[i].value.n, h[i].value.p),
                         0);
}

static void on_head(const struct h1_head *h, void *arg)
{
    struct record *r = arg;
    const struct http_request *q = &h->request;
    assert_int_equal(buf_addf(&r->log, "%.*s %.*s %.*s %s%s%s%s|", (int)q->method.n, q->method.p,
                              (int)q->target.n, q->target.p, (int)q->authority.n, q->authority.p,
                              h->keep_alive ? "k" : "c", q->upgrade ? "u" : "",
                              q->expects_body ? "b" : "", h->expect_continue ? "x" : ""),
                     0);
    rec_fields(r, q->headers, q->n_headers);
    rec(r, "|", 1);
}

static void on_body(const char *p, size_t n, void *arg)
{
    rec(arg, p, n);
}

static void on_end(const struct http_header *t, size_t n, void *arg)
{
    rec(arg, "|E", 2);
    if (n)
        rec(arg, " ", 1);
    rec_fields(arg, t, n);
    rec(arg, ";", 1);
}

static const struct h1_request_ops ops = {on_head, on_body, on_end};
static const struct http_limits limits = {.header_bytes = 4096, .headers = 20};

/* Feeds in pieces of at most step bytes; returns the status. */
static int run(struct record *r, const char *p, size_t n, size_t step)
{
    assert_int_equal(h1_request_new(&limits, &ops, r, &r->codec), 0);
    int status = 0;
    while (n && !status) {
        size_t give = n < step ? n : step, used;
        status = h1_request_feed(r->codec, p, give, &used);
        assert_true(used <= give);
        p += used;
        n -= used;
        if (h1_request_state(r->codec) == H1_END)
            h1_request_next(r->codec);
        else if (!status)
            assert_int_equal(used, give); /* nothing is left over inside a message */
    }
    h1_request_free(r->codec);
    return status;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static const char nul[] = "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n";
        const char *in = rows[i].input ? rows[i].input : nul;
        size_t n = rows[i].input ? strlen(in) : sizeof nul - 1;
        for (size_t step = 1; step <= n; step++) {
            struct record r = {0};
            int status = run(&r, in, n, step);
            const char *got = r.log.data ? r.log.data : "";
            if (status != rows[i].status || strcmp(got, rows[i].events) != 0)
                fail_msg("%s, step %zu: status %d, '%s'", rows[i].name, step, status, got);
            buf_done(&r.log);
        }
    }
}

static int status_of(struct buf *b)
{
    struct record r = {0};
    int status = run(&r, b->data, b->len, 7);
    buf_done(&r.log);
    buf_done(b);
    return status;
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(buf_adds(&b, "GET / HTTP/1.1\r\nHost: a\r\n"), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(buf_addf(&b, "x%d: 1\r\n", i), 0);
    assert_int_equal(buf_adds(&b, "\r\n"), 0);
    assert_int_equal(status_of(&b), 431);

    assert_int_equal(buf_adds(&b, "GET /"), 0);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(buf_adds(&b, "a"), 0);
    assert_int_equal(status_of(&b), 431);

    assert_int_equal(buf_adds(&b, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n"), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_adds(&b, "a: b\r\n"), 0);
    assert_int_equal(status_of(&b), 431);

    assert_int_equal(buf_adds(&b, OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"), 0);
    for (int i = 0; i < 1000; i++) /* extensions are counted over the whole message */
        assert_int_equal(buf_adds(&b, "1;aaaaaaaaaaaaaaaaaaaa\r\nx\r\n"), 0);
    assert_int_equal(status_of(&b), 431);
}

static void pausing_body(const char *p, size_t n, void *arg)
{
    struct record *r = arg;
    rec(r, p, n);
    h1_request_pause(r->codec, true);
}

static void test_pause(void **state)
{
    (void)state;
    static const struct h1_request_ops pausing = {on_head, pausing_body, on_end};
    static const char in[] =
        OK_HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
    struct record r = {0};
    size_t at = 0, used;
    assert_int_equal(h1_request_new(&limits, &pausing, &r, &r.codec), 0);
    int resumes = 0;
    while (at < sizeof in - 1) {
        assert_int_equal(h1_request_feed(r.codec, in + at, sizeof in - 1 - at, &used), 0);
        at += used;
        assert_int_equal(h1_request_feed(r.codec, in + at, sizeof in - 1 - at, &used), 0);
        if (h1_request_state(r.codec) == H1_BODY) {
            assert_int_equal(used, 0); /* paused means paused */
            h1_request_pause(r.codec, false);
            resumes++;
        }
    }
    assert_int_equal(resumes, 2);
    assert_non_null(strstr(r.log.data, "|ab|E;"));
    h1_request_free(r.codec);
    buf_done(&r.log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_pause),
    };
    return cmocka_run_group_tests_name("http.h1_request", tests, NULL, NULL);
}
