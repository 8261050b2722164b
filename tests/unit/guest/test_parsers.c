/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's small parsers: users, modules, listeners, hook answers; and the log ring. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/hook.h"
#include "guest/launch.h"
#include "guest/listeners.h"
#include "guest/logring.h"
#include "guest/modules.h"
#include "guest/numbers.h"
#include "guest/user.h"

static const char PASSWD[] = "root:x:0:0:root:/root:/bin/bash\n"
                             "bad line\n"
                             "toolow:x:\n"
                             "app:x:1000:1000:,,,:/home/app:/bin/sh\n"
                             "nohome:x:1001:100::relative:/bin/sh\n"
                             "huge:x:4294967295:1:::\n"
                             "1234:x:77:78::/num:/bin/sh\n"
                             "last:x:9:9::/last:/bin/sh";
static const char GROUP[] = "root:x:0:\naudio:x:29:app,other\nvideo:x:44:other\nstaff:x:50:app\n"
                            "app:x:1000:app\nbroken\n";

static void users(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        uid_t uid;
        gid_t gid;
        size_t groups;
        const char *home;
    } rows[] = {
        {"", 0, 0, 1, "/root"},
        {"root", 0, 0, 1, "/root"},
        {"0", 0, 0, 1, "/root"},
        {"app", 1000, 1000, 3, "/home/app"},
        {"1000", 1000, 1000, 3, "/home/app"},
        {"app:audio", 1000, 29, 1, "/home/app"},
        {"app:29", 1000, 29, 1, "/home/app"},
        {"app:777", 1000, 777, 1, "/home/app"},
        {"555", 555, 0, 1, "/"},
        {"555:666", 555, 666, 1, "/"},
        {"nohome", 1001, 100, 1, "/"},
        {"1234", 77, 78, 1, "/num"},
        {":audio", 0, 29, 1, "/root"},
        {"last", 9, 9, 1, "/last"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct user_ids u;
        struct err e;
        assert_int_equal(user_lookup(rows[i].spec, PASSWD, GROUP, &u, &e), 0);
        assert_int_equal(u.uid, rows[i].uid);
        assert_int_equal(u.gid, rows[i].gid);
        assert_int_equal(u.n_groups, rows[i].groups);
        assert_string_equal(u.home, rows[i].home);
    }
}

static void users_refused(void **state)
{
    (void)state;
    static const char *const specs[] = {"ghost",      "app:ghost", "-1",     "99999999999",
                                        "4294967295", "huge",      "app:-5", "root:4294967295"};
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct user_ids u;
        struct err e;
        assert_int_equal(user_lookup(specs[i], PASSWD, GROUP, &u, &e), -EINVAL);
        assert_non_null(strstr(e.text, "unable to find"));
    }
}

static void many_groups_are_bounded(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    for (int i = 0; i < 500; i++)
        assert_int_equal(buf_addf(&b, "g%d:x:%d:a,root,b\n", i, 1000 + i), 0);
    struct user_ids u;
    assert_int_equal(user_lookup("root", PASSWD, b.data, &u, NULL), 0);
    assert_int_equal(u.n_groups, USER_GROUPS_MAX);
    buf_done(&b);
}

static void module_order(void **state)
{
    (void)state;
    const char *text = "# first\n\n virtio.ko\t\r\n/abs/x.ko\n../../etc/passwd\nlast.ko";
    static const char *const want[] = {"/lib/modules/virtio.ko", "/abs/x.ko",
                                       "/lib/modules/last.ko"};
    char path[64];
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(modules_next(&text, path, sizeof path), 1);
        assert_string_equal(path, want[i]);
    }
    assert_int_equal(modules_next(&text, path, sizeof path), 0);
    char longer[200];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    text = longer;
    assert_int_equal(modules_next(&text, path, sizeof path), 0);
}

