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

#define IOAPIC_VERSION 1

struct ioapic_state {
    uint32_t id, select, pending, reserved;
    uint64_t entry[IOAPIC_PINS];
};

struct message {
    uint64_t address;
    uint32_t data;
};

void ioapic_init(struct ioapic *a, void (*send)(void *arg, uint64_t address, uint32_t data),
                 void *arg)
{
    *a = (struct ioapic){.send = send, .arg = arg};
    pthread_mutex_init(&a->lock, NULL);
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        a->entry[i] = ENTRY_MASKED;
}

void ioapic_done(struct ioapic *a)
{
    pthread_mutex_destroy(&a->lock);
}

/* Intel SDM 3A §11.11. The trigger bit stays "edge" whatever the entry says: the local APIC would
 * otherwise hold the vector until an EOI message that nobody here waits for. */
static struct message compose(uint64_t entry)
{
    uint64_t mode = entry >> ENTRY_MODE_SHIFT & 7;
    uint64_t address = MSI_BASE | (entry >> ENTRY_DEST_SHIFT) << 12;
    if (mode == MODE_LOWEST_PRIORITY)
        address |= 1 << 3;
    if (entry & ENTRY_LOGICAL)
        address |= 1 << 2;
    return (struct message){address, (uint32_t)(mode << 8 | (entry & ENTRY_VECTOR))};
}

/* Takes the pin's pending interrupt if it can be delivered now. Called with the lock held; the
 * message is sent after it was given back, because sending enters the kernel. */
static bool take(struct ioapic *a, unsigned pin, struct message *ret)
{
    if (!(a->pending & 1u << pin) || (a->entry[pin] & ENTRY_MASKED))
        return false;
    a->pending &= ~(1u << pin);
    *ret = compose(a->entry[pin]);
    return true;
}

void ioapic_raise(void *ioapic, unsigned gsi)
{
    struct ioapic *a = ioapic;
    struct message msg;
    if (gsi >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&a->lock);
    a->pending |= 1u << gsi;
    bool deliver = take(a, gsi, &msg);
    pthread_mutex_unlock(&a->lock);
    if (deliver)
        a->send(a->arg, msg.address, msg.data);
}

/* The pin of the selected register, IOAPIC_PINS when it is not a redirection entry. */
static unsigned selected_pin(const struct ioapic *a)
{
    if (a->select < INDEX_ENTRY || a->select >= INDEX_ENTRY + 2 * IOAPIC_PINS)
        return IOAPIC_PINS;
    return (a->select - INDEX_ENTRY) / 2;
}

static uint32_t read_window(const struct ioapic *a)
{
    unsigned pin = selected_pin(a);
    if (pin < IOAPIC_PINS)
        return (uint32_t)(a->entry[pin] >> (a->select & 1 ? 32 : 0));
    switch (a->select) {
    case INDEX_ID:
    case INDEX_ARBITRATION:
        return a->id;
    case INDEX_VERSION:
        return VERSION;
    default:
        return 0;
    }
}

static bool write_window(struct ioapic *a, uint32_t v, struct message *ret)
{
    unsigned pin = selected_pin(a);
    if (a->select == INDEX_ID)
        a->id = v & ID_BITS;
    if (pin == IOAPIC_PINS)
        return false;
    uint64_t old = a->entry[pin];
    a->entry[pin] =
        (a->select & 1 ? (uint64_t)v << 32 | (uint32_t)old : (old >> 32) << 32 | v) & ENTRY_BITS;
    return take(a, pin, ret);
}

static void ioapic_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct ioapic *a = dev;
    uint64_t v = 0;
    pthread_mutex_lock(&a->lock);
    if (offset == REG_SELECT)
        v = a->select;
    else if (offset == REG_WINDOW)
        v = read_window(a);
    pthread_mutex_unlock(&a->lock);
    memcpy(data, &v, len);
}

static void ioapic_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct ioapic *a = dev;
    struct message msg;
    bool deliver = false;
    uint32_t v = 0;
    memcpy(&v, data, len < sizeof v ? len : sizeof v);
    pthread_mutex_lock(&a->lock);
    if (offset == REG_SELECT)
        a->select = v & 0xff;
    else if (offset == REG_WINDOW)
        deliver = write_window(a, v, &msg);
    pthread_mutex_unlock(&a->lock);
    if (deliver)
        a->send(a->arg, msg.address, msg.data);
}

const struct bus_ops ioapic_ops = {ioapic_read, ioapic_write};

void ioapic_save(struct ioapic *a, struct state_writer *w)
{
    struct ioapic_state st = {0};
    pthread_mutex_lock(&a->lock);
    st.id = a->id;
    st.select = a->select;
    st.pending = a->pending;
    memcpy(st.entry, a->entry, sizeof st.entry);
    pthread_mutex_unlock(&a->lock);
    state_put(w, STATE_IOAPIC, 0, IOAPIC_VERSION, &st, sizeof st);
}

int ioapic_restore(struct ioapic *a, const struct state_reader *r, struct err *e)
{
    struct ioapic_state st;
    int rc = state_get(r, STATE_IOAPIC, 0, IOAPIC_VERSION, &st, sizeof st, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&a->lock);
    a->id = st.id & ID_BITS;
    a->select = st.select & 0xff;
    a->pending = st.pending & ((1u << IOAPIC_PINS) - 1);
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        a->entry[i] = st.entry[i] & ENTRY_BITS;
    pthread_mutex_unlock(&a->lock);
    return 0;
}
