/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host says to one real guest over its channel: processes with and without a terminal,
 * signals, input, tunnels with much data, files. One machine for all tests.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/encode.h"
#include "proto/wire.h"
#include "tcp.h"

enum { PORT = 7000, TUNNEL_BYTES = 100 * 1000 * 1000, WAIT_MS = 60000 };

static struct rig rig;
static struct box *box;

static void test_boot(void **state)
{
    (void)state;
    char base[600];
    snprintf(base, sizeof base, "%s/debian-12.ext4", rig.guest);
    box = box_prepare(&rig, "talk", base, ENGINE_DISK_RAW);
    box_boot(&rig, box);
}

/* ---- frames ------------------------------------------------------------------------------------
 */

static void send_json(struct agent_stream *s, int type, json_t *v)
{
    struct err e = {0};
    char *text = json_dumps(v, JSON_COMPACT);
    CHECK_OK(agent_stream_send(s, type, text, strlen(text), &e), e);
    free(text);
    json_decref(v);
}

static struct agent_stream *start(const char *path, json_t *spec)
{
    struct err e = {0};
    struct agent_stream *s = NULL;
    CHECK_OK(agent_stream_open(box->agent, "POST", path, &s, &e), e);
    send_json(s, WIRE_FRAME_SPEC, spec);
    return s;
}

static json_t *shell(const char *command)
{
    return json_pack("{s:[s,s,s]}", "args", "/bin/sh", "-c", command);
}

/* Appends output until it holds text. */
static void read_until(struct agent_stream *s, struct buf *seen, const char *text)
{
    struct err e = {0};
    CLEANUP(buf_done)
    struct buf frame = BUF_INIT(0);
    while (!seen->data || !strstr(seen->data, text)) {
        int type = agent_stream_next(s, &frame, WAIT_MS, &e);
        if (type != WIRE_FRAME_STDOUT)
            fail_msg("no '%s' in '%s': %d %s", text, seen->data ? seen->data : "", type, e.text);
        assert_int_equal(buf_add(seen, frame.data, frame.len), 0);
    }
}

/* Reads to the end: output is appended, the exit report returned. */
static json_t *read_exit(struct agent_stream *s, struct buf *seen)
{
    struct err e = {0};
    CLEANUP(buf_done)
    struct buf frame = BUF_INIT(0);
    int type;
    while ((type = agent_stream_next(s, &frame, WAIT_MS, &e)) == WIRE_FRAME_STDOUT)
        assert_int_equal(buf_add(seen, frame.data, frame.len), 0);
    if (type != WIRE_FRAME_EXIT)
        fail_msg("the stream ended with %d: %s %s", type, frame.data ? frame.data : "", e.text);
    json_t *v = json_loadb(frame.data, frame.len, 0, NULL);
    agent_stream_free(s);
    return v;
}

/* ---- processes ---------------------------------------------------------------------------------
 */

static void test_terminal(void **state)
{
    (void)state;
    struct buf seen = BUF_INIT(0);
    json_t *spec = shell("trap 'stty size' WINCH; stty size; tty; while :; do sleep 0.1; done");
    json_object_update_new(spec, json_pack("{s:b, s:i, s:i}", "tty", 1, "cols", 81, "rows", 25));
    struct agent_stream *s = start(WIRE_EXEC, spec);
    read_until(s, &seen, "25 81\r\n");
    read_until(s, &seen, "/dev/pts/");
    send_json(s, WIRE_FRAME_RESIZE, json_pack("{s:i, s:i}", "cols", 132, "rows", 43));
    read_until(s, &seen, "43 132\r\n");
    /* What is typed is echoed, and the interrupt key is a signal. */
    struct err e = {0};
    CHECK_OK(agent_stream_send(s, WIRE_FRAME_STDIN, "typed\n", 6, &e), e);
    read_until(s, &seen, "typed\r\n");
    CHECK_OK(agent_stream_send(s, WIRE_FRAME_STDIN, "\003", 1, &e), e);
    json_t *exit = read_exit(s, &seen);
    assert_int_equal(json_get_int(exit, "signal", 0), SIGINT);
    json_decref(exit);
    buf_done(&seen);
}

static void test_signal(void **state)
{
    (void)state;
    static const int signals[] = {SIGTERM, SIGKILL, SIGUSR1};
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct buf seen = BUF_INIT(0);
        struct agent_stream *s = start(WIRE_EXEC, shell("echo ready; sleep 1000; echo never"));
        read_until(s, &seen, "ready\n");
        send_json(s, WIRE_FRAME_SIGNAL, json_pack("{s:i}", "signal", signals[i]));
        json_t *exit = read_exit(s, &seen);
        assert_int_equal(json_get_int(exit, "signal", 0), signals[i]);
        assert_string_equal(seen.data, "ready\n");
        json_decref(exit);
        buf_done(&seen);
    }
}