static void listening_ports(void **state)
{
    (void)state;
    static const char v4[] =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1\n"
        "   1: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1\n"
        "   2: 0100007F:0050 0100007F:8000 01 00000000:00000000 00:00000000 00000000 0 0 1 1\n"
        "garbage\n";
    static const char v6[] = "head\n   0: 00000000000000000000000000000000:1388 "
                             "00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1\n";
    uint16_t ports[LISTENERS_MAX];
    size_t n = listeners_parse(v4, ports, 0);
    assert_int_equal(n, 2);
    assert_int_equal(ports[0], 8080);
    assert_int_equal(ports[1], 5000);
    assert_int_equal(listeners_parse(v6, ports, n), 2);
    assert_int_equal(listeners_parse("", ports, 0), 0);
}

static void kernel_numbers(void **state)
{
    (void)state;
    static const char text[] = "MemTotal:      481432 kB\nTCP: inuse 5 orphan 0\nBad: x\nEnd:";
    assert_int_equal(number_after(text, "MemTotal:", 0), 481432);
    assert_int_equal(number_after(text, "TCP: inuse", 0), 5);
    assert_int_equal(number_after(text, "Bad:", 7), 7);
    assert_int_equal(number_after(text, "End:", 7), 7);
    assert_int_equal(number_after(text, "Nope:", 7), 7);
    const char *table = "head\n 12: 0100007F:1F90 0A00000A:0050 01 x\n"
                        "1: 0100007F:1F901 0A00000A:0050 01 x\n1: zz\n"
                        "0: 00000000000000000000000000000000:1388 "
                        "0000000000000000FFFF00000100007F:8000 06 0";
    struct tcp_line l;
    assert_int_equal(tcp_line_next(&table, &l), 1);
    assert_int_equal(l.local_port, 8080);
    assert_int_equal(l.state, 1);
    assert_string_equal(l.remote, "0A00000A");
    assert_int_equal(tcp_line_next(&table, &l), 1);
    assert_int_equal(l.local_port, 5000);
    assert_int_equal(l.state, 6);
    assert_string_equal(l.remote, "0000000000000000FFFF00000100007F");
    assert_int_equal(tcp_line_next(&table, &l), 0);
}

static void hook_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want, status;
    } rows[] = {
        {"", 0, 0},
        {"HTT", 0, 0},
        {"HTTP/1.1 20", 0, 0},
        {"HTTP/1.1 200 OK\r\n", 1, 200},
        {"HTTP/1.0 503\n", 1, 503},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP", 2, 0},
        {"HTTP/1.1 100 Continue\r\n", 0, 0},
        {"HTTP/2 200\r\n", -EPROTO, 0},
        {"SSH-2.0-x\r\n", -EPROTO, 0},
        {"HTTP/1.1 2000 OK\r\n", -EPROTO, 0},
        {"HTTP/1.1 099 OK\r\n", -EPROTO, 0},
        {"HTTP/1.1  20 OK\r\n", -EPROTO, 0},
        {"\n", -EPROTO, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int status = 0;
        size_t used = 0;
        assert_int_equal(hook_parse_status(rows[i].text, strlen(rows[i].text), &status, &used),
                         rows[i].want);
        assert_int_equal(status, rows[i].status);
        if (rows[i].want == 2)
            assert_int_equal(used, strlen(rows[i].text) - 4);
    }
}

