/* SPDX-License-Identifier: Apache-2.0 */
/* The host end against guests that lie: every byte here is written by hand. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "proto/agent_client.h"
#include "proto/frame.h"
#include "proto/sync.h"
#include "proto/wire.h"

static struct loop *loop;
static pthread_t loop_thread;
static int guest_fd; /* the test's end of the channel */

static void *run_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

static int group_setup(void **state)
{
    (void)state;
    struct err e;
    signal(SIGPIPE, SIG_IGN); /* as every program with a loop does */
    if (loop_new(&loop, &e) < 0)
        return -1;
    return pthread_create(&loop_thread, NULL, run_loop, loop);
}

static void nothing(void *arg)
{
    (void)arg;
}

static int group_teardown(void **state)
{
    (void)state;
    loop_call(loop, nothing, NULL); /* frees that were posted */
    loop_call(loop, nothing, NULL);
    loop_stop(loop);
    pthread_join(loop_thread, NULL);
    loop_free(loop);
    return 0;
}

static void read_exactly(int fd, void *p, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = read(fd, (char *)p + got, n - got);
        assert_true(r > 0);
        got += (size_t)r;
    }
}

static void put(const void *p, size_t n)
{
    assert_int_equal(fs_write_all(guest_fd, p, n), 0);
}

/* One write: the client may hang up at the first byte it does not like. */
static void put_frame(uint8_t type, uint8_t flags, uint32_t stream, const void *p, size_t n)
{
    static char all[9 + 16384];
    const uint8_t h[9] = {(uint8_t)(n >> 16),
                          (uint8_t)(n >> 8),
                          (uint8_t)n,
                          type,
                          flags,
                          (uint8_t)(stream >> 24),
                          (uint8_t)(stream >> 16),
                          (uint8_t)(stream >> 8),
                          (uint8_t)stream};
    memcpy(all, h, sizeof h);
    if (n)
        memcpy(all + sizeof h, p, n);
    put(all, sizeof h + n);
}

/* Answers the hello and, when settings, goes on with an empty SETTINGS. */
static void *answer_hello(void *arg)
{
    char hello[SYNC_HELLO_LEN];
    const bool *settings = arg;
    read_exactly(guest_fd, hello, sizeof hello);
    put("stale bytes of another session", 30);
    put(hello, sizeof hello);
    if (*settings)
        put_frame(4, 0, 0, NULL, 0);
    return NULL;
}

static int open_client(struct agent **a, bool settings, int timeout_ms, struct err *e)
{
    int pair[2];
    pthread_t t;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    guest_fd = pair[1];
    assert_int_equal(pthread_create(&t, NULL, answer_hello, &settings), 0);
    int r = agent_open(loop, pair[0], timeout_ms, a, e);
    pthread_join(t, NULL);
    return r;
}

static void done(struct agent *a)
{
    agent_close(a);
    assert_true(agent_is_dead(a));
    agent_unref(a);
    close(guest_fd);
}

struct call {
    struct agent *a;
    int r;
    struct err e;
    json_t *answer;
};

static void *call_info(void *arg)
{
    struct call *c = arg;
    c->r = agent_call(c->a, "GET", WIRE_INFO, NULL, 5000, &c->answer, &c->e);
    return NULL;
}

/* Drops the client's bytes until its first HEADERS frame came. */
static void await_request(void)
{
    char preface[24];
    read_exactly(guest_fd, preface, sizeof preface);
    for (;;) {
        uint8_t h[9];
        char skip[16384];
        read_exactly(guest_fd, h, sizeof h);
        read_exactly(guest_fd, skip, (size_t)h[1] << 8 | h[2]);
        if (h[3] == 1)
            return;
    }
}

static void begin_call(struct call *c, pthread_t *t)
{
    struct err e;
    assert_int_equal(open_client(&c->a, true, 5000, &e), 0);
    assert_int_equal(pthread_create(t, NULL, call_info, c), 0);
    await_request();
    put_frame(4, 1, 0, NULL, 0); /* from here on our settings are in force */
}

static void end_call(struct call *c, pthread_t t, int want)
{
    pthread_join(t, NULL);
    assert_int_equal(c->r, want);
    if (want < 0)
        assert_int_equal(c->e.code, -want);
    json_decref(c->answer);
    done(c->a);
}

static void answers(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    begin_call(&c, &t);
    put_frame(1, 4, 1, "\x88", 1); /* :status 200 */
    put_frame(0, 1, 1, "{\"version\":1}", 13);
    pthread_join(t, NULL);
    assert_int_equal(c.r, 0);
    assert_int_equal(json_get_int(c.answer, "version", 0), 1);
    json_decref(c.answer);
    done(c.a);
}

