/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

static void test_unlimited(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){0, 0}, 5);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rate_take(&b, UINT64_MAX, 5), 0);
}

static void test_wait_is_exact(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){1000, 10}, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(rate_take(&b, 1, 0), 0);
    assert_int_equal(rate_take(&b, 1, 0), MS);
    assert_int_equal(rate_take(&b, 1, MS - 1), 1);
    assert_int_equal(rate_take(&b, 1, MS), 0);
    assert_int_equal(rate_take(&b, 4, MS), 4 * MS);
    assert_int_equal(rate_take(&b, 4, 5 * MS), 0);
}

static void test_bucket_does_not_overflow(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){1000, 10}, 0);
    assert_int_equal(rate_take(&b, 10, 0), 0);
    assert_int_equal(rate_take(&b, 10, 3600 * SECOND), 0);
    assert_int_equal(rate_take(&b, 1, 3600 * SECOND), MS);
}

/* burst 0 means one second's worth. */
static void test_default_burst(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){4096, 0}, 7);
    assert_int_equal(rate_take(&b, 4096, 7), 0);
    assert_int_not_equal(rate_take(&b, 1, 7), 0);
}

static void test_large_request_leaves_debt(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){100, 100}, 0);
    assert_int_equal(rate_take(&b, 300, 0), 0);
    assert_int_equal(rate_take(&b, 1, 0), 2 * SECOND + 10 * MS);
    assert_int_equal(rate_take(&b, 1, 2 * SECOND), 10 * MS);
    assert_int_equal(rate_take(&b, 300, 2 * SECOND + 10 * MS), 990 * MS);
    assert_int_equal(rate_take(&b, 300, 3 * SECOND), 0);
}

/* Called every few nanoseconds, the bucket must still give its rate, and not more. */
static void test_fractions_are_kept(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){3333333, 1}, 0);
    uint64_t taken = 0;
    for (uint64_t now = 0; now <= SECOND / 100; now += 7)
        taken += rate_take(&b, 1, now) == 0;
    assert_in_range(taken, 33200, 33334);
}

static void test_extremes(void **state)
{
    (void)state;
    struct rate_bucket b;
    rate_init(&b, (struct rate_limit){1, UINT64_MAX}, UINT64_MAX - 5);
    assert_int_equal(rate_take(&b, UINT64_MAX, UINT64_MAX - 5), 0);
    assert_int_not_equal(rate_take(&b, UINT64_MAX, UINT64_MAX - 4), 0);
    rate_init(&b, (struct rate_limit){UINT64_MAX, 0}, 0);
    assert_int_equal(rate_take(&b, UINT64_MAX, 0), 0);
    assert_int_equal(rate_take(&b, 1, 0), 1);
    assert_int_equal(rate_take(&b, UINT64_MAX, UINT64_MAX), 0);
    rate_init(&b, (struct rate_limit){10, 10}, SECOND);
    assert_int_equal(rate_take(&b, 10, SECOND), 0);
    assert_int_not_equal(rate_take(&b, 1, 0), 0); /* a clock that steps back only waits */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unlimited),
        cmocka_unit_test(test_wait_is_exact),
        cmocka_unit_test(test_bucket_does_not_overflow),
        cmocka_unit_test(test_default_burst),
        cmocka_unit_test(test_large_request_leaves_debt),
        cmocka_unit_test(test_fractions_are_kept),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