static void test_input(void **state)
{
    (void)state;
    struct err e = {0};
    static char block[WIRE_MAX_FRAME_DATA];
    unsigned char digest[SHA256_LEN];
    char hex[SHA256_HEX_LEN + 1];
    struct buf seen = BUF_INIT(0);
    struct sha256 *h = sha256_new();
    struct agent_stream *s = start(WIRE_EXEC, shell("sha256sum; exit 3"));
    random_bytes(block, sizeof block);
    for (int i = 0; i < 64; i++) {
        block[0] = (char)i;
        sha256_add(h, block, sizeof block);
        CHECK_OK(agent_stream_send(s, WIRE_FRAME_STDIN, block, sizeof block, &e), e);
    }
    CHECK_OK(agent_stream_send(s, WIRE_FRAME_STDIN_END, NULL, 0, &e), e);
    json_t *exit = read_exit(s, &seen);
    sha256_end(h, digest);
    hex_encode(hex, digest, sizeof digest);
    assert_int_equal(json_get_int(exit, "exitCode", 0), 3);
    assert_int_equal(strncmp(seen.data, hex, SHA256_HEX_LEN), 0);
    json_decref(exit);
    buf_done(&seen);
}

/* A stream that is given up ends its process. */
static void test_abandoned(void **state)
{
    (void)state;
    char out[100];
    struct buf seen = BUF_INIT(0);
    struct agent_stream *s =
        start(WIRE_EXEC, shell("echo $$ > /run/abandoned; echo ready; exec sleep 1000"));
    read_until(s, &seen, "ready\n");
    agent_stream_free(s);
    assert_int_equal(box_sh(box,
                            "for i in 1 2 3 4 5 6 7 8 9 10; do "
                            "[ -d /proc/$(cat /run/abandoned) ] || exit 0; sleep 0.2; done; exit 1",
                            out, sizeof out),
                     0);
    buf_done(&seen);
}

/* ---- tunnels -----------------------------------------------------------------------------------
 */

/* Sends back what it gets, then the digest of it in hex. */
static const char server[] =
    "use Socket; $| = 1;"
    "socket(my $l, PF_INET, SOCK_STREAM, 0); setsockopt($l, SOL_SOCKET, SO_REUSEADDR, 1);"
    "bind($l, sockaddr_in(7000, INADDR_LOOPBACK)) or die $!; listen($l, 4); print qq(ready\n);"
    "accept(my $c, $l); open(my $h, '|-', 'sha256sum > /run/sum') or die $!; my $b;"
    "while ((my $n = sysread $c, $b, 65536) > 0) { syswrite $h, $b;"
    "  for (my $o = 0; $o < $n;) { $o += syswrite($c, $b, $n - $o, $o) // die $! } }"
    "close $h; open($h, '<', '/run/sum'); syswrite $c, substr(<$h>, 0, 64); close $c;";

struct sending {
    struct tcp *tcp;
    struct sha256 *hash;
};

static void *send_main(void *arg)
{
    struct sending *x = arg;
    static char block[250000];
    random_bytes(block, sizeof block);
    for (size_t sent = 0; sent < TUNNEL_BYTES; sent += sizeof block) {
        block[sent / sizeof block] ^= 1;
        sha256_add(x->hash, block, sizeof block);
        if (tcp_send(x->tcp, block, sizeof block) < 0)
            break;
    }
    tcp_end(x->tcp);
    return NULL;
}

/* What comes back is what was sent, and the guest's own digest of it agrees. */
static void test_tunnel(void **state)
{
    (void)state;
    static char block[65536];
    char tail[SHA256_HEX_LEN + 1], sent[SHA256_HEX_LEN + 1], back[SHA256_HEX_LEN + 1];
    unsigned char digest[SHA256_LEN];
    struct buf seen = BUF_INIT(0);
    struct agent_stream *s =
        start(WIRE_EXEC, json_pack("{s:[s,s,s]}", "args", "perl", "-e", server));
    read_until(s, &seen, "ready\n");
    struct sending x = {tcp_open(rig.loop, box->agent, PORT), sha256_new()};
    assert_non_null(x.tcp);
    struct sha256 *got = sha256_new();
    size_t n = 0, n_tail = 0;
    pthread_t t;
    int64_t t0 = clock_mono_ms();
    assert_int_equal(pthread_create(&t, NULL, send_main, &x), 0);
    for (int64_t k; (k = tcp_receive(x.tcp, block, sizeof block)) > 0;) {
        size_t data = n + (size_t)k > TUNNEL_BYTES ? TUNNEL_BYTES - n : (size_t)k;
        sha256_add(got, block, data);
        n += data;
        assert_true(n_tail + (size_t)k - data <= SHA256_HEX_LEN);
        memcpy(tail + n_tail, block + data, (size_t)k - data);
        n_tail += (size_t)k - data;
    }
    pthread_join(t, NULL);
    printf("100 MB both ways in %lld ms\n", (long long)(clock_mono_ms() - t0));
    assert_int_equal(n, TUNNEL_BYTES);
    assert_int_equal(n_tail, SHA256_HEX_LEN);
    tail[n_tail] = '\0';
    sha256_end(x.hash, digest);
    hex_encode(sent, digest, sizeof digest);
    sha256_end(got, digest);
    hex_encode(back, digest, sizeof digest);
    assert_string_equal(sent, back);
    assert_string_equal(sent, tail);
    tcp_close(x.tcp);
    json_decref(read_exit(s, &seen));
    buf_done(&seen);
    assert_null(tcp_open(rig.loop, box->agent, PORT)); /* nobody listens any more */
}