static void status_becomes_errno(void **state)
{
    (void)state;
    static const struct {
        char hpack; /* indexed :status */
        int want;
    } rows[] = {{'\x8c', -EINVAL}, {'\x8d', -ENOENT}, {'\x8e', -EIO}}; /* 400 404 500 */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct call c = {0};
        pthread_t t;
        begin_call(&c, &t);
        put_frame(1, 4, 1, &rows[i].hpack, 1);
        put_frame(0, 1, 1, "{\"message\":\"told so\"}", 21);
        pthread_join(t, NULL);
        assert_int_equal(c.r, rows[i].want);
        assert_string_equal(c.e.text, "told so");
        done(c.a);
    }
}

static void json_over_the_limit(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    char chunk[16384];
    memset(chunk, ' ', sizeof chunk);
    begin_call(&c, &t);
    put_frame(1, 4, 1, "\x88", 1);
    for (int i = 0; i < WIRE_STREAM_WINDOW / 16384; i++)
        put_frame(0, 0, 1, chunk, sizeof chunk);
    put_frame(0, 1, 1, " ", 1); /* beyond WIRE_MAX_JSON and the initial window */
    end_call(&c, t, -EIO);
}

static void json_that_is_none(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    begin_call(&c, &t);
    put_frame(1, 4, 1, "\x88", 1);
    put_frame(0, 1, 1, "{\"a\":", 5);
    end_call(&c, t, -EINVAL);
}

static void stream_reset(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    begin_call(&c, &t);
    put_frame(3, 0, 1, "\0\0\0\x2", 4);
    end_call(&c, t, -EIO);
}

static void death_while_waiting(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    begin_call(&c, &t);
    shutdown(guest_fd, SHUT_RDWR);
    end_call(&c, t, -EPIPE);
}

static void goaway_ends_the_session(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    begin_call(&c, &t);
    put_frame(7, 0, 0, "\0\0\0\0\0\0\0\1", 8);
    end_call(&c, t, -EPIPE);
}

static void garbage_after_hello(void **state)
{
    (void)state;
    static const struct {
        uint8_t type, flags;
        uint32_t stream;
        const char *p;
        size_t n;
    } rows[] = {
        {0, 0, 0, "x", 1},                        /* DATA on stream 0 */
        {5, 4, 1, "\0\0\0\2\x82", 5},             /* PUSH_PROMISE */
        {1, 4, 2, "\x88", 1},                     /* HEADERS on a stream we never opened */
        {6, 0, 0, "123", 3},                      /* PING of the wrong size */
        {4, 0, 0, "\0\4\xff\xff\xff\xff", 6},     /* window over the limit */
        {1, 4, 1, "\xff\xff\xff\xff\xff\xff", 6}, /* HPACK index without end */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct call c = {0};
        pthread_t t;
        begin_call(&c, &t);
        put_frame(rows[i].type, rows[i].flags, rows[i].stream, rows[i].p, rows[i].n);
        end_call(&c, t, -EPIPE);
    }
}

static void giant_headers(void **state)
{
    (void)state;
    struct call c = {0};
    pthread_t t;
    begin_call(&c, &t);
    /* One literal header of 16 KB, repeated through CONTINUATION for ever. */
    char block[16384] = "\x88\x00\x01x\x7f\xe1\x7e";
    memset(block + 7, 'a', sizeof block - 7);
    put_frame(1, 0, 1, block, sizeof block);
    block[0] = '\0';
    for (int i = 0; i < 64; i++) {
        const uint8_t h[9] = {0, 0x40, 0, 9, 0, 0, 0, 0, 1};
        if (fs_write_all(guest_fd, h, 9) < 0 || fs_write_all(guest_fd, block, sizeof block) < 0)
            break; /* it hung up, as it should */
    }
    end_call(&c, t, -EPIPE);
}

static void silence_times_out_and_is_retried(void **state)
{
    (void)state;
    int pair[2];
    struct agent *a = NULL;
    struct err e;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    int64_t t0 = clock_mono_ms();
    assert_int_equal(agent_open(loop, pair[0], 700, &a, &e), -ETIMEDOUT);
    assert_in_range(clock_mono_ms() - t0, 690, 3000);
    char hello[SYNC_HELLO_LEN], again[SYNC_HELLO_LEN], *filler = malloc(SYNC_FILLER);
    assert_non_null(filler);
    read_exactly(pair[1], hello, sizeof hello);
    read_exactly(pair[1], filler, SYNC_FILLER);
    for (size_t i = 0; i < SYNC_FILLER; i++)
        assert_int_equal(filler[i], 0);
    read_exactly(pair[1], again, sizeof again);
    assert_memory_equal(hello, again, sizeof hello);
    free(filler);
    close(pair[1]);
}

