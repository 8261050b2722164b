/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <string.h>

int bus_add(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev)
{
    if (b->n == BUS_RANGES_MAX)
        return -ENOSPC;
    for (unsigned i = 0; i < b->n; i++)
        if (base < b->range[i].base + b->range[i].len && b->range[i].base < base + len)
            return -EEXIST;
    b->range[b->n++] = (struct bus_range){base, len, ops, dev};
    return 0;
}

static const struct bus_range *find(const struct bus *b, uint64_t addr, unsigned len)
{
    for (unsigned i = 0; i < b->n; i++) {
        const struct bus_range *r = &b->range[i];
        if (addr >= r->base && addr - r->base < r->len)
            return len <= r->len - (addr - r->base) ? r : NULL;
    }
    return NULL;
}

void bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len)
{
    const struct bus_range *r = find(b, addr, len);
    if (r)
        r->ops->read(r->dev, addr - r->base, data, len);
    else
        memset(data, 0xff, len);
}

void bus_write(const struct bus *b, uint64_t addr, const void *data, unsigned len)
{
    const struct bus_range *r = find(b, addr, len);
    if (r)
        r->ops->write(r->dev, addr - r->base, data, len);
}
