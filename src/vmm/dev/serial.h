/* SPDX-License-Identifier: Apache-2.0 */
/* 8250/16550A UART, output only in practice: bytes go to a descriptor as they come, what cannot be
 * written at once is dropped (a guest must not be stopped by a slow log). vCPU threads; own lock.
 */
#ifndef VMM_DEV_SERIAL_H
#define VMM_DEV_SERIAL_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/snapshot/state.h"

struct serial_registers { /* the section STATE_SERIAL */
    uint8_t ier, lcr, mcr, scr, dll, dlm, fcr;
    uint8_t thre_pending; /* "transmitter empty" not yet acknowledged */
    uint64_t dropped;     /* bytes */
};

struct serial {
    pthread_mutex_t lock; /* of regs */
    int fd;               /* borrowed, non-blocking; -1 = nowhere */
    struct irq irq;
    struct serial_registers regs;
};

void serial_init(struct serial *s, int fd, struct irq irq);
extern const struct bus_ops serial_ops; /* 8 ports */
/* While all vCPUs are parked. */
void serial_save(struct serial *s, struct state_writer *w);
int serial_restore(struct serial *s, const struct state_reader *r, struct err *e) MUST_CHECK;

#endif
