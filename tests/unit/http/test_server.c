/* SPDX-License-Identifier: Apache-2.0 */
/* The server against curl, nghttp, h2load and raw sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "app.h"
#include "base/clock.h"
#include "rig.h"

/* ---- tests ---- */

static void check_sh(const struct rig *r, const char *what, const char *command, const char *expect)
{
    struct buf out = {0};
    rig_sh(r, &out, command);
    if (strcmp(out.data, expect) != 0)
        fail_msg("%s: got '%.2000s', expected '%s'", what, out.data, expect);
    buf_done(&out);
}

/* The same conversations over each transport; CURL carries the flags and the scheme. */
static const struct {
    const char *name, *command, *expect;
} talks[] = {
    {"status", "CURL -o /dev/null -w '%{http_code}' URL/none", "404"},
    {"204", "CURL -w '%{http_code}' URL/status/204", "204"},
    {"304", "CURL -w '%{http_code}' URL/status/304", "304"},
    {"head", "CURL -I URL/none | tr -d '\\r' | grep -ic 'content-length: 12'", "1\n"},
    {"head chunked", "CURL -I -w '%{http_code}' -o /dev/null URL/size/1000", "200"},
    {"early hints", "CURL URL/hints", "ok"},
    {"echo", "CURL -d hello URL/echo", "hello"},
    {"echo empty", "CURL -X POST URL/echo -o /dev/null -w '%{http_code} %{size_download}'",
     "200 0"},
    {"echo big", "head -c 30000000 /dev/zero | tr '\\0' x | CURL -T - URL/echo | sha256sum",
     "70c3028c6f67e8ccdb375415a8abda40690c3328bf70f1d7d03413e3384d1312  -\n"},
    {"download", "CURL URL/size/50000000 | wc -c", "50000000\n"},
    {"upload", "head -c 50000000 /dev/zero | CURL -T - URL/sink -o /dev/null -w '%{http_code}'",
     "200"},
    {"expect",
     "head -c 2000000 /dev/zero | CURL -H 'Expect: 100-continue' -T - URL/sink -o /dev/null -w "
     "'%{http_code}'",
     "200"},
    {"early", "head -c 1000000 /dev/zero | CURL -T - URL/early", "no"},
    {"early, expecting",
     "head -c 1000000 /dev/zero | CURL --expect100-timeout 30 -H 'Expect: 100-continue' -T - "
     "URL/early",
     "no"},
    {"two requests, one connection",
     "CURL -w '%{num_connects}' URL/hints -o /dev/null --next CURLARGS -w '%{num_connects}' "
     "URL/hints -o /dev/null",
     "10"},
    {"short body is an error", "CURL URL/short >/dev/null 2>&1; test $? -ne 0 && echo failed",
     "failed\n"},
    {"big header",
     "CURL -o /dev/null -w '%{http_code}' -H \"x: $(head -c 60000 /dev/zero | tr '\\0' y)\" "
     "URL/info",
     "431"},
    {"many headers",
     "CURL -o /dev/null -w '%{http_code}' $(for i in $(seq 60); do echo -H x$i:1; done) URL/info",
     "431"},
};

static void run_talks(const char *args, const char *url, bool tls, bool h2)
{
    struct rig r;
    struct http_limits l = {.header_bytes = 16384, .headers = 50};
    struct buf cmd = {0};
    rig_start(&r, app, &l, tls, h2);
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        /* curl 7.88 fails by itself when it reuses a prior-knowledge connection */
        if (strstr(args, "prior-knowledge") && strncmp(talks[i].name, "two requests", 12) == 0)
            continue;
        buf_clear(&cmd);
        for (const char *p = talks[i].command; *p; p++) {
            const char *sub = NULL;
            if (strncmp(p, "CURLARGS", 8) == 0)
                sub = args, p += 7;
            else if (strncmp(p, "CURL", 4) == 0)
                assert_int_equal(buf_adds(&cmd, "curl "), 0), sub = args, p += 3;
            else if (strncmp(p, "URL", 3) == 0)
                sub = url, p += 2;
            assert_int_equal(sub ? buf_adds(&cmd, sub) : buf_add(&cmd, p, 1), 0);
        }
        check_sh(&r, talks[i].name, cmd.data, talks[i].expect);
    }
    buf_done(&cmd);
    app_all_closed();
    rig_stop(&r);
}