static void wrong_nonce_is_not_an_answer(void **state)
{
    (void)state;
    int pair[2];
    struct agent *a = NULL;
    struct err e;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    static const char other[] = SYNC_MAGIC "00000000000000000000000000000000\r\n";
    assert_int_equal(fs_write_all(pair[1], other, sizeof other - 1), 0);
    assert_int_equal(agent_open(loop, pair[0], 150, &a, &e), -ETIMEDOUT);
    close(pair[1]);
}

static void dead_before_settings(void **state)
{
    (void)state;
    struct agent *a = NULL;
    struct err e;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    close(pair[1]);
    assert_int_equal(agent_open(loop, pair[0], 2000, &a, &e), -EPIPE);
    assert_int_equal(open_client(&a, false, 200, &e), -ETIMEDOUT); /* hello, then nothing */
    close(guest_fd);
}

static void calls_after_death_fail(void **state)
{
    (void)state;
    struct agent *a = NULL;
    struct err e;
    json_t *v = NULL;
    struct agent_stream *s = NULL;
    assert_int_equal(open_client(&a, true, 2000, &e), 0);
    agent_close(a);
    assert_int_equal(agent_call(a, "GET", WIRE_INFO, NULL, -1, &v, &e), -EPIPE);
    assert_int_equal(agent_stream_open(a, "GET", WIRE_LOGS, &s, &e), -EPIPE);
    agent_unref(a);
    close(guest_fd);
}

static void call_timeout(void **state)
{
    (void)state;
    struct agent *a = NULL;
    struct err e;
    json_t *v = NULL;
    assert_int_equal(open_client(&a, true, 2000, &e), 0);
    assert_int_equal(agent_call(a, "GET", WIRE_WAIT, NULL, 50, &v, &e), -ETIMEDOUT);
    done(a);
}

/* A frame header over the limit, and a stream that ends inside a frame. */
static void bad_stream_frames(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
    } rows[] = {{"\x10\xff\xff\xff", 4}, {"\x10\0\0\5abc", 7}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct agent *a = NULL;
        struct agent_stream *s = NULL;
        struct err e;
        struct buf b = BUF_INIT(0);
        assert_int_equal(open_client(&a, true, 2000, &e), 0);
        assert_int_equal(agent_stream_open(a, "GET", WIRE_LOGS, &s, &e), 0);
        await_request();
        put_frame(1, 4, 1, "\x88", 1);
        put_frame(0, 1, 1, rows[i].p, rows[i].n);
        assert_int_equal(agent_stream_next(s, &b, 2000, &e), -EPROTO);
        agent_stream_free(s);
        buf_done(&b);
        done(a);
    }
}

/* A reader that does not read: the guest gets no more window, our memory stays bounded. */
static void unread_stream_is_bounded(void **state)
{
    (void)state;
    struct agent *a = NULL;
    struct agent_stream *s = NULL;
    struct err e;
    char chunk[16384] = "\x10\0\x3f\xfc"; /* one frame of 16380 bytes */
    assert_int_equal(open_client(&a, true, 2000, &e), 0);
    assert_int_equal(agent_stream_open(a, "GET", WIRE_LOGS, &s, &e), 0);
    await_request();
    put_frame(4, 1, 0, NULL, 0);
    put_frame(1, 4, 1, "\x88", 1);
    for (int i = 0; i < WIRE_STREAM_WINDOW / 16384; i++)
        put_frame(0, 0, 1, chunk, sizeof chunk);
    put_frame(0, 0, 1, "x", 1); /* one byte over the window: FLOW_CONTROL_ERROR */
    struct buf b = BUF_INIT(0);
    int r, n = 0;
    while ((r = agent_stream_next(s, &b, 2000, &e)) > 0)
        n++;
    assert_int_equal(r, -EPIPE);
    assert_int_equal(n, WIRE_STREAM_WINDOW / 16384);
    agent_stream_free(s);
    buf_done(&b);
    done(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(status_becomes_errno),
        cmocka_unit_test(json_over_the_limit),
        cmocka_unit_test(json_that_is_none),
        cmocka_unit_test(stream_reset),
        cmocka_unit_test(death_while_waiting),
        cmocka_unit_test(goaway_ends_the_session),
        cmocka_unit_test(garbage_after_hello),
        cmocka_unit_test(giant_headers),
        cmocka_unit_test(silence_times_out_and_is_retried),
        cmocka_unit_test(wrong_nonce_is_not_an_answer),
        cmocka_unit_test(dead_before_settings),
        cmocka_unit_test(calls_after_death_fail),
        cmocka_unit_test(call_timeout),
        cmocka_unit_test(bad_stream_frames),
        cmocka_unit_test(unread_stream_is_bounded),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
