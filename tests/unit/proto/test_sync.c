/* SPDX-License-Identifier: Apache-2.0 */
/* Where a session starts in a pipe that may hold bytes of an older one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/sync.h"

#define NONCE_A "00112233445566778899aabbccddeeff"
#define NONCE_B "ffeeddccbbaa99887766554433221100"
#define HELLO_A SYNC_MAGIC NONCE_A "\r\n"
#define HELLO_B SYNC_MAGIC NONCE_B "\r\n"
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static struct sync_guest g;
static struct buf got; /* DATA since the last STARTED */
static int started, broken;

static int setup(void **state)
{
    (void)state;
    sync_guest_init(&g);
    got = BUF_INIT(0);
    started = broken = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_done(&got);
    return 0;
}

static void feed(const char *p, size_t n)
{
    while (n) {
        size_t used = 0, data_n = 0;
        const char *data;
        enum sync_event ev = sync_guest_feed(&g, p, n, &used, &data, &data_n);
        assert_true(used <= n);
        if (ev == SYNC_STARTED) {
            started++;
            buf_clear(&got);
        }
        broken += ev == SYNC_BROKEN;
        if (ev == SYNC_DATA)
            assert_int_equal(buf_add(&got, data, data_n), 0);
        else if (ev == SYNC_NEED_MORE)
            assert_int_equal(used, n);
        p += used;
        n -= used;
    }
}

static void feeds(const char *s)
{
    feed(s, strlen(s));
}

static void zeros(size_t n)
{
    char *z = calloc(1, n);
    assert_non_null(z);
    feed(z, n);
    free(z);
}

static void frame_head(size_t n, unsigned char type, unsigned char stream)
{
    const char h[9] = {(char)(n >> 16), (char)(n >> 8), (char)n, (char)type, 0, 0, 0, 0,
                       (char)stream};
    feed(h, sizeof h);
}

static void plain_start(void **state)
{
    (void)state;
    feeds(HELLO_A);
    assert_int_equal(started, 1);
    assert_memory_equal(g.hello, HELLO_A, SYNC_HELLO_LEN);
    feeds(PREFACE);
    frame_head(3, 0, 1);
    feeds("abc");
    assert_int_equal(got.len, 24 + 12);
    assert_memory_equal(got.data, PREFACE, 24);
    assert_int_equal(broken, 0);
}

static void start_byte_by_byte(void **state)
{
    (void)state;
    static const char all[] = HELLO_A PREFACE "\0\0\3\0\0\0\0\0\1abc";
    for (size_t i = 0; i < sizeof all - 1; i++)
        feed(all + i, 1);
    assert_int_equal(started, 1);
    assert_int_equal(got.len, 36);
}

static void retry_before_the_preface_is_ignored(void **state)
{
    (void)state;
    feeds(HELLO_A);
    zeros(SYNC_FILLER);
    feeds(HELLO_A);
    zeros(SYNC_FILLER);
    feeds(HELLO_A PREFACE);
    assert_int_equal(started, 1);
    assert_int_equal(got.len, 24);
}

static void hello_at_a_frame_boundary_starts_over(void **state)
{
    (void)state;
    feeds(HELLO_A PREFACE);
    frame_head(5, 0, 1);
    feeds("12345" HELLO_B PREFACE);
    assert_int_equal(started, 2);
    assert_memory_equal(g.hello, HELLO_B, SYNC_HELLO_LEN);
    assert_int_equal(got.len, 24);
    assert_int_equal(broken, 0);
}

static void hello_inside_a_payload_is_payload(void **state)
{
    (void)state;
    feeds(HELLO_A PREFACE);
    frame_head(SYNC_HELLO_LEN + 24, 0, 1);
    feeds(HELLO_B PREFACE);
    frame_head(1, 0, 1);
    feeds("x");
    assert_int_equal(started, 1);
    assert_int_equal(broken, 0);
    assert_int_equal(got.len, 24 + 9 + SYNC_HELLO_LEN + 24 + 10);
}