static void test_h1_plain(void **state)
{
    (void)state;
    run_talks("-sS -m 60 --http1.1", "http://127.0.0.1:PORT", false, false);
}

static void test_h1_beside_h2(void **state)
{
    (void)state;
    run_talks("-sS -m 60 --http1.1", "http://127.0.0.1:PORT", false, true);
}

static void test_h2_plain(void **state)
{
    (void)state;
    run_talks("-sS -m 60 --http2-prior-knowledge", "http://127.0.0.1:PORT", false, true);
}

static void test_h1_tls(void **state)
{
    (void)state;
    run_talks("-sS -m 60 --http1.1 --cacert DIR/cert.pem", "https://localhost:PORT", true, true);
}

static void test_h2_tls(void **state)
{
    (void)state;
    run_talks("-sS -m 60 --http2 --cacert DIR/cert.pem", "https://localhost:PORT", true, true);
}

static void test_request_fields(void **state)
{
    struct rig r;
    struct buf out = {0};
    char want[256];
    (void)state;
    rig_start(&r, app, NULL, true, true);
    rig_sh(&r, &out, "curl -s --cacert DIR/cert.pem -A x https://localhost:PORT/info");
    snprintf(want, sizeof want,
             "20 GET /info localhost:%u sni=localhost\nuser-agent: x\naccept: */*\n", r.port);
    assert_string_equal(out.data, want);
    rig_sh(&r, &out, "curl -s --http1.1 --cacert DIR/cert.pem -A x https://localhost:PORT/info");
    snprintf(
        want, sizeof want,
        "11 GET /info localhost:%u sni=localhost\nhost: localhost:%u\nuser-agent: x\naccept: */*\n",
        r.port, r.port);
    assert_string_equal(out.data, want);
    rig_sh(&r, &out,
           "echo | openssl s_client -alpn foo -connect 127.0.0.1:PORT 2>&1 | grep -c 'no "
           "application protocol'");
    assert_string_equal(out.data, "1\n");
    rig_sh(&r, &out,
           "echo | openssl s_client -tls1_1 -connect 127.0.0.1:PORT 2>&1 | grep -c 'Cipher is "
           "(NONE)'");
    assert_string_equal(out.data, "1\n");
    buf_done(&out);
    rig_stop(&r);
}

