/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI generic event device (ACPI 6.4 §5.6.9) and what hangs on it: the VM generation id, which
 * changes when a machine is restored, and the sleep/reset registers of a hardware-reduced machine.
 * One 32-bit register at LAYOUT_GED_BASE: reading it returns and clears the pending events. Own
 * lock.
 */
#ifndef VMM_DEV_GED_H
#define VMM_DEV_GED_H

#include <pthread.h>

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/snapshot/state.h"

#define GED_EVENT_VMGENID 1u /* bit 0 */

struct ged {
    pthread_mutex_t lock;
    struct irq irq;
    uint32_t pending;               /* the section STATE_GED */
    void (*on_poweroff)(void *arg); /* sleep control register: SLP_EN with type 5 */
    void (*on_reset)(void *arg);
    void *arg;
};

void ged_init(struct ged *g, struct irq irq);
extern const struct bus_ops ged_ops;       /* MMIO, 4 bytes */
extern const struct bus_ops ged_sleep_ops; /* ports LAYOUT_PORT_SLEEP, 2 bytes */
extern const struct bus_ops ged_reset_ops; /* port LAYOUT_PORT_RESET, 1 byte */
void ged_raise(struct ged *g, uint32_t events);
/* While all vCPUs are parked. */
void ged_save(struct ged *g, struct state_writer *w);
int ged_restore(struct ged *g, const struct state_reader *r, struct err *e) MUST_CHECK;

#endif
