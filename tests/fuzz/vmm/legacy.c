/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices that are not virtio, behind their buses. Input: records of 12 bytes: operation,
 * log2 of the width, 16 bits of address, 8 bytes of data. Reads fill exactly their width, messages
 * are messages, and a damaged snapshot section leaves registers a guest could have written.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/dev/ged.h"
#include "vmm/dev/i8042.h"
#include "vmm/dev/ioapic.h"
#include "vmm/dev/rtc.h"
#include "vmm/dev/serial.h"
#include "vmm/layout.h"

#define RECORD 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PORT_READ, PORT_WRITE, MMIO_READ, MMIO_WRITE, RAISE, EVENT, RENEW, OPS };

static struct bus ports, mmio;
static struct serial serial;
static struct ioapic ioapic;
static struct rtc rtc;
static struct ged ged;
static struct i8042 i8042;

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void on_message(void *arg, uint64_t address, uint32_t data)
{
    (void)arg;
    check(address >> 20 == 0xfee && (data & ~0x7ffu) == 0);
}

static void ignore(void *arg)
{
    (void)arg;
}

static void power_on(void)
{
    ioapic_init(&ioapic, on_message, NULL);
    serial_init(&serial, -1, (struct irq){ioapic_raise, &ioapic, LAYOUT_IRQ_SERIAL});
    rtc_init(&rtc);
    ged_init(&ged, (struct irq){ioapic_raise, &ioapic, LAYOUT_IRQ_GED});
    ged.on_reset = ged.on_poweroff = i8042.on_reset = ignore;
}

static void build_buses(void)
{
    check(bus_add(&ports, LAYOUT_PORT_SERIAL, 8, &serial_ops, &serial) == 0);
    check(bus_add(&ports, LAYOUT_PORT_I8042, 5, &i8042_ops, &i8042) == 0);
    check(bus_add(&ports, LAYOUT_PORT_RTC, 2, &rtc_ops, &rtc) == 0);
    check(bus_add(&ports, LAYOUT_PORT_SLEEP, 2, &ged_sleep_ops, &ged) == 0);
    check(bus_add(&ports, LAYOUT_PORT_RESET, 1, &ged_reset_ops, &ged) == 0);
    check(bus_add(&mmio, LAYOUT_IOAPIC_BASE, IOAPIC_BYTES, &ioapic_ops, &ioapic) == 0);
    check(bus_add(&mmio, LAYOUT_GED_BASE, 4, &ged_ops, &ged) == 0);
}

static int copy(struct state_writer *w, struct state_reader *r)
{
    struct err e;
    int fd = memfd_create("state", MFD_CLOEXEC);
    int rc = state_writer_finish(w, fd, &e);
    if (rc == 0 && lseek(fd, 0, SEEK_SET) == 0)
        rc = state_reader_load(r, fd, &e);
    close(fd);
    return rc;
}

/* Saves all; damages the section that `which` names at `at`; restores. */
static void renew(unsigned which, unsigned at, uint8_t flip)
{
    struct state_writer w;
    struct state_reader r = {0};
    struct err e;
    state_writer_init(&w);
    ioapic_save(&ioapic, &w);
    serial_save(&serial, &w);
    rtc_save(&rtc, &w);
    ged_save(&ged, &w);
    check(copy(&w, &r) == 0 && r.n == 4);
    size_t start = (size_t)(r.section[which % 4].p - r.data);
    r.data[start + at % r.section[which % 4].n] ^= flip;
    power_on();
    check(ioapic_restore(&ioapic, &r, &e) == 0 && serial_restore(&serial, &r, &e) == 0);
    check(rtc_restore(&rtc, &r, &e) == 0 && ged_restore(&ged, &r, &e) == 0);
    state_writer_done(&w);
    state_reader_done(&r);
}

static void run_one(const uint8_t *p)
{
    unsigned len = 1u << (p[1] & 3);
    uint16_t address = (uint16_t)(p[2] | p[3] << 8);
    uint64_t where =
        address & 0x8000 ? LAYOUT_GED_BASE + (address & 7) : LAYOUT_IOAPIC_BASE + (address & 0xfff);
    uint8_t buf[9] = {[8] = 0xee};
    switch (p[0] % OPS) {
    case PORT_READ:
        bus_read(&ports, address, buf, len);
        break;
    case PORT_WRITE:
        bus_write(&ports, address, p + 4, len);
        break;
    case MMIO_READ:
        bus_read(&mmio, where, buf, len);
        break;
    case MMIO_WRITE:
        bus_write(&mmio, where, p + 4, len);
        break;
    case RAISE:
        ioapic_raise(&ioapic, address);
        break;
    case EVENT:
        ged_raise(&ged, address);
        break;
    default:
        renew(p[1], address, p[4]);
    }
    for (unsigned i = len; i < 8; i++)
        check(buf[i] == 0);
    check(buf[8] == 0xee);
}

static void check_registers(void)
{
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        check((ioapic.regs.entry[i] & 0x00fffffffffe5000) == 0);
    check(ioapic.regs.pending >> IOAPIC_PINS == 0 && serial.regs.ier < 16 && rtc.regs.index < 128);
    check((ged.pending & ~GED_EVENT_VMGENID) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (ports.n == 0)
        build_buses();
    power_on();
    for (; size >= RECORD; data += RECORD, size -= RECORD) {
        run_one(data);
        check_registers();
    }
    return 0;
}