static void test_trailers(void **state)
{
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, false, true);
    int fd = rig_connect(&r);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                 "Connection: close\r\n\r\n3\r\nabc\r\n0\r\nx-t: v\r\n\r\n");
    rig_read(fd, &out, NULL);
    assert_non_null(strstr(out.data, "3\r\nabc\r\n0\r\nx-done: yes\r\nx-t: v\r\n\r\n"));
    close(fd);
    rig_sh(&r, &out,
           "nghttp --trailer='x-t: v' -d /dev/null -v http://127.0.0.1:PORT/echo | grep -c 'recv "
           ".*x-\\(done: yes\\|t: v\\)'");
    assert_string_equal(out.data, "2\n");
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_pipelining(void **state)
{
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, false, false);
    int fd = rig_connect(&r);
    rig_send(
        fd,
        "GET /hints HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\n"
        "Content-Length: 3\r\n\r\nabcGET /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        "GET /info HTTP/1.1\r\nHost: a\r\n\r\n");
    rig_read(fd, &out, NULL);
    const char *ok = strstr(out.data, "\r\n\r\nok"), *abc = strstr(out.data, "3\r\nabc"),
               *no = strstr(out.data, "\r\n\r\nno");
    assert_true(ok && abc && no && ok < abc && abc < no);
    assert_null(strstr(out.data, "GET /info"));
    close(fd);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_bad_requests(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"NONSENSE\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"POST /hang HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
         "HTTP/1.1 400 "},
        {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505 "},
        {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "HTTP/1.1 "},
    };
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, false, true);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = rig_connect(&r);
        rig_send(fd, rows[i].in);
        rig_read(fd, &out, NULL);
        if (strncmp(out.data, rows[i].out, strlen(rows[i].out)) != 0)
            fail_msg("'%s' gave '%s'", rows[i].in, out.data);
        assert_non_null(strstr(out.data, "connection: close"));
        close(fd);
    }
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_timeouts(void **state)
{
    struct rig r;
    struct buf out = {0};
    struct http_limits l = {.header_timeout_ms = 300};
    (void)state;
    rig_start(&r, app, &l, false, true);
    int slow = rig_connect(&r), silent = rig_connect(&r), idle = rig_connect(&r);
    rig_send(slow, "GET / HTTP/1.1\r\nHo");
    rig_send(idle, "GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
    int64_t begun = clock_mono_ms();
    rig_read(idle, &out, NULL); /* the server ends the idle connection, silently */
    assert_non_null(strstr(out.data, "\r\n\r\nok"));
    assert_null(strstr(out.data, " 408 "));
    assert_in_range(clock_mono_ms() - begun, 250, 5000);
    rig_read(slow, &out, NULL);
    assert_int_equal(strncmp(out.data, "HTTP/1.1 408 ", 13), 0);
    rig_read(silent, &out, NULL);
    assert_int_equal(out.len, 0);
    close(slow), close(silent), close(idle);

    /* A slow but busy exchange is nobody's business. */
    int busy = rig_connect(&r);
    rig_send(busy, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    usleep(700 * 1000);
    rig_send(busy, "b");
    rig_read(busy, &out, "1\r\nb\r\n");
    assert_non_null(strstr(out.data, "1\r\na\r\n1\r\nb\r\n"));
    close(busy);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

/* A preface, SETTINGS, and a HEADERS frame without END_HEADERS: a head that never ends. */
static void test_h2_half_head(void **state)
{
    static const char half[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
                               "\0\0\1\1\1\0\0\0\1\x82";
    struct rig r;
    struct buf out = {0};
    struct http_limits l = {.header_timeout_ms = 300};
    (void)state;
    rig_start(&r, app, &l, false, true);
    int fd = rig_connect(&r);
    assert_int_equal(write(fd, half, sizeof half - 1), sizeof half - 1);
    int64_t begun = clock_mono_ms();
    rig_read(fd, &out, NULL);
    assert_in_range(clock_mono_ms() - begun, 250, 5000);
    close(fd);
    buf_done(&out);
    rig_stop(&r);
}

static void test_body_timeout(void **state)
{
    struct rig r;
    struct buf out = {0};
    struct http_limits l = {.body_timeout_ms = 300};
    (void)state;
    rig_start(&r, app, &l, false, true);
    int fd = rig_connect(&r), steady = rig_connect(&r);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n");
    rig_send(steady, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    char part[5000];
    memset(part, 'p', sizeof part);
    for (int i = 0; i < 10; i++) { /* progress: the limit is for standing still */
        usleep(100 * 1000);
        assert_int_equal(write(steady, part, sizeof part), sizeof part);
        (void)!send(fd, "x", 1, MSG_NOSIGNAL); /* a trickle is not */
    }
    rig_read(steady, &out, "0\r\n\r\n");
    rig_read(fd, &out, NULL); /* returns: the server has hung up */
    close(fd), close(steady);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_client_gone(void **state)
{
    struct rig r;
    (void)state;
    rig_start(&r, app, NULL, false, true);
    unsigned before = atomic_load(&app_closed);
    int fd = rig_connect(&r);
    rig_send(fd, "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    for (int i = 0; i < 10000 && atomic_load(&app_opened) == before; i++)
        usleep(1000);
    close(fd);
    app_all_closed(); /* in the middle of the body: at once */
    assert_int_equal(atomic_load(&app_closed), before + 1);
    struct buf out = {0};
    rig_sh(&r, &out,
           "timeout 0.3 nghttp -d /dev/zero http://127.0.0.1:PORT/hang 2>&1; "
           "curl -s -m 0.3 http://127.0.0.1:PORT/size/100000000000 | wc -c | grep -c .");
    app_all_closed();
    buf_done(&out);
    rig_stop(&r);
}

static void test_half_close(void **state)
{
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, false, false);
    int fd = rig_connect(&r);
    rig_send(fd, "GET /size/3000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    shutdown(fd, SHUT_WR); /* still gets its answer */
    rig_read(fd, &out, "\r\n0\r\n\r\n");
    assert_non_null(strstr(out.data, "200 OK"));
    assert_true(out.len > 3000000);
    close(fd);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_upgrade(void **state)
{
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, false, true);
    int fd = rig_connect(&r);
    rig_send(fd, "GET /raw HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nabc");
    rig_read(fd, &out, "hello abc");
    assert_int_equal(strncmp(out.data, "HTTP/1.1 101 ", 13), 0);
    assert_non_null(strstr(out.data, "upgrade: echo\r\nconnection: Upgrade\r\n\r\nhello abc"));
    rig_send(fd, "more");
    rig_read(fd, &out, "more");
    assert_string_equal(out.data, "more");
    shutdown(fd, SHUT_WR);
    rig_read(fd, &out, NULL); /* our half-close comes back as theirs */
    assert_int_equal(out.len, 0);
    close(fd);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

/* A client that does not read may not make the server hold more than its marks. */
static void test_backpressure(void **state)
{
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, false, false);
    int fd = rig_connect(&r);
    rig_send(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    static char block[65536];
    uint64_t sent = 0;
    int idle = 0;
    while (idle < 20) { /* until the socket takes nothing for 200 ms */
        ssize_t n = send(fd, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            sent += (uint64_t)n;
            idle = 0;
        } else {
            usleep(10 * 1000);
            idle++;
        }
    }
    assert_true(sent < 64 * 1000 * 1000);
    close(fd);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_load(void **state)
{
    struct rig r;
    struct buf out = {0};
    (void)state;
    rig_start(&r, app, NULL, true, true);
    rig_sh(&r, &out,
           "h2load -n 20000 -c 8 -m 32 https://127.0.0.1:PORT/hints | grep -o '[0-9]* succeeded, "
           "[0-9]* failed'");
    assert_string_equal(out.data, "20000 succeeded, 0 failed\n");
    rig_sh(&r, &out,
           "h2load --h1 -n 20000 -c 8 https://127.0.0.1:PORT/hints | grep -o '[0-9]* succeeded, "
           "[0-9]* failed'");
    assert_string_equal(out.data, "20000 succeeded, 0 failed\n");
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

static void test_connection_limit(void **state)
{
    struct rig r;
    struct buf out = {0};
    struct http_limits l = {.connections = 3};
    int fd[5];
    (void)state;
    rig_start(&r, app, &l, false, false);
    for (int i = 0; i < 5; i++)
        fd[i] = rig_connect(&r);
    rig_send(fd[4], "GET /hints HTTP/1.1\r\nHost: a\r\n\r\n"); /* the oldest idle ones made room */
    rig_read(fd[4], &out, "\r\n\r\nok");
    assert_non_null(strstr(out.data, "200 OK"));
    rig_read(fd[0], &out, NULL);
    assert_int_equal(out.len, 0);
    for (int i = 0; i < 5; i++)
        close(fd[i]);
    buf_done(&out);
    app_all_closed();
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_h1_plain),         cmocka_unit_test(test_h1_beside_h2),
        cmocka_unit_test(test_h2_plain),         cmocka_unit_test(test_h1_tls),
        cmocka_unit_test(test_h2_tls),           cmocka_unit_test(test_request_fields),
        cmocka_unit_test(test_trailers),         cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_bad_requests),     cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_h2_half_head),     cmocka_unit_test(test_body_timeout),
        cmocka_unit_test(test_client_gone),      cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_upgrade),          cmocka_unit_test(test_backpressure),
        cmocka_unit_test(test_connection_limit), cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests_name("http.server", tests, NULL, NULL);
}
