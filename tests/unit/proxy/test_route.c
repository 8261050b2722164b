/* SPDX-License-Identifier: Apache-2.0 */
/* Routing and field rewriting, by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/forward.h"

#define D "microvm.localhost"

struct row {
    const char *name, *host, *sni, *auth, *port, *protocol;
    bool upgrade;
    const char *expect; /* label token port port_text protocols marker */
};

#define MARK "lambda-microvms"

static const struct row rows[] = {
    {"plain", "abc." D, "", "T", NULL, NULL, false, "abc T 8080 '' '' 0"},
    {"port in host", "abc." D ":8443", "abc." D, "T", "5000", NULL, false, "abc T 5000 '' '' 0"},
    {"case", "ABC.MicroVM.localhost", "abc." D, "T", NULL, NULL, false, "ABC T 8080 '' '' 0"},
    {"dot", "abc." D ".", "", "T", NULL, NULL, false, "abc T 8080 '' '' 0"},
    {"other domain", "abc.example.com", "", "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"deeper", "x.abc." D, "", "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"bare domain", D, "", "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"suffix only", "abcmicrovm.localhost", "", "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"empty host", "", "", "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"sni of another", "abc." D, "def." D, "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"sni not ours", "abc." D, "localhost", "T", NULL, NULL, false, " T 8080 '' '' 0"},
    {"no token", "abc." D, "", NULL, NULL, NULL, false, "abc  8080 '' '' 0"},
    {"port 1", "abc." D, "", "T", "1", NULL, false, "abc T 1 '' '' 0"},
    {"port 65535", "abc." D, "", "T", "65535", NULL, false, "abc T 65535 '' '' 0"},
    {"port 0", "abc." D, "", "T", "0", NULL, false, "abc T 0 '0' '' 0"},
    {"port 65536", "abc." D, "", "T", "65536", NULL, false, "abc T 0 '65536' '' 0"},
    {"port x", "abc." D, "", "T", "80x", NULL, false, "abc T 0 '80x' '' 0"},
    {"port sign", "abc." D, "", "T", "+80", NULL, false, "abc T 0 '+80' '' 0"},
    {"port empty", "abc." D, "", "T", "", NULL, false, "abc T 0 '' '' 0"},
    {"ws", "abc." D, "", NULL, NULL, MARK ", " MARK ".authentication.JWE," MARK ".port.5001, chat",
     true, "abc JWE 5001 '' 'chat' 1"},
    {"ws any order", "abc." D, "", NULL, NULL,
     "a, " MARK ".port.7, b," MARK ".authentication.J.W.E , " MARK, true,
     "abc J.W.E 7 '' 'a, b' 1"},
    {"ws no marker", "abc." D, "", NULL, NULL, MARK ".authentication.JWE", true,
     "abc  8080 '' '' 0"},
    {"ws no upgrade", "abc." D, "", NULL, NULL, MARK ", " MARK ".authentication.JWE", false,
     "abc  8080 '' '' 1"},
    {"ws bad port", "abc." D, "", NULL, NULL, MARK "," MARK ".authentication.JWE," MARK ".port.x",
     true, "abc JWE 0 'x' '' 1"},
    {"header wins", "abc." D, "", "H", "9", MARK "," MARK ".authentication.JWE," MARK ".port.7",
     true, "abc H 9 '' '' 1"},
    {"ws header auth", "abc." D, "", "H", NULL, "chat", true, "abc H 8080 '' 'chat' 0"},
    {"empty items", "abc." D, "", "H", NULL, ",, chat,,", true, "abc H 8080 '' 'chat' 0"},
};

static void test_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *w = &rows[i];
        struct http_header h[3];
        struct proxy_route t;
        char got[256];
        size_t n = 0;
        if (w->auth)
            h[n++] = (struct http_header){SLICE("x-aws-proxy-auth"), slice_from(w->auth)};
        if (w->port)
            h[n++] = (struct http_header){SLICE("x-aws-proxy-port"), slice_from(w->port)};
        if (w->protocol)
            h[n++] = (struct http_header){SLICE("sec-websocket-protocol"), slice_from(w->protocol)};
        struct http_request r = {.authority = slice_from(w->host),
                                 .sni = slice_from(w->sni),
                                 .headers = h,
                                 .n_headers = n,
                                 .upgrade = w->upgrade};
        assert_int_equal(route_read(&r, D, &t), 0);
        snprintf(got, sizeof got, "%.*s %.*s %u '%.*s' '%s' %d", (int)t.label.n, t.label.p,
                 (int)t.token.n, t.token.p, t.port, (int)t.port_text.n, t.port_text.p,
                 t.protocols.len ? t.protocols.data : "", t.marker);
        if (strcmp(got, w->expect) != 0)
            fail_msg("%s: %s", w->name, got);
        route_done(&t);
    }
}

