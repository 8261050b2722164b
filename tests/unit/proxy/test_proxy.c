/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy between real clients and local applications. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../http/app.h"
#include "../http/rig.h"
#include "base/clock.h"
#include "fake.h"

/* ---- an application that misbehaves, on a thread per connection ---- */

static int script_fd;
static atomic_int script_closes; /* connections whose peer closed while we held the answer back */

static void say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return; /* the proxy has gone, which is what some tests want */
}

static bool read_head(int fd, char *p, size_t cap)
{
    size_t n = 0;
    while (n < cap - 1) {
        ssize_t r = recv(fd, p + n, 1, 0);
        if (r <= 0)
            return false;
        p[++n] = '\0';
        if (n >= 4 && strcmp(p + n - 4, "\r\n\r\n") == 0)
            return true;
    }
    return false;
}

static void drain(int fd, int ms)
{
    char p[4096];
    struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (recv(fd, p, sizeof p, 0) > 0)
        ;
}

static void act_echo(int fd, const char *head)
{
    char p[4096];
    ssize_t n;
    say(fd, "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    say(fd, strstr(head, "chat") ? "Sec-WebSocket-Protocol: chat\r\n\r\n" : "\r\n");
    say(fd, head);
    while ((n = recv(fd, p, sizeof p, 0)) > 0)
        if (send(fd, p, (size_t)n, MSG_NOSIGNAL) < 0)
            return;
    say(fd, "bye");
}

/* True when the connection may carry another request. */
static bool act(int fd, const char *head, int count)
{
    char path[64] = "";
    sscanf(head, "%*s %63s", path);
    if (strcmp(path, "/garbage") == 0) {
        say(fd, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
    } else if (strcmp(path, "/truncated") == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
    } else if (strcmp(path, "/early") == 0) {
        say(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        shutdown(fd, SHUT_WR);
        drain(fd, 300);
    } else if (strcmp(path, "/eof") == 0) {
        say(fd, "HTTP/1.0 200 OK\r\n\r\nall the rest");
    } else if (strcmp(path, "/sse") == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
        usleep(400 * 1000);
        say(fd, "9\r\ndata: 2\n\n\r\n0\r\n\r\n");
    } else if (strcmp(path, "/interim") == 0) {
        say(fd, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    } else if (strcmp(path, "/trailers") == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
                "grpc-status: 0\r\n\r\n");
    } else if (strcmp(path, "/ws") == 0) {
        act_echo(fd, head);
    } else if (strcmp(path, "/hold") == 0) {
        char c;
        if (recv(fd, &c, 1, 0) <= 0)
            atomic_fetch_add(&script_closes, 1);
    } else if (strcmp(path, "/stale") == 0 && count == 0) {
        say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
        return true; /* and the next request on this connection gets nothing */
    }
    return false;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char head[8192];
    for (int count = 0; read_head(fd, head, sizeof head); count++)
        if (!act(fd, head, count))
            break;
    close(fd);
    return NULL;
}

static void *script_main(void *arg)
{
    int fd;
    (void)arg;
    while ((fd = accept(script_fd, NULL, NULL)) >= 0) {
        pthread_t t;
        if (pthread_create(&t, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(t);
    }
    return NULL;
}

static pthread_t script_thread;

static uint16_t script_start(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    script_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(script_fd, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(listen(script_fd, 64), 0);
    assert_int_equal(getsockname(script_fd, (struct sockaddr *)&sa, &n), 0);
    assert_int_equal(pthread_create(&script_thread, NULL, script_main, NULL), 0);
    return ntohs(sa.sin_port);
}

static void script_stop(void)
{
    shutdown(script_fd, SHUT_RDWR);
    pthread_join(script_thread, NULL);
    close(script_fd);
}

/* ---- set-up: client -> proxy (rig) -> fake tunnel -> app server or script ---- */

struct setup {
    struct rig rig;
    struct fake fake;
    struct proxy *proxy;
    struct http_server *app;
};

static void on_app_stopped(void *arg)
{
    struct setup *s = arg;
    loop_stop(s->rig.loop);
}

static void on_proxy_stopped(void *arg)
{
    struct setup *s = arg;
    http_server_stop(s->app, on_app_stopped, s);
}

static void on_server_stopped(void *arg)
{
    struct setup *s = arg;
    proxy_stop(s->proxy, on_proxy_stopped, s);
}

static void start(struct setup *s, bool tls)
{
    struct err e = {0};
    memset(s, 0, sizeof *s);
    rig_init(&s->rig, tls);
    s->rig.stopped = on_server_stopped;
    s->rig.arg = s;
    struct http_server_config c = {.loop = s->rig.loop, .address = "127.0.0.1", .handler = app};
    assert_int_equal(http_server_start(&c, &s->app, &e), 0);
    s->fake.loop = s->rig.loop;
    s->fake.app = http_server_port(s->app);
    s->fake.script = script_start();
    struct proxy_config pc = {
        .loop = s->rig.loop, .backend = fake_backend(&s->fake), .domain = "microvm.localhost"};
    assert_int_equal(proxy_new(&pc, &s->proxy, &e), 0);
    rig_run(&s->rig, proxy_handler(s->proxy), NULL, true);
}

static void stop(struct setup *s)
{
    app_all_closed();
    rig_stop(&s->rig);
    script_stop();
    assert_int_equal(atomic_load(&s->fake.vms), 0);
    assert_int_equal(atomic_load(&s->fake.tunnels), 0);
}

/* CURL, VM (the https URL of label "vm") and TOKEN (a good one) are replaced. */
static void expand(struct buf *out, const char *flags, const char *p)
{
    static const struct {
        const char *word, *text;
    } words[] = {
        {"CURL", "curl -sS -m 60 --cacert DIR/cert.pem"},
        {"VM", "https://vm.microvm.localhost:PORT"},
        {"SLOW", "https://slow.microvm.localhost:PORT"},
        {"DEAD", "https://dead.microvm.localhost:PORT"},
        {"NONE", "https://none.microvm.localhost:PORT"},
        {"TOKEN", "-H 'x-aws-proxy-auth: good'"},
        {"SCRIPT", "-H 'x-aws-proxy-port: 8081'"},
    };
    while (*p) {
        size_t i = 0;
        while (i < sizeof words / sizeof *words &&
               strncmp(p, words[i].word, strlen(words[i].word)) != 0)
            i++;
        if (i == sizeof words / sizeof *words) {
            assert_int_equal(buf_add(out, p++, 1), 0);
            continue;
        }
        assert_int_equal(buf_adds(out, words[i].text), 0);
        if (i == 0)
            assert_int_equal(buf_addf(out, " %s", flags), 0);
        p += strlen(words[i].word);
    }
}

static void check(const struct setup *s, const char *flags, const char *command, const char *expect)
{
    struct buf cmd = {0}, out = {0};
    expand(&cmd, flags, command);
    rig_sh(&s->rig, &out, cmd.data);
    if (strcmp(out.data, expect) != 0)
        fail_msg("%s\n  gave '%.2000s'\n  not  '%s'", cmd.data, out.data, expect);
    buf_done(&cmd);
    buf_done(&out);
}

#define SHOW "-o DIR/b -D DIR/h -w '%{http_code} '"
/* status, then our fields, then the body */
#define TELL                                                                         \
    "; tr -d '\\r' <DIR/h | grep -iE '^(x-aws-proxy|cache-control|content-type)' | " \
    "tr A-Z a-z | sort | tr '\\n' ' '; cat DIR/b"
#define DENIED(code) \
    "cache-control: private, no-store content-type: text/plain x-aws-proxy-error: " code " "

static const struct {
    const char *command, *expect;
} talks[] = {
    {"CURL " SHOW " VM/info" TELL, "403 " DENIED("unauthorized") "Request missing authentication"},
    {"CURL " SHOW " -H 'x-aws-proxy-auth: junk' VM/" TELL,
     "403 " DENIED("unauthorized") "Request missing authentication"},
    {"CURL " SHOW " -H 'x-aws-proxy-auth: other' VM/" TELL,
     "403 " DENIED("unauthorized") "Token authentication failed"},
    {"CURL " SHOW " TOKEN NONE/" TELL, "403 " DENIED("unauthorized") "Token authentication failed"},
    {"CURL " SHOW " TOKEN -H 'Host: dead.microvm.localhost' VM/" TELL,
     "403 " DENIED("unauthorized") "Token authentication failed"},
    {"CURL " SHOW " TOKEN -H 'x-aws-proxy-port: 9999' VM/" TELL,
     "403 " DENIED("port_access_denied") "Access to port denied"},
    {"CURL " SHOW " TOKEN -H 'x-aws-proxy-port: abc' VM/" TELL,
     "400 " DENIED("invalid_port") "Invalid x-aws-proxy-port: abc"},
    {"CURL " SHOW " -H 'x-aws-proxy-auth: shell' VM/; touch DIR/b" TELL,
     "502 x-aws-proxy-error: microvm_connect_failed "},
    {"rm -f DIR/b; CURL " SHOW " TOKEN DEAD/; touch DIR/b" TELL,
     "502 x-aws-proxy-error: microvm_connect_failed "},
    {"rm -f DIR/b; CURL " SHOW " TOKEN -H 'x-aws-proxy-port: 1' VM/; touch DIR/b" TELL,
     "502 x-aws-proxy-error: app_connect_failed "},
    {"rm -f DIR/b; CURL " SHOW " TOKEN SCRIPT VM/close; touch DIR/b" TELL,
     "502 x-aws-proxy-error: app_connect_failed "},
    {"rm -f DIR/b; CURL " SHOW " TOKEN SCRIPT VM/garbage; touch DIR/b" TELL,
     "502 x-aws-proxy-error: app_response_invalid "},
    {"for i in 1 2; do CURL -D - -o /dev/null TOKEN VM/status/200 | grep -ci '^x-amzn-requestid: "
     "........-....-4...-....-............'; done",
     "1\n1\n"},
    {"CURL -D - VM/ | grep -ci ^x-amzn-requestid:", "1\n"},
    {"CURL TOKEN -A x -H 'X-Aws-Proxy-Foo: 1' -H 'Traceparent: t' VM/info | grep -v ^x-amzn | sed "
     "s/:PORT//",
     "11 GET /info vm.microvm.localhost sni=\nhost: vm.microvm.localhost\nuser-agent: x\n"
     "accept: */*\ntraceparent: t\n"},
    {"CURL TOKEN -D DIR/h VM/info | grep ^x-amzn | cut -d' ' -f2 >DIR/a; tr -d '\\r' <DIR/h | grep "
     "^x-amzn | cut -d' ' -f2 | cmp - DIR/a && echo same",
     "same\n"},
    {"CURL TOKEN -o /dev/null -w '%{http_code}' SLOW/status/201", "201"},
    {"CURL TOKEN -d hello SLOW/echo", "hello"},
    {"CURL TOKEN -I VM/none | tr -d '\\r' | grep -ic 'content-length: 12'", "1\n"},
    {"CURL TOKEN -w '%{http_code}' VM/status/204", "204"},
    {"CURL TOKEN VM/hints", "ok"},
    {"CURL TOKEN SCRIPT -D - VM/interim | tr -d '\\r' | grep -E '^(HTTP|link|ok)' | cut -d' ' -f2",
     "103\n</x>\n200\nok\n"},
    {"head -c 30000000 /dev/zero | CURL TOKEN -T - VM/echo | wc -c", "30000000\n"},
    {"CURL --limit-rate 20M TOKEN VM/size/30000000 | wc -c; CURL TOKEN -m 5 VM/hints",
     "30000000\nok"}, /* the kept connection was paused when its response ended */
    {"CURL TOKEN VM/size/50000000 | wc -c", "50000000\n"},
    {"truncate -s 50000000 DIR/z; CURL TOKEN -T DIR/z VM/sink -o /dev/null -w '%{http_code}'",
     "200"},
    {"head -c 3000000 /dev/zero | CURL TOKEN SCRIPT -T - -w '%{http_code}' VM/early", "no413"},
    {"truncate -s 3000000 DIR/z; CURL TOKEN -T DIR/z -w '%{http_code}' VM/early", "no403"},
    {"CURL TOKEN SCRIPT VM/eof", "all the rest"},
    {"CURL TOKEN SCRIPT VM/truncated >DIR/b 2>/dev/null; test $? != 0 && cat DIR/b", "abc"},
    {"CURL -N TOKEN SCRIPT VM/sse | while read l; do test \"$l\" && echo \"$(date +%s%N) $l\"; "
     "done | "
     "awk '{t[NR]=$1; print $2, $3} END {print (t[2]-t[1] > 250000000)}'",
     "data: 1\ndata: 2\n1\n"},
    {"CURL TOKEN SCRIPT VM/stale; sleep 0.1; CURL TOKEN SCRIPT VM/stale", "oneone"},
};

static void run_talks(const char *flags)
{
    struct setup s;
    start(&s, true);
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++)
        check(&s, flags, talks[i].command, talks[i].expect);
    assert_true(atomic_load(&s.fake.activity) > 10);
    stop(&s);
}

static void test_h1(void **state)
{
    (void)state;
    run_talks("--http1.1");
}

static void test_h2(void **state)
{
    (void)state;
    run_talks("--http2");
}

static void test_trailers(void **state)
{
    struct setup s;
    (void)state;
    start(&s, false);
    check(&s, "",
          "nghttp -v -H ':authority: vm.microvm.localhost' -H 'x-aws-proxy-auth: good' "
          "-H 'x-aws-proxy-port: 8081' http://127.0.0.1:PORT/trailers | "
          "grep -c 'recv .*grpc-status: 0'",
          "1\n");
    stop(&s);
}

#define WS_HEAD                                                                 \
    "GET /ws HTTP/1.1\r\nHost: vm.microvm.localhost\r\nConnection: Upgrade\r\n" \
    "Upgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n"

static void test_websocket(void **state)
{
    struct setup s;
    struct buf out = {0};
    (void)state;
    start(&s, false);
    int fd = rig_connect(&s.rig);
    rig_send(fd,
             WS_HEAD "Sec-WebSocket-Protocol: lambda-microvms, lambda-microvms.port.8081\r\n"
                     "Sec-WebSocket-Protocol: lambda-microvms.authentication.good\r\n\r\nearly");
    rig_read(fd, &out, "early");
    assert_int_equal(strncmp(out.data, "HTTP/1.1 101 ", 13), 0);
    assert_non_null(strstr(out.data, "sec-websocket-protocol: lambda-microvms\r\n"));
    const char *seen = strstr(out.data, "GET /ws HTTP/1.1\r\n"); /* what the application got */
    assert_non_null(seen);
    assert_null(strstr(seen, "lambda-microvms"));
    assert_non_null(strstr(seen, "sec-websocket-key: a\r\n"));
    assert_non_null(strstr(seen, "connection: Upgrade\r\n"));
    rig_send(fd, "more");
    rig_read(fd, &out, "more");
    shutdown(fd, SHUT_WR); /* our half-close reaches the application, its last word reaches us */
    rig_read(fd, &out, NULL);
    assert_string_equal(out.data, "bye");
    close(fd);

    fd = rig_connect(&s.rig);
    rig_send(fd, WS_HEAD "x-aws-proxy-auth: good\r\nx-aws-proxy-port: 8081\r\n"
                         "Sec-WebSocket-Protocol: chat\r\n\r\n");
    rig_read(fd, &out, "GET /ws");
    assert_non_null(strstr(out.data, "sec-websocket-protocol: chat\r\n"));
    close(fd);

    fd = rig_connect(&s.rig);
    rig_send(fd, WS_HEAD "Sec-WebSocket-Protocol: lambda-microvms\r\n\r\n");
    rig_read(fd, &out, "authentication");
    assert_int_equal(strncmp(out.data, "HTTP/1.1 403 ", 13), 0);
    close(fd);
    buf_done(&out);
    stop(&s);
}

/* Requests one after the other share a connection; an idle one is dropped after a second. */
static void test_reuse(void **state)
{
    struct setup s;
    (void)state;
    start(&s, true);
    check(&s, "", "for i in 1 2 3 4 5; do CURL TOKEN VM/hints; done", "okokokokok");
    assert_int_equal(atomic_load(&s.fake.opened), 1);
    assert_int_equal(atomic_load(&s.fake.tunnels), 1);
    /* What cannot be sent twice gets a connection that nobody can have closed yet. */
    check(&s, "", "CURL -d x TOKEN VM/echo", "x");
    assert_int_equal(atomic_load(&s.fake.opened), 2);
    assert_int_equal(atomic_load(&s.fake.tunnels), 1);
    for (int i = 0; i < 40 && atomic_load(&s.fake.tunnels); i++)
        usleep(100 * 1000);
    assert_int_equal(atomic_load(&s.fake.tunnels), 0);
    stop(&s);
}

static void test_client_gone(void **state)
{
    struct setup s;
    struct buf out = {0}, cmd = {0};
    (void)state;
    start(&s, true);
    atomic_store(&script_closes, 0);
    expand(&cmd, "",
           "for h in --http1.1 --http2; do CURL $h -m 0.4 TOKEN SCRIPT VM/hold & "
           "CURL $h -m 0.1 TOKEN SLOW/hang & "
           "CURL $h -m 0.4 --limit-rate 1M -o /dev/null TOKEN VM/size/100000000 & "
           "(sleep 1 | CURL $h -m 0.4 -T - TOKEN VM/echo) & done 2>/dev/null; wait");
    rig_sh(&s.rig, &out, cmd.data);
    for (int i = 0; i < 100 && atomic_load(&s.fake.tunnels); i++)
        usleep(100 * 1000);
    assert_int_equal(atomic_load(&s.fake.tunnels), 0);
    for (int i = 0; i < 50 && atomic_load(&script_closes) < 2; i++)
        usleep(20 * 1000);
    assert_int_equal(atomic_load(&script_closes), 2);
    buf_done(&cmd);
    buf_done(&out);
    stop(&s);
}

/* A client that reads nothing stops the application: what the proxy took from it fits in socket
 * buffers and the proxy's own marks. */
static void test_backpressure(void **state)
{
    struct setup s;
    uint64_t before;
    int fd[4];
    (void)state;
    start(&s, false);
    for (int i = 0; i < 4; i++) {
        fd[i] = rig_connect(&s.rig);
        rig_send(fd[i], "GET /size/1000000000 HTTP/1.1\r\nHost: vm.microvm.localhost\r\n"
                        "x-aws-proxy-auth: good\r\n\r\n");
    }
    do {
        before = atomic_load(&s.fake.delivered);
        usleep(300 * 1000);
    } while (atomic_load(&s.fake.delivered) != before);
    assert_in_range(before, 1000 * 1000, 64 * 1000 * 1000);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    stop(&s);
}

static void test_load(void **state)
{
    struct setup s;
    (void)state;
    start(&s, true);
    check(&s, "",
          "h2load -n 5000 -c 4 -m 16 -H ':authority: vm.microvm.localhost' -H "
          "'x-aws-proxy-auth: good' --connect-to=127.0.0.1:PORT "
          "https://vm.microvm.localhost:PORT/hints | grep -o '[0-9]* succeeded, [0-9]* "
          "failed'",
          "5000 succeeded, 0 failed\n");
    check(&s, "",
          "h2load --h1 -n 5000 -c 4 -H 'x-aws-proxy-auth: good' --connect-to=127.0.0.1:PORT "
          "https://vm.microvm.localhost:PORT/hints | grep -o '[0-9]* succeeded, [0-9]* failed'",
          "5000 succeeded, 0 failed\n");
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_h1),           cmocka_unit_test(test_h2),
        cmocka_unit_test(test_trailers),     cmocka_unit_test(test_websocket),
        cmocka_unit_test(test_reuse),        cmocka_unit_test(test_client_gone),
        cmocka_unit_test(test_backpressure), cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests_name("proxy.proxy", tests, NULL, NULL);
}