static void ring_keeps_the_newest(void **state)
{
    (void)state;
    struct logring *r = calloc(1, sizeof *r);
    char out[LOGRING_CHUNK], line[32];
    int fd;
    assert_non_null(r);
    assert_int_equal(logring_take(r, &fd, out), 0);
    logring_put(r, 1, "hello", 5);
    logring_put(r, 2, "world", 5);
    assert_int_equal(logring_take(r, &fd, out), 5);
    assert_int_equal(fd, 1);
    assert_memory_equal(out, "hello", 5);
    assert_int_equal(logring_take(r, &fd, out), 5);
    assert_int_equal(fd, 2);
    uint64_t put = 0, got = 0;
    for (int i = 0; i < 200000; i++) {
        int n = snprintf(line, sizeof line, "line %d\n", i);
        logring_put(r, 1 + i % 2, line, (size_t)n);
        put += (uint64_t)n;
    }
    assert_true(r->used <= LOGRING_SIZE);
    size_t n, last = 0;
    char text[LOGRING_CHUNK + 1];
    while ((n = logring_take(r, &fd, out)) > 0) {
        got += n;
        memcpy(text, out, n);
        text[last = n] = '\0';
    }
    assert_true(last > 0);
    assert_string_equal(text, "line 199999\n");
    assert_int_equal(got + logring_dropped(r), put);
    assert_int_equal(logring_dropped(r), 0);
    char *big = calloc(1, 3 * LOGRING_SIZE);
    assert_non_null(big);
    logring_put(r, 1, big, 3 * LOGRING_SIZE);
    for (got = 0; (n = logring_take(r, &fd, out)) > 0;)
        got += n;
    assert_int_equal(got + logring_dropped(r), 3 * LOGRING_SIZE);
    free(big);
    free(r);
}

static const char *find_env(char *const *env, const char *key)
{
    for (; *env; env++)
        if (strncmp(*env, key, strlen(key)) == 0 && (*env)[strlen(key)] == '=')
            return *env + strlen(key) + 1;
    return NULL;
}

static void specs(void **state)
{
    (void)state;
    char base0[] = "A=base", base1[] = "B=base", base2[] = "CURL_CA_BUNDLE=/own";
    char *base[] = {base0, base1, base2, NULL};
    struct launch l = {.have_ca = true};
    struct err e;
    json_t *v = json_pack("{s:[s,s], s:[s,s,s], s:s, s:s, s:b}", "args", "sh", "-c", "env", "B=new",
                          "C=x=y", "A=", "cwd", "/w", "user", "", "tty", 1);
    assert_int_equal(launch_parse(&l, v, base, &e), 0);
    assert_string_equal(l.argv[1], "-c");
    assert_null(l.argv[2]);
    assert_string_equal(find_env(l.env, "A"), "");
    assert_string_equal(find_env(l.env, "B"), "new");
    assert_string_equal(find_env(l.env, "C"), "x=y");
    assert_string_equal(find_env(l.env, "TERM"), "xterm");
    assert_non_null(find_env(l.env, "PATH"));
    assert_string_equal(find_env(l.env, "CURL_CA_BUNDLE"), "/own");
    assert_string_equal(find_env(l.env, "PIP_CERT"), "/dev/tinderbox/ca-bundle.crt");
    assert_null(l.user);
    assert_int_equal(l.cols, 80);
    launch_done(&l);
    json_decref(v);
    static const char *const bad[] = {
        "{}",
        "{\"args\":[]}",
        "{\"args\":\"sh\"}",
        "{\"args\":[1]}",
        "{\"args\":[\"a\"],\"env\":[\"noequals\"]}",
        "{\"args\":[\"a\"],\"env\":[\"=x\"]}",
        "{\"args\":[\"a\"],\"env\":{}}",
        "{\"args\":[\"a\"],\"cwd\":\"rel\"}",
        "{\"args\":[\"a\"],\"cols\":70000}",
        "{\"args\":[\"a\"],\"rows\":-1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        v = json_loads(bad[i], 0, NULL);
        l = (struct launch){0};
        assert_int_equal(launch_parse(&l, v, NULL, &e), -EINVAL);
        launch_done(&l);
        json_decref(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users),
        cmocka_unit_test(users_refused),
        cmocka_unit_test(many_groups_are_bounded),
        cmocka_unit_test(module_order),
        cmocka_unit_test(listening_ports),
        cmocka_unit_test(kernel_numbers),
        cmocka_unit_test(hook_answers),
        cmocka_unit_test(ring_keeps_the_newest),
        cmocka_unit_test(specs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
