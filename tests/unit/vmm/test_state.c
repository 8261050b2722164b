/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/snapshot/state.h"

static uint8_t file[65536];
static size_t file_len;

static void make_file(void)
{
    struct state_writer w;
    struct err e = {0};
    int fd = memfd_create("state", MFD_CLOEXEC);
    state_writer_init(&w);
    state_put(&w, STATE_RTC, 0, 1, "abcde", 5);
    state_put(&w, STATE_VIRTIO, 3, 2, "12345678", 8);
    assert_int_equal(state_writer_finish(&w, fd, &e), 0);
    state_writer_done(&w);
    file_len = (size_t)pread(fd, file, sizeof file, 0);
    close(fd);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct state_reader r;
    struct err e = {0};
    char five[5], eight[8];
    make_file();
    assert_int_equal(state_reader_parse(&r, file, file_len, &e), 0);
    assert_int_equal(r.n, 2);
    assert_int_equal(state_get(&r, STATE_RTC, 0, 1, five, 5, &e), 0);
    assert_memory_equal(five, "abcde", 5);
    assert_int_equal(state_get(&r, STATE_VIRTIO, 3, 2, eight, 8, &e), 0);
    assert_memory_equal(eight, "12345678", 8);
    assert_int_equal(state_get(&r, STATE_RTC, 0, 1, eight, 8, &e), -74);
    assert_non_null(strstr(e.text, "5 bytes, not 8"));
    assert_int_equal(state_get(&r, STATE_RTC, 0, 2, five, 5, &e), -74);
    assert_non_null(strstr(e.text, "version 1, not 2"));
    assert_int_equal(state_get(&r, STATE_RTC, 1, 1, five, 5, &e), -74);
    assert_null(state_find(&r, STATE_NET, 0, 1));
    assert_non_null(state_find(&r, STATE_VIRTIO, 3, 2));
    state_reader_done(&r);
}

static void test_every_flipped_bit_and_cut_is_refused(void **state)
{
    (void)state;
    struct state_reader r;
    struct err e = {0};
    make_file();
    for (size_t i = 0; i < file_len; i++) {
        file[i] ^= 4;
        int k = state_reader_parse(&r, file, file_len, &e);
        /* Padding is not covered: it carries nothing. */
        if (k == 0) {
            assert_true(i >= 32 + 24 + 5 && i < 32 + 24 + 8);
            state_reader_done(&r);
        }
        file[i] ^= 4;
    }
    for (size_t n = 0; n < file_len; n++)
        assert_int_equal(state_reader_parse(&r, file, n, &e), -74);
}

static void test_twice_the_same_section(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r;
    struct err e = {0};
    int fd = memfd_create("state", MFD_CLOEXEC);
    state_writer_init(&w);
    state_put(&w, STATE_RTC, 0, 1, "a", 1);
    state_put(&w, STATE_RTC, 0, 1, "b", 1);
    assert_int_equal(state_writer_finish(&w, fd, &e), 0);
    state_writer_done(&w);
    assert_int_equal(state_reader_load(&r, fd, &e), -74);
    close(fd);
}

static void test_too_much(void **state)
{
    (void)state;
    struct state_writer w;
    struct err e = {0};
    int fd = memfd_create("state", MFD_CLOEXEC);
    void *big = calloc(1, STATE_FILE_MAX);
    state_writer_init(&w);
    state_put(&w, STATE_RTC, 0, 1, big, STATE_FILE_MAX);
    assert_int_equal(state_writer_finish(&w, fd, &e), -7);
    state_writer_done(&w);
    free(big);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_flipped_bit_and_cut_is_refused),
        cmocka_unit_test(test_twice_the_same_section),
        cmocka_unit_test(test_too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