static void test_forward_request(void **state)
{
    (void)state;
    static const struct http_header in[] = {
        {SLICE("host"), SLICE("other")},
        {SLICE("X-Aws-Proxy-Auth"), SLICE("secret")},
        {SLICE("x-aws-proxy-port"), SLICE("1")},
        {SLICE("x-aws-proxy-unknown"), SLICE("1")},
        {SLICE("connection"), SLICE("keep-alive, X-Hop")},
        {SLICE("x-hop"), SLICE("1")},
        {SLICE("keep-alive"), SLICE("timeout=5")},
        {SLICE("te"), SLICE("gzip")},
        {SLICE("expect"), SLICE("100-continue")},
        {SLICE("cookie"), SLICE("a=1")},
        {SLICE("traceparent"), SLICE("00-1")},
        {SLICE("cookie"), SLICE("b=2")},
        {SLICE("x-amzn-requestid"), SLICE("forged")},
        {SLICE("transfer-encoding"), SLICE("chunked")},
    };
    struct http_request r = {.version = 20,
                             .method = SLICE("PUT"),
                             .target = SLICE("/a?b"),
                             .authority = SLICE("abc." D),
                             .headers = in,
                             .n_headers = ARRAY_LEN(in),
                             .expects_body = true};
    struct proxy_route t = {0};
    struct queue out = {0};
    struct h1_framing f;
    assert_int_equal(forward_request(&out, &r, &t, "ID", &f), 0);
    assert_int_equal(queue_add(&out, "", 1), 0);
    assert_string_equal(queue_head(&out), "PUT /a?b HTTP/1.1\r\nhost: abc." D "\r\n"
                                          "traceparent: 00-1\r\ncookie: a=1; b=2\r\n"
                                          "x-amzn-requestid: ID\r\n"
                                          "transfer-encoding: chunked\r\n\r\n");
    assert_int_equal(f.kind, H1_FRAMING_CHUNKED);
    queue_done(&out);
}

static const struct {
    const char *method, *length;
    bool body;
    enum h1_framing_kind kind;
    const char *line;
} framings[] = {
    {"GET", NULL, false, H1_FRAMING_NONE, NULL},
    {"POST", NULL, false, H1_FRAMING_LENGTH, "content-length: 0\r\n"},
    {"POST", "5", true, H1_FRAMING_LENGTH, "content-length: 5\r\n"},
    {"POST", NULL, true, H1_FRAMING_CHUNKED, "transfer-encoding: chunked\r\n"},
    {"DELETE", "0", false, H1_FRAMING_LENGTH, "content-length: 0\r\n"},
};

static void test_request_framing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(framings); i++) {
        struct http_header cl = {SLICE("content-length"), slice_from(framings[i].length)};
        struct http_request r = {.method = slice_from(framings[i].method),
                                 .target = SLICE("/"),
                                 .authority = SLICE("a"),
                                 .headers = &cl,
                                 .n_headers = framings[i].length != NULL,
                                 .expects_body = framings[i].body};
        struct proxy_route t = {0};
        struct queue out = {0};
        struct h1_framing f;
        assert_int_equal(forward_request(&out, &r, &t, "ID", &f), 0);
        assert_int_equal(queue_add(&out, "", 1), 0);
        assert_int_equal(f.kind, framings[i].kind);
        const char *line = framings[i].line;
        if (line)
            assert_non_null(strstr(queue_head(&out), line));
        else
            assert_null(strstr(queue_head(&out), "content-length"));
        queue_done(&out);
    }
}

static void test_forward_response(void **state)
{
    (void)state;
    static const struct http_header in[] = {
        {SLICE("x-aws-proxy-error"), SLICE("FORGED")},
        {SLICE("x-amzn-requestid"), SLICE("forged")},
        {SLICE("set-cookie"), SLICE("a")},
        {SLICE("connection"), SLICE("x-hop")},
        {SLICE("x-hop"), SLICE("1")},
        {SLICE("set-cookie"), SLICE("b")},
    };
    struct h1_response_info r = {.status = 101, .headers = in, .n_headers = ARRAY_LEN(in)};
    size_t n;
    struct http_header *h = forward_response(&r, "ID", true, &n);
    assert_non_null(h);
    assert_int_equal(n, 5); /* connection is left to the server, which writes its own */
    assert_true(slice_eq(h[0].value, "a") && slice_eq(h[2].value, "b"));
    assert_true(slice_eq(h[3].value, "lambda-microvms") && slice_eq(h[4].value, "ID"));
    free(h);
    r.status = 200;
    h = forward_response(&r, "ID", true, &n);
    assert_int_equal(n, 4);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_forward_request),
        cmocka_unit_test(test_request_framing),
        cmocka_unit_test(test_forward_response),
    };
    return cmocka_run_group_tests_name("proxy.route", tests, NULL, NULL);
}
