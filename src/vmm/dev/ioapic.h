/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 82093AA I/O APIC with 24 pins, for KVM's split irqchip: a raised line becomes the message its
 * redirection entry describes. All lines are edge-triggered, so there is no end-of-interrupt to
 * follow; an entry the guest programs as level-triggered is delivered as an edge. A line raised
 * while masked is remembered (IRR) and delivered at unmask. Any thread; own lock.
 */
#ifndef VMM_DEV_IOAPIC_H
#define VMM_DEV_IOAPIC_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/snapshot/state.h"

#define IOAPIC_PINS 24u
#define IOAPIC_BYTES 0x1000u

struct ioapic_registers { /* the section STATE_IOAPIC */
    uint32_t id, select;
    uint32_t pending; /* raised while masked, a bit per pin */
    uint32_t reserved;
    uint64_t entry[IOAPIC_PINS];
};

struct ioapic {
    pthread_mutex_t lock; /* of regs */
    struct ioapic_registers regs;
    /* Sends an MSI (Intel SDM 3A §11.11): address and data as on the bus. */
    void (*send)(void *arg, uint64_t address, uint32_t data);
    void *arg;
};

void ioapic_init(struct ioapic *a, void (*send)(void *arg, uint64_t address, uint32_t data),
                 void *arg);
void ioapic_raise(void *ioapic, unsigned gsi); /* fits struct irq */
extern const struct bus_ops ioapic_ops;
/* While all vCPUs and device threads are parked. */
void ioapic_save(struct ioapic *a, struct state_writer *w);
int ioapic_restore(struct ioapic *a, const struct state_reader *r, struct err *e) MUST_CHECK;

#endif
