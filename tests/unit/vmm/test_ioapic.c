/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "state_copy.h"
#include "vmm/dev/ioapic.h"

static struct ioapic apic;
static unsigned sent;
static uint64_t address;
static uint32_t data;

static void on_send(void *arg, uint64_t a, uint32_t d)
{
    assert_ptr_equal(arg, &apic);
    sent++;
    address = a;
    data = d;
}

static int set_up(void **state)
{
    (void)state;
    sent = 0;
    ioapic_init(&apic, on_send, &apic);
    return 0;
}

static void put(uint32_t index, uint32_t v)
{
    ioapic_ops.write(&apic, 0x00, &index, 4);
    ioapic_ops.write(&apic, 0x10, &v, 4);
}

static uint32_t get(uint32_t index)
{
    uint32_t v;
    ioapic_ops.write(&apic, 0x00, &index, 4);
    ioapic_ops.read(&apic, 0x10, &v, 4);
    return v;
}

/* High half first, as Linux's ioapic_write_entry() does. */
static void route(unsigned pin, uint64_t entry)
{
    put(0x11 + 2 * pin, (uint32_t)(entry >> 32));
    put(0x10 + 2 * pin, (uint32_t)entry);
}

static void test_registers(void **state)
{
    (void)state;
    assert_int_equal(get(1), 0x00170020);
    put(0, 0xffffffff);
    assert_int_equal(get(0), 0x0f000000);
    assert_int_equal(get(2), 0x0f000000);
    put(1, 0);
    assert_int_equal(get(1), 0x00170020);
    for (unsigned i = 0; i < 24; i++) {
        assert_int_equal(get(0x10 + 2 * i), 0x10000);
        put(0x10 + 2 * i, 0xffffffff); /* delivery status and remote IRR cannot be written */
        put(0x11 + 2 * i, 0xffffffff);
        assert_int_equal(get(0x10 + 2 * i), 0x1afff);
        assert_int_equal(get(0x11 + 2 * i), 0xff000000);
    }
    assert_int_equal(get(0x40), 0); /* behind the last entry */
    put(0x40, 1);
    assert_int_equal(get(3), 0);
    assert_int_equal(get(0x0f), 0);
    uint32_t select;
    ioapic_ops.read(&apic, 0, &select, 4);
    assert_int_equal(select, 0x0f);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        uint64_t entry, address;
        uint32_t data;
    } row[] = {
        {0x0000000000000030, 0xfee00000, 0x30},            /* fixed, physical, CPU 0 */
        {UINT64_C(0x0f00000000000031), 0xfee0f000, 0x31},  /* CPU 15 */
        {UINT64_C(0x0300000000000832), 0xfee03004, 0x32},  /* logical */
        {UINT64_C(0xff00000000000933), 0xfeeff00c, 0x133}, /* lowest priority, logical */
        {UINT64_C(0x000000000000a034), 0xfee00000, 0x34},  /* level, active low: an edge */
        {UINT64_C(0x0000000000000400), 0xfee00000, 0x400}, /* NMI */
    };
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        route(5, row[i].entry);
        ioapic_raise(&apic, 5);
        assert_int_equal(sent, i + 1);
        assert_int_equal(address, row[i].address);
        assert_int_equal(data, row[i].data);
    }
}

static void test_masked_is_remembered(void **state)
{
    (void)state;
    route(23, 0x10041);
    ioapic_raise(&apic, 23);
    ioapic_raise(&apic, 23);
    ioapic_raise(&apic, 24); /* no such pin */
    ioapic_raise(&apic, UINT32_MAX);
    assert_int_equal(sent, 0);
    put(0x11 + 46, 0x02000000);
    assert_int_equal(sent, 0);
    put(0x10 + 46, 0x41);
    assert_int_equal(sent, 1);
    assert_int_equal(address, 0xfee02000);
    put(0x10 + 46, 0x10041);
    put(0x10 + 46, 0x41);
    assert_int_equal(sent, 1); /* once */
}

static void test_every_access(void **state)
{
    (void)state;
    for (unsigned len = 1; len <= 8; len *= 2) {
        for (unsigned offset = 0; offset + len <= 0x50; offset++) {
            uint8_t buf[9];
            memset(buf, 0x13, sizeof buf);
            ioapic_ops.write(&apic, offset, buf, len);
            memset(buf, 0xee, sizeof buf);
            ioapic_ops.read(&apic, offset, buf, len);
            assert_int_equal(buf[len], 0xee);
        }
    }
    uint64_t v = UINT64_MAX;
    uint8_t one = 1;
    ioapic_ops.write(&apic, 0, &one, 1);
    ioapic_ops.read(&apic, 0x10, &v, 8);
    assert_int_equal(v, 0x00170020);
}

static void test_persist(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r = {0};
    struct err e;
    put(0, 0x03000000);
    for (unsigned i = 0; i < 24; i++)
        route(i, (uint64_t)i << 56 | (0x30 + i) | (i & 1 ? 0x10000 : 0));
    ioapic_raise(&apic, 7);
    struct ioapic_registers before = apic.regs;
    state_writer_init(&w);
    ioapic_save(&apic, &w);
    assert_int_equal(state_copy(&w, &r), 0);
    ioapic_init(&apic, on_send, &apic);
    assert_int_equal(ioapic_restore(&apic, &r, &e), 0);
    assert_memory_equal(&apic.regs, &before, sizeof before);
    put(0x10 + 14, 0x37); /* what was pending is delivered by the copy */
    assert_int_equal(sent, 1);
    assert_int_equal(data, 0x37);
    state_copy_done(&w, &r);
}

static void test_hostile_state(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r = {0};
    struct ioapic_registers all;
    struct err e;
    memset(&all, 0xff, sizeof all);
    state_writer_init(&w);
    state_put(&w, STATE_IOAPIC, 0, 1, &all, sizeof all);
    assert_int_equal(state_copy(&w, &r), 0);
    assert_int_equal(ioapic_restore(&apic, &r, &e), 0);
    assert_int_equal(apic.regs.pending, 0xffffff);
    uint32_t v;
    ioapic_ops.read(&apic, 0x10, &v, 4);
    assert_int_equal(v, 0);
    assert_int_equal(get(0x10), 0x1afff);
    state_copy_done(&w, &r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, set_up)
        T(test_registers),    T(test_messages), T(test_masked_is_remembered),
        T(test_every_access), T(test_persist),  T(test_hostile_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
