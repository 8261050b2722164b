/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "guest_driver.h"
#include "vmm/le.h"

#define SIZE 16u

struct fixture {
    struct guest g; /* no device: rings and memory only, 4 GiB around the hole */
    struct virtq q;
    struct virtq_chain c;
    uint64_t buf;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    guest_init(&f->g, UINT64_C(4) << 30);
    struct guest_queue *gq = &f->g.queue[0];
    *gq = (struct guest_queue){.size = SIZE,
                               .desc = guest_alloc(&f->g, 16 * SIZE, 16),
                               .avail = guest_alloc(&f->g, 6 + 2 * SIZE, 2),
                               .used = guest_alloc(&f->g, 6 + 8 * SIZE, 4)};
    f->q = (struct virtq){.size = SIZE,
                          .ready = true,
                          .desc = gq->desc,
                          .avail = gq->avail,
                          .used = gq->used,
                          .indirect = true,
                          .signalled_valid = true};
    f->buf = guest_alloc(&f->g, 65536, 4096);
    assert_int_equal(virtq_activate(&f->q, &f->g.mem), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    guest_done(&f->g);
    free(f);
    return 0;
}

static int pop(struct fixture *f)
{
    return virtq_pop(&f->q, &f->g.mem, &f->c);
}

static void expect_broken(struct fixture *f)
{
    assert_int_equal(pop(f), -EPROTO);
    assert_true(f->q.broken);
    assert_int_equal(pop(f), -EPROTO);
    /* Nothing more is written for this guest. */
    uint8_t before[6 + 8 * SIZE];
    void *used = guest_at(&f->g, f->q.used, sizeof before);
    memcpy(before, used, sizeof before);
    virtq_push(&f->q, &f->c, 1);
    assert_false(virtq_should_signal(&f->q));
    assert_false(virtq_enable_notify(&f->q));
    virtq_disable_notify(&f->q);
    assert_memory_equal(before, used, sizeof before);
}

static void desc(struct fixture *f, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
                 uint16_t next)
{
    guest_desc(&f->g, f->q.desc, i, addr, len, (uint16_t)flags, next);
}

static void test_chain(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pop(f), 0);
    const struct guest_buf b[] = {{f->buf, 10, false},
                                  {f->buf + 4096, 20, false},
                                  {f->buf + 8192, 30, true},
                                  {f->buf + 12288, 40, true}};
    uint16_t head = guest_add(&f->g, 0, b, 4);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->c.head, head);
    assert_int_equal(f->c.n_out, 2);
    assert_int_equal(f->c.n_in, 2);
    assert_int_equal(f->c.out_bytes, 30);
    assert_int_equal(f->c.in_bytes, 70);
    assert_ptr_equal(f->c.iov[2].iov_base, guest_at(&f->g, f->buf + 8192, 1));
    assert_int_equal(pop(f), 0);
    virtq_unpop(&f->q);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->c.head, head);
    virtq_push(&f->q, &f->c, 70);
    uint16_t got;
    uint32_t len;
    assert_true(guest_used(&f->g, 0, &got, &len));
    assert_int_equal(got, head);
    assert_int_equal(len, 70);
}

static void test_copies(void **state)
{
    struct fixture *f = *state;
    char *mem = guest_at(&f->g, f->buf, 65536), out[32];
    const struct guest_buf b[] = {{f->buf, 3, false},
                                  {f->buf + 100, 4, false},
                                  {f->buf + 200, 2, true},
                                  {f->buf + 300, 5, true}};
    memcpy(mem, "abc", 3);
    memcpy(mem + 100, "defg", 4);
    guest_add(&f->g, 0, b, 4);
    assert_int_equal(pop(f), 1);
    assert_int_equal(virtq_read(&f->c, 0, out, sizeof out), 7);
    assert_memory_equal(out, "abcdefg", 7);
    assert_int_equal(virtq_read(&f->c, 2, out, 3), 3);
    assert_memory_equal(out, "cde", 3);
    assert_int_equal(virtq_read(&f->c, 7, out, 3), 0);
    assert_int_equal(virtq_read(&f->c, UINT32_MAX, out, 3), 0);
    assert_int_equal(virtq_write(&f->c, 1, "123456789", 9), 6);
    assert_memory_equal(mem + 200,
                        "\0"
                        "1",
                        2);
    assert_memory_equal(mem + 300, "23456\0", 6);
    assert_int_equal(virtq_write(&f->c, 0, "xy", 2), 2);
    assert_memory_equal(mem + 200, "xy2", 2);
}

