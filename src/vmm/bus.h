/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address space of devices (I/O ports, MMIO). Ranges never overlap. What nobody claims reads as
 * all ones and swallows writes. Built before the first vCPU runs, read-only afterwards; handlers
 * are called on vCPU threads, several at once: a device brings its own lock.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdint.h>

#include "base/err.h"

#define BUS_RANGES_MAX 32

struct bus_ops {
    /* offset is relative to the range, [offset, offset+len) lies in it; len is 1, 2, 4 or 8, in any
     * alignment. read fills all of data. */
    void (*read)(void *dev, uint64_t offset, void *data, unsigned len);
    void (*write)(void *dev, uint64_t offset, const void *data, unsigned len);
};

struct bus_range {
    uint64_t base, len;
    const struct bus_ops *ops;
    void *dev; /* borrowed */
};

struct bus {
    struct bus_range range[BUS_RANGES_MAX];
    unsigned n;
};

/* -EEXIST overlap, -ENOSPC full. */
int bus_add(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops,
            void *dev) MUST_CHECK;
/* An access that leaves its range counts as unclaimed. */
void bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len);
void bus_write(const struct bus *b, uint64_t addr, const void *data, unsigned len);

#endif
