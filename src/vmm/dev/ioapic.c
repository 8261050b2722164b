/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev/ioapic.h"

#include <stdbool.h>
#include <string.h>

/* Memory-mapped registers, and the indirect ones behind the window (82093AA data sheet §3). */
#define REG_SELECT 0x00
#define REG_WINDOW 0x10
#define INDEX_ID 0
#define INDEX_VERSION 1
#define INDEX_ARBITRATION 2
#define INDEX_ENTRY 0x10 /* two 32-bit halves per pin, low first */

/* Version 0x20 has an EOI register; with edges only there is nothing for it to do. */
#define VERSION (0x20u | (IOAPIC_PINS - 1) << 16)
#define ID_BITS 0x0f000000u

#define ENTRY_VECTOR UINT64_C(0xff)
#define ENTRY_MODE_SHIFT 8 /* delivery mode, 3 bits */
#define ENTRY_LOGICAL (UINT64_C(1) << 11)
#define ENTRY_MASKED (UINT64_C(1) << 16)
#define ENTRY_DEST_SHIFT 56
/* Vector, modes, polarity, trigger, mask and destination; delivery status and remote IRR read 0. */
#define ENTRY_BITS (UINT64_C(0xff) << ENTRY_DEST_SHIFT | 0x1afff)

#define MODE_LOWEST_PRIORITY 1
#define MSI_BASE UINT64_C(0xfee00000)
#define MSI_REDIRECTION_HINT 0x08
#define MSI_LOGICAL 0x04

#define IOAPIC_VERSION 1

void ioapic_init(struct ioapic *a, void (*send)(void *arg, uint64_t address, uint32_t data),
                 void *arg)
{
    *a = (struct ioapic){.send = send, .arg = arg};
    pthread_mutex_init(&a->lock, NULL);
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        a->regs.entry[i] = ENTRY_MASKED;
}

/* Takes the pin's pending interrupt: returns the entry that describes it, ENTRY_MASKED when there
 * is none or it must wait. The caller holds the lock and calls deliver() after giving it back,
 * because that enters the kernel. */
static uint64_t take(struct ioapic *a, unsigned pin)
{
    if (!(a->regs.pending & 1u << pin) || (a->regs.entry[pin] & ENTRY_MASKED))
        return ENTRY_MASKED;
    a->regs.pending &= ~(1u << pin);
    return a->regs.entry[pin];
}

/* Intel SDM 3A §11.11. The trigger bit stays "edge" whatever the entry says: the local APIC would
 * otherwise hold the vector until an EOI message that nobody here waits for. */
static void deliver(struct ioapic *a, uint64_t entry)
{
    uint64_t mode = entry >> ENTRY_MODE_SHIFT & 7;
    uint64_t address = MSI_BASE | (entry >> ENTRY_DEST_SHIFT) << 12;
    if (entry & ENTRY_MASKED)
        return;
    if (mode == MODE_LOWEST_PRIORITY)
        address |= MSI_REDIRECTION_HINT;
    if (entry & ENTRY_LOGICAL)
        address |= MSI_LOGICAL;
    a->send(a->arg, address, (uint32_t)(mode << 8 | (entry & ENTRY_VECTOR)));
}

void ioapic_raise(void *ioapic, unsigned gsi)
{
    struct ioapic *a = ioapic;
    if (gsi >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&a->lock);
    a->regs.pending |= 1u << gsi;
    uint64_t entry = take(a, gsi);
    pthread_mutex_unlock(&a->lock);
    deliver(a, entry);
}

/* The pin of the selected register, IOAPIC_PINS when it is not a redirection entry. */
static unsigned selected_pin(const struct ioapic *a)
{
    if (a->regs.select < INDEX_ENTRY || a->regs.select >= INDEX_ENTRY + 2 * IOAPIC_PINS)
        return IOAPIC_PINS;
    return (a->regs.select - INDEX_ENTRY) / 2;
}

static uint32_t read_window(const struct ioapic *a)
{
    unsigned pin = selected_pin(a);
    if (pin < IOAPIC_PINS)
        return (uint32_t)(a->regs.entry[pin] >> (a->regs.select & 1 ? 32 : 0));
    if (a->regs.select == INDEX_VERSION)
        return VERSION;
    return a->regs.select <= INDEX_ARBITRATION ? a->regs.id : 0;
}

static uint64_t write_window(struct ioapic *a, uint32_t v)
{
    unsigned pin = selected_pin(a);
    if (a->regs.select == INDEX_ID)
        a->regs.id = v & ID_BITS;
    if (pin == IOAPIC_PINS)
        return ENTRY_MASKED;
    uint64_t old = a->regs.entry[pin];
    uint64_t new = a->regs.select & 1 ? (uint64_t)v << 32 | (uint32_t)old : old >> 32 << 32 | v;
    a->regs.entry[pin] = new &ENTRY_BITS;
    return take(a, pin);
}

static void ioapic_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct ioapic *a = dev;
    uint64_t v = 0;
    pthread_mutex_lock(&a->lock);
    if (offset == REG_SELECT)
        v = a->regs.select;
    else if (offset == REG_WINDOW)
        v = read_window(a);
    pthread_mutex_unlock(&a->lock);
    memcpy(data, &v, len);
}

static void ioapic_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct ioapic *a = dev;
    uint64_t entry = ENTRY_MASKED;
    uint32_t v = 0;
    memcpy(&v, data, len < sizeof v ? len : sizeof v);
    pthread_mutex_lock(&a->lock);
    if (offset == REG_SELECT)
        a->regs.select = v & 0xff;
    else if (offset == REG_WINDOW)
        entry = write_window(a, v);
    pthread_mutex_unlock(&a->lock);
    deliver(a, entry);
}

const struct bus_ops ioapic_ops = {ioapic_read, ioapic_write};

void ioapic_save(struct ioapic *a, struct state_writer *w)
{
    state_put(w, STATE_IOAPIC, 0, IOAPIC_VERSION, &a->regs, sizeof a->regs);
}

int ioapic_restore(struct ioapic *a, const struct state_reader *r, struct err *e)
{
    int rc = state_get(r, STATE_IOAPIC, 0, IOAPIC_VERSION, &a->regs, sizeof a->regs, e);
    a->regs.id &= ID_BITS;
    a->regs.select &= 0xff;
    a->regs.pending &= (1u << IOAPIC_PINS) - 1;
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        a->regs.entry[i] &= ENTRY_BITS;
    return rc;
}
