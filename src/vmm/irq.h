/* SPDX-License-Identifier: Apache-2.0 */
/* An edge-triggered interrupt line as a device sees it. Any thread. Implemented by the IOAPIC
 * (dev/ioapic.h), by a counter in tests. */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

struct irq {
    void (*raise)(void *arg, unsigned gsi);
    void *arg; /* borrowed */
    unsigned gsi;
};

static inline void irq_raise(const struct irq *i)
{
    i->raise(i->arg, i->gsi);
}

#endif
