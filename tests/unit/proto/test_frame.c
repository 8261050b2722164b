/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "proto/wire.h"

static void bytes_on_the_wire(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    assert_int_equal(frame_put(&b, WIRE_FRAME_STDOUT, "abc", 3), 0);
    assert_int_equal(b.len, 7);
    assert_memory_equal(b.data,
                        "\x10\x00\x00\x03"
                        "abc",
                        7);
    buf_done(&b);
}

static void every_split_gives_the_same_frames(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    assert_int_equal(frame_put(&b, 1, "{}", 2), 0);
    assert_int_equal(frame_put(&b, 3, NULL, 0), 0);
    assert_int_equal(frame_put(&b, 255, "xyz", 3), 0);
    for (size_t cut = 0; cut <= b.len; cut++) {
        struct frame_reader r = {0};
        int types[4] = {0}, n = 0, type;
        struct slice p;
        assert_int_equal(frame_reader_add(&r, b.data, cut), 0);
        while (frame_reader_next(&r, &type, &p) == 1)
            types[n++] = type;
        assert_int_equal(frame_reader_add(&r, b.data + cut, b.len - cut), 0);
        while (frame_reader_next(&r, &type, &p) == 1)
            types[n++] = type;
        assert_int_equal(n, 3);
        assert_int_equal(types[0], 1);
        assert_int_equal(types[1], 3);
        assert_int_equal(types[2], 255);
        assert_true(slice_eq(p, "xyz"));
        assert_int_equal(frame_reader_left(&r), 0);
        frame_reader_done(&r);
    }
    buf_done(&b);
}

static void limits(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    char *big = calloc(1, 3 * WIRE_MAX_FRAME_DATA);
    assert_non_null(big);
    assert_int_equal(frame_put(&b, 1, big, WIRE_MAX_FRAME_DATA + 1), -EMSGSIZE);
    assert_int_equal(frame_put(&b, 256, big, 1), -EMSGSIZE);
    assert_int_equal(frame_put(&b, -1, big, 1), -EMSGSIZE);
    assert_int_equal(b.len, 0);
    assert_int_equal(frame_put(&b, 1, big, WIRE_MAX_FRAME_DATA), 0);
    buf_clear(&b);
    assert_int_equal(frame_put_all(&b, 16, big, 2 * WIRE_MAX_FRAME_DATA + 1), 0);
    assert_int_equal(b.len, 2 * WIRE_MAX_FRAME_DATA + 1 + 3 * WIRE_FRAME_HEADER);
    buf_clear(&b);
    assert_int_equal(frame_put_all(&b, 16, NULL, 0), 0);
    assert_int_equal(b.len, WIRE_FRAME_HEADER);
    buf_done(&b);
    free(big);

    struct frame_reader r = {0};
    int type;
    struct slice p;
    assert_int_equal(frame_reader_add(&r, "\x10\x01\x00\x01", 4), 0); /* 65537 */
    assert_int_equal(frame_reader_next(&r, &type, &p), -EPROTO);
    assert_int_equal(frame_reader_next(&r, &type, &p), -EPROTO);
    frame_reader_done(&r);
    r = (struct frame_reader){0};
    assert_int_equal(frame_reader_add(&r, "\x10\x01\x00\x00", 4), 0); /* 65536: more is needed */
    assert_int_equal(frame_reader_next(&r, &type, &p), 0);
    frame_reader_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_on_the_wire),
        cmocka_unit_test(every_split_gives_the_same_frames),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
