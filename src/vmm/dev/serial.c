/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transmitter that is always empty: a byte is gone the moment it is written. What remains of the
 * 16550A (PC16550D data sheet) is what Linux's 8250 driver probes for: the FIFO bits of IIR, the
 * modem loop-back, the scratch register, and the "transmitter empty" interrupt, raised as an edge
 * whenever its condition becomes true.
 */
#include "vmm/dev/serial.h"

#include <unistd.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_BITS 0x0f
#define IER_THRI 0x02
#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_FIFO 0xc0
#define FCR_ENABLE 0x01
#define LCR_DLAB 0x80  /* the divisor latch replaces the first two registers */
#define LSR_EMPTY 0x60 /* holding register and shift register */
#define MCR_BITS 0x1f
#define MCR_LOOP 0x10
#define MSR_READY 0xb0 /* carrier, data set ready, clear to send */

#define SERIAL_VERSION 1

void serial_init(struct serial *s, int fd, struct irq irq)
{
    *s = (struct serial){.fd = fd, .irq = irq, .regs.dll = 12 /* 9600 baud */};
    pthread_mutex_init(&s->lock, NULL);
}

static bool wants_interrupt(const struct serial *s)
{
    return s->regs.thre_pending && (s->regs.ier & IER_THRI);
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t fifo = s->regs.fcr & FCR_ENABLE ? IIR_FIFO : 0;
    if (!wants_interrupt(s))
        return fifo | IIR_NONE;
    s->regs.thre_pending = 0; /* reading the cause acknowledges it */
    return fifo | IIR_THRI;
}

/* In loop-back the outputs RTS, DTR, OUT1 and OUT2 appear as CTS, DSR, RI and DCD. */
static uint8_t read_msr(uint8_t mcr)
{
    if (!(mcr & MCR_LOOP))
        return MSR_READY;
    return (uint8_t)((mcr & 0x02) << 3 | (mcr & 0x01) << 5 | (mcr & 0x0c) << 4);
}

static uint8_t read_register(struct serial *s, uint64_t reg)
{
    bool latch = s->regs.lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        return latch ? s->regs.dll : 0;
    case REG_IER:
        return latch ? s->regs.dlm : s->regs.ier;
    case REG_IIR_FCR:
        return read_iir(s);
    case REG_LCR:
        return s->regs.lcr;
    case REG_MCR:
        return s->regs.mcr;
    case REG_LSR:
        return LSR_EMPTY;
    case REG_MSR:
        return read_msr(s->regs.mcr);
    default:
        return s->regs.scr;
    }
}

static void transmit(struct serial *s, uint8_t byte)
{
    s->regs.thre_pending = 1;
    if (s->fd >= 0 && !(s->regs.mcr & MCR_LOOP) && write(s->fd, &byte, 1) != 1)
        s->regs.dropped++;
}

static void write_ier(struct serial *s, uint8_t v)
{
    /* Enabling the interrupt while the transmitter is empty is itself a cause. */
    if ((v & IER_THRI) && !(s->regs.ier & IER_THRI))
        s->regs.thre_pending = 1;
    s->regs.ier = v & IER_BITS;
}

static void write_register(struct serial *s, uint64_t reg, uint8_t v)
{
    if ((s->regs.lcr & LCR_DLAB) && reg <= REG_IER)
        *(reg == REG_DATA ? &s->regs.dll : &s->regs.dlm) = v;
    else if (reg == REG_DATA)
        transmit(s, v);
    else if (reg == REG_IER)
        write_ier(s, v);
    else if (reg == REG_IIR_FCR)
        s->regs.fcr = v & FCR_ENABLE;
    else if (reg == REG_LCR)
        s->regs.lcr = v;
    else if (reg == REG_MCR)
        s->regs.mcr = v & MCR_BITS;
    else if (reg == REG_SCR)
        s->regs.scr = v;
}

/* A wide access is one access to each register it covers, as on the ISA bus. */
static void serial_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct serial *s = dev;
    uint8_t *p = data;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < len; i++)
        p[i] = read_register(s, offset + i);
    pthread_mutex_unlock(&s->lock);
}

static void serial_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct serial *s = dev;
    const uint8_t *p = data;
    pthread_mutex_lock(&s->lock);
    bool before = wants_interrupt(s);
    for (unsigned i = 0; i < len; i++)
        write_register(s, offset + i, p[i]);
    bool raise = !before && wants_interrupt(s);
    pthread_mutex_unlock(&s->lock);
    if (raise)
        irq_raise(&s->irq);
}

const struct bus_ops serial_ops = {serial_read, serial_write};

void serial_save(struct serial *s, struct state_writer *w)
{
    state_put(w, STATE_SERIAL, 0, SERIAL_VERSION, &s->regs, sizeof s->regs);
}

int serial_restore(struct serial *s, const struct state_reader *r, struct err *e)
{
    int rc = state_get(r, STATE_SERIAL, 0, SERIAL_VERSION, &s->regs, sizeof s->regs, e);
    s->regs.ier &= IER_BITS;
    s->regs.mcr &= MCR_BITS;
    s->regs.fcr &= FCR_ENABLE;
    return rc;
}