/* The host left inside a frame and came back without our seeing it. */
static void cut_frame_recovers_with_the_retry(void **state)
{
    (void)state;
    feeds(HELLO_A PREFACE);
    frame_head(SYNC_MAX_FRAME, 0, 1);
    feeds("only this much");
    feeds(HELLO_B); /* swallowed as payload */
    assert_int_equal(started, 1);
    zeros(SYNC_FILLER);
    /* The zeros that stand for frames are the session's; it rejects them. */
    sync_guest_lost(&g);
    zeros(SYNC_FILLER);
    feeds(HELLO_B PREFACE);
    assert_int_equal(started, 2);
    assert_int_equal(got.len, 24);
}

/* What an outsider can put into a tunnel must not start a session when framing is lost. */
static void lost_framing_trusts_no_payload(void **state)
{
    (void)state;
    feeds(HELLO_A PREFACE);
    frame_head(SYNC_MAX_FRAME + 1, 0, 1);
    assert_int_equal(g.state, SYNC_LOST);
    assert_int_equal(got.len, 24 + 9); /* the HTTP/2 layer is to see the bad header */
    feeds(HELLO_B PREFACE);
    zeros(SYNC_MAX_FRAME); /* the longest run one payload can hold */
    feeds("\1" HELLO_B PREFACE);
    assert_int_equal(started, 1);
    zeros(SYNC_MAX_FRAME);
    feeds(HELLO_B PREFACE);
    assert_int_equal(started, 1);
    zeros(SYNC_RUN);
    feeds(HELLO_B PREFACE);
    assert_int_equal(started, 2);
}

static void longest_zero_run_of_valid_frames_is_shorter_than_the_mark(void **state)
{
    (void)state;
    /* end of one frame, header with the fewest non-zero bytes, next payload */
    assert_true(SYNC_RUN > SYNC_MAX_FRAME + 8);
    assert_true(SYNC_FILLER >= SYNC_MAX_FRAME + SYNC_RUN);
}

static void closed_port_starts_clean(void **state)
{
    (void)state;
    feeds(HELLO_A PREFACE);
    frame_head(100, 0, 1);
    sync_guest_closed(&g);
    feeds(HELLO_B PREFACE);
    assert_int_equal(started, 2);
    assert_int_equal(broken, 0);
}

static void bad_lines(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "X",
        "TINDERBOX/2 ",
        SYNC_MAGIC "00112233445566778899AABB",
        SYNC_MAGIC NONCE_A "\n",
        HELLO_A "GET / HTTP/1.1\r\n",
        HELLO_A "PRI * HTTP/1.1",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        sync_guest_init(&g);
        broken = 0;
        feeds(bad[i]);
        assert_int_equal(broken, 1);
        assert_int_equal(g.state, SYNC_LOST);
    }
}

static void host_skips_to_its_own_nonce(void **state)
{
    (void)state;
    struct sync_host h;
    sync_host_init(&h, NONCE_A);
    static const char in[] = "leftovers TINDERBOX" HELLO_B "TTINDER" HELLO_A "rest";
    size_t want = sizeof in - 1 - 4;
    for (size_t cut = 0; cut < want; cut++) {
        bool found;
        sync_host_init(&h, NONCE_A);
        assert_int_equal(sync_host_feed(&h, in, cut, &found), cut);
        assert_false(found);
        assert_int_equal(sync_host_feed(&h, in + cut, sizeof in - 1 - cut, &found), want - cut);
        assert_true(found);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(plain_start),
        T(start_byte_by_byte),
        T(retry_before_the_preface_is_ignored),
        T(hello_at_a_frame_boundary_starts_over),
        T(hello_inside_a_payload_is_payload),
        T(cut_frame_recovers_with_the_retry),
        T(lost_framing_trusts_no_payload),
        T(longest_zero_run_of_valid_frames_is_shorter_than_the_mark),
        T(closed_port_starts_clean),
        T(bad_lines),
        T(host_skips_to_its_own_nonce),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