/* ---- files -------------------------------------------------------------------------------------
 */

static void tar_member(char out[1024], const char *name, unsigned uid, const char *text)
{
    unsigned sum = 0;
    memset(out, 0, 1024);
    snprintf(out, 100, "%s", name);
    snprintf(out + 100, 8, "%07o", 0640u);
    snprintf(out + 108, 8, "%07o", uid);
    snprintf(out + 116, 8, "%07o", uid + 1);
    snprintf(out + 124, 12, "%011zo", strlen(text));
    snprintf(out + 136, 12, "%011o", 1700000000u);
    memset(out + 148, ' ', 8);
    out[156] = '0';
    memcpy(out + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)out[i];
    snprintf(out + 148, 7, "%06o", sum);
    memcpy(out + 512, text, strlen(text));
}

static void test_files(void **state)
{
    (void)state;
    struct err e = {0};
    char tar[2048] = {0}, out[200];
    struct buf seen = BUF_INIT(0);
    tar_member(tar, "note", 1234, "written from outside\n");
    struct agent_stream *s =
        start(WIRE_FILES, json_pack("{s:s, s:s}", "op", "write", "path", "/opt"));
    CHECK_OK(agent_stream_send(s, WIRE_FRAME_STDIN, tar, sizeof tar, &e), e);
    CHECK_OK(agent_stream_send(s, WIRE_FRAME_STDIN_END, NULL, 0, &e), e);
    json_decref(read_exit(s, &seen));
    assert_int_equal(box_sh(box, "cat /opt/note; stat -c '%u %g %a %Y' /opt/note", out, sizeof out),
                     0);
    assert_string_equal(out, "written from outside\n1234 1235 640 1700000000");
    s = start(WIRE_FILES, json_pack("{s:s, s:s}", "op", "read", "path", "/opt/note"));
    json_decref(read_exit(s, &seen));
    bool found = false;
    for (size_t at = 0; at + 1024 <= seen.len && !found; at += 512)
        found = strcmp(seen.data + at, "note") == 0 &&
                strtol(seen.data + at + 108, NULL, 8) == 1234 &&
                strtol(seen.data + at + 116, NULL, 8) == 1235 &&
                strcmp(seen.data + at + 512, "written from outside\n") == 0;
    assert_true(found);
    buf_done(&seen);
}

static void test_list(void **state)
{
    (void)state;
    struct err e = {0};
    CLEANUP(buf_done)
    struct buf frame = BUF_INIT(0);
    struct agent_stream *s =
        start(WIRE_FILES, json_pack("{s:s, s:s}", "op", "list", "path", "/opt"));
    int records = 0, type;
    while ((type = agent_stream_next(s, &frame, WAIT_MS, &e)) == WIRE_FRAME_RECORD) {
        CLEANUP(cleanup_json)
        json_t *v = json_loadb(frame.data, frame.len, 0, NULL);
        const char *name = json_get_str(v, "name");
        assert_non_null(name);
        assert_string_equal(json_get_str(v, "type"), records ? "file" : "dir");
        assert_string_equal(name, records ? "note" : "");
        assert_int_equal(json_get_int(v, "uid", -1), records ? 1234 : 0);
        assert_int_equal(json_get_int(v, "gid", -1), records ? 1235 : 0);
        records++;
    }
    assert_int_equal(type, WIRE_FRAME_EXIT);
    assert_int_equal(records, 2);
    agent_stream_free(s);
}

int main(int argc, char **argv)
{
    rig_open(&rig, argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot),      cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_signal),    cmocka_unit_test(test_input),
        cmocka_unit_test(test_abandoned), cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_files),     cmocka_unit_test(test_list),
    };
    int failed = cmocka_run_group_tests_name("engine talk", tests, NULL, box_end_all);
    return rig_close(&rig) || failed ? 1 : 0;
}
