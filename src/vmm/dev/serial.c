/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transmitter that is always empty: a byte is gone the moment it is written. What remains of the
 * 16550A (PC16550D data sheet) is what Linux's 8250 driver probes for: the FIFO bits of IIR, the
 * modem loop-back, the scratch register, and the "transmitter empty" interrupt, raised as an edge
 * whenever its condition becomes true.
 */
#include "vmm/dev/serial.h"

#include <string.h>
#include <unistd.h>

enum { /* offsets; the divisor latch replaces the first two while LCR_DLAB */
       REG_DATA = 0,
       REG_IER = 1,
       REG_IIR_FCR = 2,
       REG_LCR = 3,
       REG_MCR = 4,
       REG_LSR = 5,
       REG_MSR = 6,
       REG_SCR = 7
};

#define IER_BITS 0x0f
#define IER_THRI 0x02
#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_FIFO 0xc0
#define FCR_ENABLE 0x01
#define LCR_DLAB 0x80
#define LSR_EMPTY 0x60 /* holding register and shift register */
#define MCR_BITS 0x1f
#define MCR_LOOP 0x10
#define MSR_READY 0xb0 /* carrier, data set ready, clear to send */

#define SERIAL_VERSION 1

struct serial_state {
    uint8_t ier, lcr, mcr, scr, dll, dlm, fcr, thre_pending;
    uint64_t dropped;
};

void serial_init(struct serial *s, int fd, struct irq irq)
{
    *s = (struct serial){.fd = fd, .irq = irq, .dll = 12 /* 9600 baud */};
    pthread_mutex_init(&s->lock, NULL);
}

void serial_done(struct serial *s)
{
    pthread_mutex_destroy(&s->lock);
}

static bool wants_interrupt(const struct serial *s)
{
    return s->thre_pending && (s->ier & IER_THRI);
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t fifo = s->fcr & FCR_ENABLE ? IIR_FIFO : 0;
    if (!wants_interrupt(s))
        return fifo | IIR_NONE;
    s->thre_pending = false; /* reading the cause acknowledges it */
    return fifo | IIR_THRI;
}

/* In loop-back the outputs RTS, DTR, OUT1 and OUT2 appear as CTS, DSR, RI and DCD. */
static uint8_t read_msr(const struct serial *s)
{
    if (!(s->mcr & MCR_LOOP))
        return MSR_READY;
    return (uint8_t)((s->mcr & 0x02) << 3 | (s->mcr & 0x01) << 5 | (s->mcr & 0x0c) << 4);
}

static uint8_t read_register(struct serial *s, uint64_t reg)
{
    switch (reg) {
    case REG_DATA:
        return s->lcr & LCR_DLAB ? s->dll : 0;
    case REG_IER:
        return s->lcr & LCR_DLAB ? s->dlm : s->ier;
    case REG_IIR_FCR:
        return read_iir(s);
    case REG_LCR:
        return s->lcr;
    case REG_MCR:
        return s->mcr;
    case REG_LSR:
        return LSR_EMPTY;
    case REG_MSR:
        return read_msr(s);
    default:
        return s->scr;
    }
}

static void transmit(struct serial *s, uint8_t byte)
{
    s->thre_pending = true;
    if (s->fd < 0 || (s->mcr & MCR_LOOP))
        return;
    if (write(s->fd, &byte, 1) != 1)
        s->dropped++;
}

static void write_ier(struct serial *s, uint8_t v)
{
    /* Enabling the interrupt while the transmitter is empty is itself a cause. */
    if ((v & IER_THRI) && !(s->ier & IER_THRI))
        s->thre_pending = true;
    s->ier = v & IER_BITS;
}

static void write_register(struct serial *s, uint64_t reg, uint8_t v)
{
    bool latch = s->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        if (latch)
            s->dll = v;
        else
            transmit(s, v);
        break;
    case REG_IER:
        if (latch)
            s->dlm = v;
        else
            write_ier(s, v);
        break;
    case REG_IIR_FCR:
        s->fcr = v & FCR_ENABLE;
        break;
    case REG_LCR:
        s->lcr = v;
        break;
    case REG_MCR:
        s->mcr = v & MCR_BITS;
        break;
    case REG_SCR:
        s->scr = v;
        break;
    default:
        break; /* LSR and MSR are read-only */
    }
}

/* A wide access is one access to each register it covers, as on the ISA bus. */
static void serial_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct serial *s = dev;
    uint8_t *p = data;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < len; i++)
        p[i] = read_register(s, (offset + i) & 7);
    pthread_mutex_unlock(&s->lock);
}

static void serial_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct serial *s = dev;
    const uint8_t *p = data;
    pthread_mutex_lock(&s->lock);
    bool before = wants_interrupt(s);
    for (unsigned i = 0; i < len; i++)
        write_register(s, (offset + i) & 7, p[i]);
    bool raise = !before && wants_interrupt(s);
    pthread_mutex_unlock(&s->lock);
    if (raise)
        irq_raise(&s->irq);
}

const struct bus_ops serial_ops = {serial_read, serial_write};

void serial_save(struct serial *s, struct state_writer *w)
{
    pthread_mutex_lock(&s->lock);
    struct serial_state st = {s->ier, s->lcr, s->mcr,          s->scr,    s->dll,
                              s->dlm, s->fcr, s->thre_pending, s->dropped};
    pthread_mutex_unlock(&s->lock);
    state_put(w, STATE_SERIAL, 0, SERIAL_VERSION, &st, sizeof st);
}

int serial_restore(struct serial *s, const struct state_reader *r, struct err *e)
{
    struct serial_state st;
    int rc = state_get(r, STATE_SERIAL, 0, SERIAL_VERSION, &st, sizeof st, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&s->lock);
    s->ier = st.ier & IER_BITS;
    s->lcr = st.lcr;
    s->mcr = st.mcr & MCR_BITS;
    s->scr = st.scr;
    s->dll = st.dll;
    s->dlm = st.dlm;
    s->fcr = st.fcr & FCR_ENABLE;
    s->thre_pending = st.thre_pending != 0;
    s->dropped = st.dropped;
    pthread_mutex_unlock(&s->lock);
    return 0;
}
