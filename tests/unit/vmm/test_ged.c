/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "state_copy.h"
#include "vmm/dev/ged.h"
#include "vmm/dev/i8042.h"

static struct ged ged;
static unsigned raised, resets, poweroffs;

static void on_irq(void *arg, unsigned gsi)
{
    (void)arg;
    assert_int_equal(gsi, 9);
    raised++;
}

static void on_reset(void *arg)
{
    assert_ptr_equal(arg, &ged);
    resets++;
}

static void on_poweroff(void *arg)
{
    assert_ptr_equal(arg, &ged);
    poweroffs++;
}

static int set_up(void **state)
{
    (void)state;
    raised = resets = poweroffs = 0;
    ged_init(&ged, (struct irq){on_irq, NULL, 9});
    ged.on_reset = on_reset;
    ged.on_poweroff = on_poweroff;
    ged.arg = &ged;
    return 0;
}

static uint32_t selector(void)
{
    uint32_t v = UINT32_MAX;
    ged_ops.read(&ged, 0, &v, 4);
    return v;
}

static void test_event(void **state)
{
    (void)state;
    uint8_t part;
    assert_int_equal(selector(), 0);
    ged_raise(&ged, GED_EVENT_VMGENID);
    assert_int_equal(raised, 1);
    ged_ops.read(&ged, 0, &part, 1); /* not the access of the ACPI method */
    assert_int_equal(part, 0);
    ged_ops.write(&ged, 0, &part, 1);
    assert_int_equal(selector(), GED_EVENT_VMGENID);
    assert_int_equal(selector(), 0);
}

static void test_power(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 256; v++) { /* SLP_EN is bit 5, the type is in bits 2 to 4 */
        uint8_t b[2] = {(uint8_t)v, 0xff};
        poweroffs = 0;
        ged_sleep_ops.write(&ged, 1, b, 1); /* status */
        assert_int_equal(poweroffs, 0);
        ged_sleep_ops.write(&ged, 0, b, 2);
        assert_int_equal(poweroffs, (v & 0x20) && (v >> 2 & 7) == 5);
    }
    uint8_t status[2] = {1, 1};
    ged_sleep_ops.read(&ged, 0, status, 2);
    assert_int_equal(status[0] | status[1], 0);
    assert_int_equal(resets, 0);
}

static void test_reset(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 256; v++) {
        uint8_t b = (uint8_t)v;
        resets = 0;
        ged_reset_ops.write(&ged, 0, &b, 1);
        assert_int_equal(resets, v == 1);
    }
    uint8_t b = 7;
    ged_reset_ops.read(&ged, 0, &b, 1);
    assert_int_equal(b, 0);
    assert_int_equal(poweroffs, 0);
}

static void test_i8042(void **state)
{
    (void)state;
    struct i8042 k = {on_reset, &ged};
    for (unsigned len = 1; len <= 4; len *= 2) {
        for (unsigned offset = 0; offset + len <= 5; offset++) {
            uint8_t b[5];
            memset(b, 0xee, sizeof b);
            i8042_ops.read(&k, offset, b, len);
            for (unsigned i = 0; i < sizeof b; i++)
                assert_int_equal(b[i], i < len ? 0 : 0xee);
            i8042_ops.write(&k, offset, b, len);
        }
    }
    uint8_t pulse = 0xfe;
    assert_int_equal(resets, 0);
    i8042_ops.write(&k, 0, &pulse, 1); /* data, not a command */
    i8042_ops.write(&k, 1, &pulse, 1);
    assert_int_equal(resets, 0);
    i8042_ops.write(&k, 4, &pulse, 1);
    assert_int_equal(resets, 1);
}

static void test_persist(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r = {0};
    struct err e;
    ged_raise(&ged, GED_EVENT_VMGENID);
    state_writer_init(&w);
    ged_save(&ged, &w);
    assert_int_equal(state_copy(&w, &r), 0);
    assert_int_equal(selector(), GED_EVENT_VMGENID);
    assert_int_equal(ged_restore(&ged, &r, &e), 0);
    assert_int_equal(selector(), GED_EVENT_VMGENID);
    state_copy_done(&w, &r);
    uint32_t all = UINT32_MAX;
    state_writer_init(&w);
    state_put(&w, STATE_GED, 0, 1, &all, sizeof all);
    assert_int_equal(state_copy(&w, &r), 0);
    assert_int_equal(ged_restore(&ged, &r, &e), 0);
    assert_int_equal(selector(), GED_EVENT_VMGENID);
    state_copy_done(&w, &r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, set_up)
        T(test_event), T(test_power), T(test_reset), T(test_i8042), T(test_persist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