static void test_activation_checks(void **state)
{
    struct fixture *f = *state;
    const struct virtq good = {.size = 16, .desc = 0x1000, .avail = 0x2000, .used = 0x3000};
    struct virtq bad[] = {good, good, good, good, good, good, good, good, good, good, good};
    bad[0].size = 0;
    bad[1].size = 24;
    bad[2].size = 512;
    bad[3].desc += 8;
    bad[4].avail += 1;
    bad[5].used += 2;
    bad[6].desc = GMEM_HOLE_START;
    bad[7].desc = GMEM_HOLE_START - 128;                    /* half in the hole */
    bad[8].avail = GMEM_HOLE_START - (6 + 2 * 16) + 2;      /* only its event index is */
    bad[9].used = UINT64_MAX - 3;                           /* wraps */
    bad[10].used = GMEM_HOLE_END + (UINT64_C(1) << 30) - 8; /* behind the end */
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(virtq_activate(&bad[i], &f->g.mem), -EPROTO);
        /* Not active is empty, not a crash. */
        assert_int_equal(virtq_pop(&bad[i], &f->g.mem, &f->c), 0);
        virtq_push(&bad[i], &f->c, 0);
        assert_false(virtq_should_signal(&bad[i]));
        assert_false(virtq_enable_notify(&bad[i]));
    }
    struct virtq q = good;
    assert_int_equal(virtq_activate(&q, &f->g.mem), 0);
    q.avail = GMEM_HOLE_START - (6 + 2 * 16);
    assert_int_equal(virtq_activate(&q, &f->g.mem), 0);
}

static void test_loops(void **state)
{
    struct fixture *f = *state;
    desc(f, 0, f->buf, 8, GUEST_D_NEXT, 1);
    desc(f, 1, f->buf, 8, GUEST_D_NEXT, 0);
    guest_offer(&f->g, 0, 0);
    expect_broken(f);
}

static void test_loop_on_itself(void **state)
{
    struct fixture *f = *state;
    desc(f, 3, f->buf, 8, GUEST_D_NEXT | GUEST_D_WRITE, 3);
    guest_offer(&f->g, 0, 3);
    expect_broken(f);
}

static void test_head_out_of_range(void **state)
{
    struct fixture *f = *state;
    guest_offer(&f->g, 0, SIZE);
    expect_broken(f);
}

static void test_next_out_of_range(void **state)
{
    struct fixture *f = *state;
    desc(f, 0, f->buf, 8, GUEST_D_NEXT, 0xffff);
    guest_offer(&f->g, 0, 0);
    expect_broken(f);
}

static void test_available_too_far(void **state)
{
    struct fixture *f = *state;
    f->g.queue[0].next_avail = SIZE; /* and one more: 17 */
    guest_offer(&f->g, 0, 0);
    expect_broken(f);
}

static void test_available_backwards(void **state)
{
    struct fixture *f = *state;
    f->g.queue[0].next_avail = 0xfffe;
    guest_offer(&f->g, 0, 0);
    expect_broken(f);
}

/* As many as there are descriptors may be under way; a queue restored with more is refused. */
static void test_more_in_flight_than_entries(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < SIZE; i++) {
        guest_add(&f->g, 0, &(struct guest_buf){f->buf, 1, true}, 1);
        assert_int_equal(pop(f), 1);
    }
    guest_add(&f->g, 0, &(struct guest_buf){f->buf, 1, true}, 1);
    expect_broken(f);
}

