/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev/ged.h"

#include <string.h>

#define EVENTS GED_EVENT_VMGENID

/* Sleep control register (ACPI 6.4 §4.8.3.7). */
#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE(v) ((v) >> 2 & 7)
#define SLEEP_TYPE_S5 5 /* what \_S5 in the DSDT says */
#define RESET_VALUE 1   /* what the FADT says */

#define GED_VERSION 1

void ged_init(struct ged *g, struct irq irq)
{
    *g = (struct ged){.irq = irq};
    pthread_mutex_init(&g->lock, NULL);
}

void ged_raise(struct ged *g, uint32_t events)
{
    pthread_mutex_lock(&g->lock);
    g->pending |= events & EVENTS;
    pthread_mutex_unlock(&g->lock);
    irq_raise(&g->irq);
}

/* Only the access that _EVT makes takes the events: a stray byte read must not lose one. */
static void ged_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct ged *g = dev;
    memset(data, 0, len);
    if (offset != 0 || len != sizeof g->pending)
        return;
    pthread_mutex_lock(&g->lock);
    memcpy(data, &g->pending, sizeof g->pending);
    g->pending = 0;
    pthread_mutex_unlock(&g->lock);
}

static void write_nothing(void *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)dev, (void)offset, (void)data, (void)len;
}

const struct bus_ops ged_ops = {ged_read, write_nothing};

/* Control and status of a machine that is awake. */
static void read_zero(void *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev, (void)offset;
    memset(data, 0, len);
}

static void sleep_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct ged *g = dev;
    uint8_t v = *(const uint8_t *)data;
    (void)len;
    if (offset == 0 && (v & SLEEP_ENABLE) && SLEEP_TYPE(v) == SLEEP_TYPE_S5)
        g->on_poweroff(g->arg);
}

const struct bus_ops ged_sleep_ops = {read_zero, sleep_write};

static void reset_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct ged *g = dev;
    (void)len;
    if (offset == 0 && *(const uint8_t *)data == RESET_VALUE)
        g->on_reset(g->arg);
}

const struct bus_ops ged_reset_ops = {read_zero, reset_write};

void ged_save(struct ged *g, struct state_writer *w)
{
    state_put(w, STATE_GED, 0, GED_VERSION, &g->pending, sizeof g->pending);
}

int ged_restore(struct ged *g, const struct state_reader *r, struct err *e)
{
    int rc = state_get(r, STATE_GED, 0, GED_VERSION, &g->pending, sizeof g->pending, e);
    g->pending &= EVENTS;
    return rc;
}
