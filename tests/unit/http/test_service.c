/* SPDX-License-Identifier: Apache-2.0 */
/* Services with a real server, workers and curl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "http/service.h"
#include "rig.h"

static atomic_uint handled;

static void reply_describe(struct http_call *c)
{
    struct err e;
    char again[65] = "";
    struct stat st = {0};
    if (c->body_fd >= 0 && (fstat(c->body_fd, &st) < 0 || sha256_hex_fd(c->body_fd, again, &e) < 0))
        abort();
    bool same = c->body_fd < 0 ||
                (strcmp(again, c->body_sha256) == 0 && (uint64_t)st.st_size == c->body_size);
    c->status = 200;
    if (buf_addf(&c->reply, "%s %s %llu %s %s %s", c->method, c->target,
                 (unsigned long long)c->body_size, c->body_fd >= 0 ? "file" : "memory",
                 c->body_sha256, same ? "same" : "DIFFERENT") < 0)
        abort();
}

static void reply_file(struct http_call *c)
{
    FILE *f = tmpfile();
    if (!f)
        abort();
    for (int i = 0; i < 1000000; i++)
        fprintf(f, "%07d\n", i);
    fflush(f);
    c->reply_fd = dup(fileno(f));
    fclose(f);
    c->status = 200;
    c->reply_offset = 8;
    c->reply_size = 8 * 999999;
}

static void handler(struct http_call *c, void *arg)
{
    (void)arg;
    struct slice v = {0};
    atomic_fetch_add(&handled, 1);
    if (strcmp(c->target, "/file") == 0) {
        reply_file(c);
    } else if (strcmp(c->target, "/short-file") == 0) {
        reply_file(c);
        c->reply_size *= 2;
    } else if (strcmp(c->target, "/bad-header") == 0) {
        c->status = 200;
        http_call_header(c, "x-bad", "a\r\nb: c");
    } else if (strcmp(c->target, "/no-status") == 0) {
        http_call_header(c, "x-fine", "%d", 7);
    } else if (strcmp(c->target, "/slow") == 0) {
        usleep(300 * 1000);
        c->status = 200;
    } else if (strcmp(c->target, "/header") == 0) {
        http_header_find(c->headers, c->n_headers, "x-in", &v);
        c->status = 204;
        http_call_header(c, "x-out", "%s", v.p ? v.p : "");
        http_call_header(c, "Content-Length", "99");
    } else if (strcmp(c->target, "/big") == 0) {
        c->status = 200;
        static char block[1000];
        for (int i = 0; i < 5000; i++)
            if (buf_add(&c->reply, block, sizeof block) < 0)
                abort();
    } else {
        reply_describe(c);
    }
}

struct setup {
    struct rig rig;
    struct workers *workers;
    struct http_service *service;
};

static void start(struct setup *s, unsigned threads, unsigned queue, bool h2)
{
    struct err e = {0};
    assert_int_equal(workers_new("test", threads, queue, &s->workers, &e), 0);
    struct http_service_config c = {.workers = s->workers,
                                    .fn = handler,
                                    .max_body = 40 * 1000 * 1000,
                                    .max_in_memory = 100 * 1000,
                                    .spool_dir = "/tmp"};
    assert_int_equal(http_service_new(&c, &s->service, &e), 0);
    rig_start(&s->rig, http_service_handler(s->service), NULL, false, h2);
}

static void stop(struct setup *s)
{
    workers_free(s->workers);
    rig_stop(&s->rig);
    http_service_free(s->service);
}

static void check(struct setup *s, const char *curl, const char *rest, const char *expect)
{
    struct buf out = {0}, cmd = {0};
    const char *at = strstr(rest, "CURL");
    assert_non_null(at);
    assert_int_equal(buf_addf(&cmd, "%.*s%s%s", (int)(at - rest), rest, curl, at + 4), 0);
    rig_sh(&s->rig, &out, cmd.data);
    if (strcmp(out.data, expect) != 0)
        fail_msg("%s: got '%.1000s', expected '%s'", cmd.data, out.data, expect);
    buf_done(&out);
    buf_done(&cmd);
}

#define URL "http://127.0.0.1:PORT"

static const struct {
    const char *command, *expect;
} talks[] = {
    {"CURL " URL "/x?y",
     "GET /x?y 0 memory e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 same"},
    {"CURL -d hello " URL "/x",
     "POST /x 5 memory 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 same"},
    {"head -c 100000 /dev/zero | CURL -T - " URL "/x | cut -c1-20", "PUT /x 100000 memory\n"},
    {"head -c 100001 /dev/zero | CURL -T - " URL "/x | cut -c1-18", "PUT /x 100001 file\n"},
    {"head -c 30000000 /dev/zero | CURL -T - " URL "/x",
     "PUT /x 30000000 file 5cea420a169be50cd615ee30e570f980afb5eb88e8431d652202fc99df58ed7d same"},
    {"head -c 40000001 /dev/zero | CURL -o /dev/null -w '%{http_code}' -T - " URL "/x", "413"},
    {"truncate -s 40000001 DIR/big; CURL -o /dev/null -w '%{http_code}' -T DIR/big " URL "/x",
     "413"},
    {"CURL " URL "/file | md5sum", "cccbc888ea4043e7d928ab894fa41c12  -\n"},
    {"CURL -I " URL "/file | tr -d '\\r' | grep -i ^content-length", "content-length: 7999992\n"},
    {"CURL " URL "/big | wc -c", "5000000\n"},
    {"CURL " URL "/short-file >/dev/null 2>&1; test $? != 0 && echo failed", "failed\n"},
    {"CURL -o /dev/null -w '%{http_code}' " URL "/bad-header", "500"},
    {"CURL -o /dev/null -w '%{http_code}' " URL "/no-status", "500"},
    {"CURL -i -H 'x-in: abc' " URL "/header | tr -d '\\r' | grep -v ^date | grep -v ^HTTP",
     "x-out: abc\n\n"},
    {"CURL -i " URL "/x | grep -ci '^date: ...,.* GMT'", "1\n"},
};

static void run_talks(const char *curl, bool h2)
{
    struct setup s;
    start(&s, 4, 100, h2);
    for (size_t i = 0; i < sizeof talks / sizeof *talks; i++)
        check(&s, curl, talks[i].command, talks[i].expect);
    stop(&s);
}

static void test_h1(void **state)
{
    (void)state;
    run_talks("curl -sS -m 60", false);
}

static void test_h2(void **state)
{
    (void)state;
    run_talks("curl -sS -m 60 --http2-prior-knowledge", true);
}

/* One worker, one place in the queue: of many calls at once some are turned away, none is lost. */
static void test_busy(void **state)
{
    struct setup s;
    struct buf out = {0};
    (void)state;
    start(&s, 1, 1, false);
    rig_sh(&s.rig, &out,
           "for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{http_code}\n' " URL "/slow & done; "
           "wait");
    unsigned ok = 0, busy = 0;
    for (const char *p = out.data; *p; p += 4) {
        ok += strncmp(p, "200\n", 4) == 0;
        busy += strncmp(p, "503\n", 4) == 0;
    }
    assert_int_equal(ok + busy, 6);
    assert_true(ok >= 1 && busy >= 1);
    buf_done(&out);
    stop(&s);
}

/* Clients that leave in each phase: collecting, spooling, handling, replying. */
static void test_client_gone(void **state)
{
    struct setup s;
    struct buf out = {0};
    (void)state;
    start(&s, 4, 100, true);
    rig_sh(&s.rig, &out,
           "for h in --http1.1 --http2-prior-knowledge; do for i in 1 2 3; do "
           "curl -s $h -m 0.1 " URL "/slow & "
           "(head -c 1000; sleep 1) </dev/zero | curl -s $h -m 0.1 -T - " URL "/x & "
           "(head -c 2000000; sleep 1) </dev/zero | curl -s $h -m 0.2 -T - " URL "/x & "
           "curl -s $h --limit-rate 100k -m 0.3 -o /dev/null " URL "/file & done; done; wait");
    unsigned before = atomic_load(&handled);
    check(&s, "curl -s", "CURL " URL "/x | cut -c1-5", "GET /\n");
    assert_true(atomic_load(&handled) > before);
    buf_done(&out);
    stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_h1),
        cmocka_unit_test(test_h2),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_client_gone),
    };
    return cmocka_run_group_tests_name("http.service", tests, NULL, NULL);
}