static void test_read_after_write(void **state)
{
    struct fixture *f = *state;
    const struct guest_buf b[] = {{f->buf, 8, true}, {f->buf, 8, false}};
    guest_add(&f->g, 0, b, 2);
    expect_broken(f);
}

static void test_empty_descriptor(void **state)
{
    struct fixture *f = *state;
    const struct guest_buf b[] = {{f->buf, 8, false}, {f->buf, 0, true}};
    guest_add(&f->g, 0, b, 2);
    expect_broken(f);
}

static void refuse_buffer(void **state, uint64_t gpa, uint32_t len)
{
    struct fixture *f = *state;
    guest_add(&f->g, 0, &(struct guest_buf){gpa, len, true}, 1);
    expect_broken(f);
}

static void test_straddles_the_hole(void **state)
{
    refuse_buffer(state, GMEM_HOLE_START - 8, 16);
}

static void test_in_the_hole(void **state)
{
    refuse_buffer(state, UINT64_C(0xd0000000), 4);
}

static void test_from_the_hole(void **state)
{
    refuse_buffer(state, GMEM_HOLE_END - 8, 16);
}

static void test_behind_the_end(void **state)
{
    refuse_buffer(state, GMEM_HOLE_END + (UINT64_C(1) << 30) - 8, 16);
}

static void test_address_wraps(void **state)
{
    refuse_buffer(state, UINT64_MAX - 7, 16);
}

static void test_total_length(void **state)
{
    struct fixture *f = *state;
    const struct guest_buf b[] = {{0, 0x80000000, false}, {0, 0x7fffffff, true}, {0, 1, true}};
    guest_add(&f->g, 0, b, 2);
    assert_int_equal(pop(f), 1); /* one byte below 4 GiB */
    virtq_push(&f->q, &f->c, 0);
    guest_add(&f->g, 0, b, 3);
    expect_broken(f);
}

static void test_indirect(void **state)
{
    struct fixture *f = *state;
    const struct guest_buf b[] = {{f->buf, 8, false}, {f->buf + 64, 16, true}};
    uint16_t head = guest_add_indirect(&f->g, 0, b, 2);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->c.head, head);
    assert_int_equal(f->c.n_out, 1);
    assert_int_equal(f->c.in_bytes, 16);
    virtq_push(&f->q, &f->c, 0);
    /* Ordinary descriptors first, then a table: §2.7.5.3.1. */
    uint64_t table = guest_alloc(&f->g, 32, 16);
    guest_desc(&f->g, table, 0, f->buf, 3, GUEST_D_WRITE, 0);
    desc(f, 8, f->buf, 5, GUEST_D_NEXT, 9);
    desc(f, 9, table, 32, GUEST_D_INDIRECT | GUEST_D_WRITE, 0);
    guest_offer(&f->g, 0, 8);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->c.out_bytes, 5);
    assert_int_equal(f->c.in_bytes, 3);
}

static void test_longest_chain(void **state)
{
    struct fixture *f = *state;
    struct guest_buf b[VIRTQ_CHAIN_MAX + 1];
    for (unsigned i = 0; i <= VIRTQ_CHAIN_MAX; i++)
        b[i] = (struct guest_buf){f->buf + i, 1, true};
    guest_add_indirect(&f->g, 0, b, VIRTQ_CHAIN_MAX);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->c.n_in, VIRTQ_CHAIN_MAX);
    virtq_push(&f->q, &f->c, 0);
    guest_add_indirect(&f->g, 0, b, VIRTQ_CHAIN_MAX + 1);
    expect_broken(f);
}

