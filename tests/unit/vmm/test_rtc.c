/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "state_copy.h"
#include "vmm/dev/rtc.h"

static struct rtc rtc;
static time_t now;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    assert_int_equal(clock, CLOCK_REALTIME);
    *ret = (struct timespec){.tv_sec = now};
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    rtc_init(&rtc);
    return 0;
}

static uint8_t in(uint8_t index)
{
    uint8_t v;
    rtc_ops.write(&rtc, 0, &index, 1);
    rtc_ops.read(&rtc, 1, &v, 1);
    return v;
}

static void put(uint8_t index, uint8_t v)
{
    rtc_ops.write(&rtc, 0, &index, 1);
    rtc_ops.write(&rtc, 1, &v, 1);
}

static int bcd(uint8_t v)
{
    assert_true((v & 15) < 10 && v >> 4 < 10);
    return (v >> 4) * 10 + (v & 15);
}

static void assert_time(time_t t)
{
    struct tm tm;
    now = t;
    assert_non_null(gmtime_r(&t, &tm));
    assert_int_equal(bcd(in(0)), tm.tm_sec);
    assert_int_equal(bcd(in(2)), tm.tm_min);
    assert_int_equal(bcd(in(4)), tm.tm_hour);
    assert_int_equal(bcd(in(6)), tm.tm_wday + 1);
    assert_int_equal(bcd(in(7)), tm.tm_mday);
    assert_int_equal(bcd(in(8)), tm.tm_mon + 1);
    assert_int_equal(bcd(in(9)) + 100 * bcd(in(0x32)), tm.tm_year + 1900);
}

static void test_time(void **state)
{
    (void)state;
    assert_time(0);
    assert_time(951827696);  /* 29 February 2000 */
    assert_time(4107542399); /* end of February 2100, which has 28 days */
    assert_time(4107542400);
    for (time_t day = 0; day < 100000; day++)
        assert_time(day * 86400 + day * 7919 % 86400);
}

static void test_binary(void **state)
{
    (void)state;
    now = 1700000000; /* 2023-11-14 22:13:20 */
    assert_int_equal(in(0x0b), 0x02);
    assert_int_equal(in(4), 0x22);
    put(0x0b, 0x04);
    assert_int_equal(in(0x0b), 0x06); /* there is no 12-hour mode */
    assert_int_equal(in(4), 22);
    assert_int_equal(in(9), 23);
    assert_int_equal(in(0x32), 20);
}

static void test_registers(void **state)
{
    (void)state;
    now = 1700000000;
    put(0x0a, 0xff);
    assert_int_equal(in(0x0a), 0x7f); /* no update in progress */
    put(0x0c, 0xff);
    assert_int_equal(in(0x0c), 0);
    put(0x0d, 0);
    assert_int_equal(in(0x0d), 0x80); /* the battery is fine */
    put(0, 0x01);
    assert_int_equal(in(0), 0x20); /* the time cannot be set */
    put(1, 0x33);
    assert_int_equal(in(1), 0x33); /* an alarm can, in vain */
    put(0xff, 0x44);
    assert_int_equal(in(0x7f), 0x44);
}

static void test_every_access(void **state)
{
    (void)state;
    for (unsigned index = 0; index < 256; index++) {
        uint8_t buf[3] = {(uint8_t)index, 0x55, 0xee};
        rtc_ops.write(&rtc, 0, buf, 2); /* one 16-bit write: index, then data */
        rtc_ops.read(&rtc, 0, buf, 2);
        assert_int_equal(buf[0], 0xff);
        assert_int_equal(buf[2], 0xee);
        (void)in((uint8_t)index);
    }
    assert_int_equal(in(0x40), 0x55);
}

static void test_persist(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r = {0};
    struct err e;
    for (unsigned i = 0x0e; i < 128; i++)
        put((uint8_t)i, (uint8_t)(i * 3));
    struct rtc_registers before = rtc.regs;
    state_writer_init(&w);
    rtc_save(&rtc, &w);
    assert_int_equal(state_copy(&w, &r), 0);
    rtc_init(&rtc);
    assert_int_equal(rtc_restore(&rtc, &r, &e), 0);
    assert_memory_equal(&rtc.regs, &before, sizeof before);
    state_copy_done(&w, &r);
    memset(&before, 0xff, sizeof before);
    state_writer_init(&w);
    state_put(&w, STATE_RTC, 0, 1, &before, sizeof before);
    assert_int_equal(state_copy(&w, &r), 0);
    assert_int_equal(rtc_restore(&rtc, &r, &e), 0);
    uint8_t v;
    rtc_ops.read(&rtc, 1, &v, 1);
    assert_int_equal(in(0x0a), 0x7f);
    state_copy_done(&w, &r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, set_up)
        T(test_time), T(test_binary), T(test_registers), T(test_every_access), T(test_persist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
