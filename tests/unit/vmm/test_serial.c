/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "state_copy.h"
#include "vmm/dev/serial.h"

static unsigned raised;
static struct serial uart;
static int out[2];

static void count(void *arg, unsigned gsi)
{
    (void)arg;
    assert_int_equal(gsi, 4);
    raised++;
}

static int set_up(void **state)
{
    (void)state;
    raised = 0;
    serial_init(&uart, -1, (struct irq){count, NULL, 4});
    if (pipe2(out, O_NONBLOCK | O_CLOEXEC) < 0)
        return -1;
    uart.fd = out[1];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(out[0]);
    close(out[1]);
    return 0;
}

static uint8_t in(unsigned reg)
{
    uint8_t v;
    serial_ops.read(&uart, reg, &v, 1);
    return v;
}

static void put(unsigned reg, uint8_t v)
{
    serial_ops.write(&uart, reg, &v, 1);
}

/* The steps of Linux's autoconfig() and autoconfig_16550a(), drivers/tty/serial/8250/8250_port.c.
 */
static void test_linux_finds_a_16550a(void **state)
{
    (void)state;
    put(1, 0);
    assert_int_equal(in(1), 0);
    put(1, 0x0f);
    assert_int_equal(in(1), 0x0f);
    put(1, 0);
    put(4, 0x1a); /* loop back OUT2 and RTS */
    assert_int_equal(in(6) & 0xf0, 0x90);
    put(4, 0);
    assert_int_equal(in(6), 0xb0);
    put(3, 0xbf);
    put(2, 0);
    put(3, 0);
    put(2, 1);
    assert_int_equal(in(2) >> 6, 3); /* FIFOs */
    put(3, 0x80);
    assert_int_not_equal(in(2), 0); /* no enhanced features register: not a 16650 */
    put(3, 0xbf);
    assert_int_not_equal(in(2), 0);
    put(3, 0xe0);
    assert_int_equal(in(2) & 0x10, 0); /* not a SuperIO */
    put(3, 0);
    put(1, 0x40);
    assert_int_equal(in(1) & 0x40, 0); /* not an XScale */
    put(2, 0);
    assert_int_equal(in(2) >> 6, 0);
    put(7, 0xa5);
    assert_int_equal(in(7), 0xa5);
    assert_int_equal(in(5), 0x60);
}

static void test_divisor_latch(void **state)
{
    (void)state;
    put(3, 0x83);
    put(0, 0x34);
    put(1, 0x12);
    assert_int_equal(in(0), 0x34);
    assert_int_equal(in(1), 0x12);
    put(3, 0x03);
    assert_int_equal(in(0), 0);
    assert_int_equal(in(1), 0);
    char c;
    assert_int_equal(read(out[0], &c, 1), -1); /* the latch is not the transmitter */
}

static void test_transmit(void **state)
{
    (void)state;
    char got[4] = "";
    for (const char *p = "boot"; *p; p++)
        put(0, (uint8_t)*p);
    assert_int_equal(read(out[0], got, sizeof got), 4);
    assert_memory_equal(got, "boot", 4);
    put(4, 0x10); /* looped back: nothing leaves */
    put(0, 'x');
    assert_int_equal(read(out[0], got, 1), -1);
    assert_int_equal(raised, 0);
}

static void test_full_pipe(void **state)
{
    (void)state;
    assert_true(fcntl(out[1], F_SETPIPE_SZ, 4096) >= 4096);
    for (int i = 0; i < 5000; i++)
        put(0, 'x');
    assert_int_equal(uart.regs.dropped, 5000 - 4096);
    uart.fd = -1;
    put(0, 'x');
    assert_int_equal(uart.regs.dropped, 5000 - 4096);
}

/* As the 8250 driver sends: enable, then per interrupt read the cause and fill the FIFO. */
static void test_interrupts(void **state)
{
    (void)state;
    put(1, 0x02);
    assert_int_equal(raised, 1);
    assert_int_equal(in(2), 0x02);
    assert_int_equal(in(2), 0x01); /* acknowledged */
    for (int i = 0; i < 16; i++)
        put(0, 'x');
    assert_int_equal(raised, 2); /* one edge per burst */
    put(1, 0x00);
    assert_int_equal(in(2), 0x01);
    put(1, 0x02);
    assert_int_equal(raised, 3);
    assert_int_equal(in(2), 0x02);
    put(1, 0x02); /* enabled already: no new cause */
    assert_int_equal(raised, 3);
}

static void test_every_access(void **state)
{
    (void)state;
    for (unsigned len = 1; len <= 8; len *= 2) {
        for (unsigned offset = 0; offset + len <= 8; offset++) {
            uint8_t buf[9];
            memset(buf, 0x5a, sizeof buf);
            serial_ops.write(&uart, offset, buf, len);
            memset(buf, 0xee, sizeof buf);
            serial_ops.read(&uart, offset, buf, len);
            assert_int_equal(buf[len], 0xee);
        }
    }
}

static void test_persist(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r = {0};
    struct err e;
    put(3, 0x80);
    put(0, 1);
    put(1, 2);
    put(3, 0x13);
    put(2, 1);
    put(4, 0x0b);
    put(7, 0x77);
    put(1, 0x07);
    struct serial_registers before = uart.regs;
    state_writer_init(&w);
    serial_save(&uart, &w);
    assert_int_equal(state_copy(&w, &r), 0);
    serial_init(&uart, -1, uart.irq);
    assert_int_equal(serial_restore(&uart, &r, &e), 0);
    assert_memory_equal(&uart.regs, &before, sizeof before);
    assert_int_equal(in(2), 0xc2); /* the pending interrupt, too */
    state_copy_done(&w, &r);
}

static void test_hostile_state(void **state)
{
    (void)state;
    struct state_writer w;
    struct state_reader r = {0};
    struct serial_registers all;
    struct err e;
    memset(&all, 0xff, sizeof all);
    state_writer_init(&w);
    state_put(&w, STATE_SERIAL, 0, 1, &all, sizeof all);
    assert_int_equal(state_copy(&w, &r), 0);
    assert_int_equal(serial_restore(&uart, &r, &e), 0);
    put(3, 0);
    assert_int_equal(in(1), 0x0f);
    assert_int_equal(in(4), 0x1f);
    state_copy_done(&w, &r);
    state_writer_init(&w);
    state_put(&w, STATE_SERIAL, 0, 1, &all, sizeof all - 1);
    assert_int_equal(state_copy(&w, &r), 0);
    struct serial_registers before = uart.regs;
    assert_true(serial_restore(&uart, &r, &e) < 0);
    assert_memory_equal(&uart.regs, &before, sizeof before);
    state_copy_done(&w, &r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(test_linux_finds_a_16550a),
        T(test_divisor_latch),
        T(test_transmit),
        T(test_full_pipe),
        T(test_interrupts),
        T(test_every_access),
        T(test_persist),
        T(test_hostile_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