static void test_one_descriptor_and_a_full_table(void **state)
{
    struct fixture *f = *state;
    uint64_t table = guest_alloc(&f->g, 16 * VIRTQ_CHAIN_MAX, 16);
    for (unsigned i = 0; i < VIRTQ_CHAIN_MAX; i++)
        guest_desc(&f->g, table, i, f->buf, 1, i + 1 < VIRTQ_CHAIN_MAX ? GUEST_D_NEXT : 0,
                   (uint16_t)(i + 1));
    desc(f, 0, f->buf, 5, GUEST_D_NEXT, 1);
    desc(f, 1, table, 16 * VIRTQ_CHAIN_MAX, GUEST_D_INDIRECT, 0);
    guest_offer(&f->g, 0, 0);
    expect_broken(f);
}

static void refuse_indirect(struct fixture *f, uint64_t table, uint32_t len, unsigned flags)
{
    desc(f, 0, table, len, GUEST_D_INDIRECT | flags, 1);
    desc(f, 1, f->buf, 1, 0, 0);
    guest_offer(&f->g, 0, 0);
    expect_broken(f);
}

static void test_indirect_not_negotiated(void **state)
{
    struct fixture *f = *state;
    f->q.indirect = false;
    guest_add_indirect(&f->g, 0, &(struct guest_buf){f->buf, 8, false}, 1);
    expect_broken(f);
}

static void test_indirect_nested(void **state)
{
    struct fixture *f = *state;
    uint64_t table = guest_alloc(&f->g, 16, 16);
    guest_desc(&f->g, table, 0, table, 16, GUEST_D_INDIRECT, 0);
    refuse_indirect(f, table, 16, 0);
}

static void test_indirect_odd_size(void **state)
{
    struct fixture *f = *state;
    uint64_t table = guest_alloc(&f->g, 64, 16);
    guest_desc(&f->g, table, 0, f->buf, 16, 0, 0);
    refuse_indirect(f, table, 24, 0);
}

static void test_indirect_empty(void **state)
{
    refuse_indirect(*state, 0x20000, 0, 0);
}

static void test_indirect_too_large(void **state)
{
    struct fixture *f = *state;
    guest_desc(&f->g, f->buf, 0, f->buf, 16, 0, 0);
    refuse_indirect(f, f->buf, 16 * (VIRTQ_CHAIN_MAX + 1), 0);
}

static void test_indirect_straddles_the_hole(void **state)
{
    struct fixture *f = *state;
    guest_desc(&f->g, GMEM_HOLE_START - 16, 0, f->buf, 16, 0, 0);
    refuse_indirect(f, GMEM_HOLE_START - 16, 32, 0);
}

static void test_indirect_and_next(void **state)
{
    struct fixture *f = *state;
    uint64_t table = guest_alloc(&f->g, 16, 16);
    guest_desc(&f->g, table, 0, f->buf, 16, 0, 0);
    refuse_indirect(f, table, 16, GUEST_D_NEXT);
}

static void test_indirect_next_out_of_table(void **state)
{
    struct fixture *f = *state;
    uint64_t table = guest_alloc(&f->g, 16, 16);
    guest_desc(&f->g, table, 0, f->buf, 16, GUEST_D_NEXT, 1);
    refuse_indirect(f, table, 16, 0);
}

/* Indexes run over 65535, entries over the ring's end. */
static void test_wrap(void **state)
{
    struct fixture *f = *state;
    f->q.next_avail = f->q.next_used = f->q.signalled = 0xfff8;
    f->g.queue[0].next_avail = f->g.queue[0].last_used = 0xfff8;
    le16_put(guest_at(&f->g, f->q.used + 2, 2), 0xfff8);
    for (int i = 0; i < 40; i++) {
        uint16_t want = guest_add(&f->g, 0, &(struct guest_buf){f->buf, 8, true}, 1), got;
        uint32_t len;
        assert_int_equal(pop(f), 1);
        virtq_push(&f->q, &f->c, 8);
        assert_true(virtq_should_signal(&f->q));
        assert_true(guest_used(&f->g, 0, &got, &len));
        assert_int_equal(got, want);
    }
    assert_int_equal(f->q.next_used, (uint16_t)(0xfff8 + 40));
}

static void one_round(struct fixture *f)
{
    guest_add(&f->g, 0, &(struct guest_buf){f->buf, 8, true}, 1);
    assert_int_equal(pop(f), 1);
    virtq_push(&f->q, &f->c, 8);
}

static void test_signal_by_flag(void **state)
{
    struct fixture *f = *state;
    struct le16 *flags = guest_at(&f->g, f->q.avail, 2);
    assert_false(virtq_should_signal(&f->q)); /* nothing was pushed */
    one_round(f);
    assert_true(virtq_should_signal(&f->q));
    assert_false(virtq_should_signal(&f->q));
    le16_put(flags, 1);
    one_round(f);
    assert_false(virtq_should_signal(&f->q));
}

static void test_signal_by_event_index(void **state)
{
    struct fixture *f = *state;
    f->q.event_idx = true;
    struct le16 *event = guest_at(&f->g, f->q.avail + 4 + 2 * SIZE, 2);
    le16_put(event, 1); /* wants to hear of entry 1, not of 0 */
    one_round(f);
    assert_false(virtq_should_signal(&f->q));
    one_round(f);
    assert_true(virtq_should_signal(&f->q));
    one_round(f);
    assert_false(virtq_should_signal(&f->q)); /* it did not move its event index */
    le16_put(event, 4);
    one_round(f);
    one_round(f);
    one_round(f); /* entries 3, 4, 5 at once */
    assert_true(virtq_should_signal(&f->q));
    f->q.signalled_valid = false; /* as after a restore */
    one_round(f);
    assert_true(virtq_should_signal(&f->q));
}

static void test_notify_suppression(void **state)
{
    struct fixture *f = *state;
    struct le16 *flags = guest_at(&f->g, f->q.used, 2);
    virtq_disable_notify(&f->q);
    assert_int_equal(le16_get(flags), 1);
    guest_add(&f->g, 0, &(struct guest_buf){f->buf, 8, true}, 1);
    assert_true(virtq_enable_notify(&f->q)); /* came while it was off */
    assert_int_equal(le16_get(flags), 0);
    assert_int_equal(pop(f), 1);
    assert_false(virtq_enable_notify(&f->q));
    f->q.event_idx = true;
    assert_false(virtq_enable_notify(&f->q));
    assert_int_equal(le16_get(guest_at(&f->g, f->q.used + 4 + 8 * SIZE, 2)), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_chain),
        TEST(test_copies),
        TEST(test_activation_checks),
        TEST(test_loops),
        TEST(test_loop_on_itself),
        TEST(test_head_out_of_range),
        TEST(test_next_out_of_range),
        TEST(test_available_too_far),
        TEST(test_available_backwards),
        TEST(test_more_in_flight_than_entries),
        TEST(test_read_after_write),
        TEST(test_empty_descriptor),
        TEST(test_straddles_the_hole),
        TEST(test_in_the_hole),
        TEST(test_from_the_hole),
        TEST(test_behind_the_end),
        TEST(test_address_wraps),
        TEST(test_total_length),
        TEST(test_indirect),
        TEST(test_longest_chain),
        TEST(test_one_descriptor_and_a_full_table),
        TEST(test_indirect_not_negotiated),
        TEST(test_indirect_nested),
        TEST(test_indirect_odd_size),
        TEST(test_indirect_empty),
        TEST(test_indirect_too_large),
        TEST(test_indirect_straddles_the_hole),
        TEST(test_indirect_and_next),
        TEST(test_indirect_next_out_of_table),
        TEST(test_wrap),
        TEST(test_signal_by_flag),
        TEST(test_signal_by_event_index),
        TEST(test_notify_suppression),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
