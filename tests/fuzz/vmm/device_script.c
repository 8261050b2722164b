/* SPDX-License-Identifier: Apache-2.0 */
#include "device_script.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/le.h"

#define MEMORY (2u << 20)
#define RINGS 0x1000u /* of queue q: three pages from RINGS + q * 0x4000 */
#define OPS_MAX 400u

enum {
    REG_DRIVER_FEATURES = 0x20,
    REG_DRIVER_FEATURES_SEL = 0x24,
    REG_QUEUE_SEL = 0x30,
    REG_QUEUE_NUM = 0x38,
    REG_QUEUE_READY = 0x44,
    REG_STATUS = 0x70,
    REG_QUEUE_DESC = 0x80,
    REG_QUEUE_DRIVER = 0x90,
    REG_QUEUE_DEVICE = 0xa0,
};

struct run {
    struct device_script *s;
    struct virtio_dev *dev;
    const uint8_t *p;
    size_t n;
    uint16_t size; /* of the queues */
    uint16_t next_desc[VIRTIO_QUEUES_MAX], next_avail[VIRTIO_QUEUES_MAX];
};

static uint64_t take(struct run *r, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && r->n; i++, r->n--)
        v |= (uint64_t)*r->p++ << 8 * i;
    return v;
}

static const uint8_t *take_bytes(struct run *r, size_t *n)
{
    const uint8_t *p = r->p;
    if (*n > r->n)
        *n = r->n;
    r->p += *n;
    r->n -= *n;
    return p;
}

static void swallow(void *arg UNUSED, unsigned gsi UNUSED)
{
}

static void write_reg(struct run *r, uint32_t reg, uint32_t value)
{
    virtio_mmio_ops.write(r->dev, reg, &value, sizeof value);
}

static void run_loop(struct run *r)
{
    for (int i = 0; i < 32; i++)
        if (ev_turn(r->s->loop, 0) <= 0)
            return;
}

static void do_access(struct run *r)
{
    uint64_t offset = take(r, 2) % VIRTIO_MMIO_BYTES;
    unsigned how = (unsigned)take(r, 1), len = 1u << (how & 3);
    uint64_t value = take(r, 8);
    if (offset + len > VIRTIO_MMIO_BYTES)
        return;
    if (how & 0x80)
        virtio_mmio_ops.write(r->dev, offset, &value, len);
    else
        virtio_mmio_ops.read(r->dev, offset, &value, len);
}

static void do_memory(struct run *r)
{
    uint64_t at = take(r, 3) % MEMORY;
    size_t n = (size_t)take(r, 1);
    const uint8_t *p = take_bytes(r, &n);
    if (at + n <= MEMORY && n)
        memcpy(r->s->mem.host + at, p, n);
}

static void do_negotiate(struct run *r)
{
    uint32_t how = (uint32_t)take(r, 1);
    uint32_t low = (uint32_t)take(r, 4);
    low |= (how & 2 ? 1u << 29 : 0) | (how & 4 ? 1u << 28 : 0);
    write_reg(r, REG_STATUS, 0);
    write_reg(r, REG_STATUS, 3);
    write_reg(r, REG_DRIVER_FEATURES_SEL, 0);
    write_reg(r, REG_DRIVER_FEATURES, low);
    write_reg(r, REG_DRIVER_FEATURES_SEL, 1);
    write_reg(r, REG_DRIVER_FEATURES, how & 1);
    write_reg(r, REG_STATUS, how & 8 ? 15 : 11);
}

static uint32_t rings(unsigned q)
{
    return RINGS + q * 0x4000;
}

static void do_queues(struct run *r)
{
    r->size = (uint16_t)(1u << take(r, 1) % 9);
    memset(r->next_desc, 0, sizeof r->next_desc);
    memset(r->next_avail, 0, sizeof r->next_avail);
    for (unsigned q = 0; q < r->dev->ops->n_queues; q++) {
        memset(r->s->mem.host + rings(q), 0, 0x3000);
        write_reg(r, REG_QUEUE_SEL, q);
        write_reg(r, REG_QUEUE_NUM, r->size);
        write_reg(r, REG_QUEUE_DESC, rings(q));
        write_reg(r, REG_QUEUE_DRIVER, rings(q) + 0x1000);
        write_reg(r, REG_QUEUE_DEVICE, rings(q) + 0x2000);
        write_reg(r, REG_QUEUE_READY, 1);
    }
    write_reg(r, REG_STATUS, 15);
}

static void write_desc(struct run *r, unsigned q, unsigned i, uint64_t addr, uint32_t len,
                       uint16_t flags, uint16_t next)
{
    uint8_t *d = r->s->mem.host + rings(q) + 16 * (i % 256);
    le64_put((struct le64 *)d, addr);
    le32_put((struct le32 *)(d + 8), len);
    le16_put((struct le16 *)(d + 12), flags);
    le16_put((struct le16 *)(d + 14), next);
}

static unsigned take_queue(struct run *r)
{
    return (unsigned)take(r, 1) % r->dev->ops->n_queues;
}

static void offer(struct run *r, unsigned q, uint16_t index, uint16_t head)
{
    uint8_t *avail = r->s->mem.host + rings(q) + 0x1000;
    le16_put((struct le16 *)(avail + 4 + 2 * (index % r->size)), head);
    le16_put((struct le16 *)(avail + 2), (uint16_t)(index + 1));
    r->next_avail[q] = (uint16_t)(index + 1);
}

static void do_chain(struct run *r)
{
    unsigned q = take_queue(r), n = 1 + (unsigned)take(r, 1) % 16;
    uint16_t head = r->next_desc[q];
    for (unsigned k = 0; k < n; k++) {
        unsigned i = r->next_desc[q];
        unsigned in = take(r, 1) & 1 ? 2 : 0;
        uint64_t addr = 0x40000 + take(r, 2) % 0x100 * 0x1000;
        uint32_t len = (uint32_t)take(r, 2);
        r->next_desc[q] = (uint16_t)((i + 1) % r->size);
        write_desc(r, q, i, addr, len, (uint16_t)(in | (k + 1 < n)), r->next_desc[q]);
    }
    offer(r, q, r->next_avail[q], head);
}

static void do_desc(struct run *r)
{
    unsigned q = take_queue(r), i = (unsigned)take(r, 1);
    uint64_t addr = take(r, 8);
    uint32_t len = (uint32_t)take(r, 4);
    uint16_t flags = (uint16_t)take(r, 2);
    write_desc(r, q, i, addr, len, flags, (uint16_t)take(r, 2));
}

static void do_avail(struct run *r)
{
    unsigned q = take_queue(r);
    uint16_t index = (uint16_t)take(r, 2);
    offer(r, q, index, (uint16_t)take(r, 2));
}

static void do_host(struct run *r)
{
    size_t n = (size_t)take(r, 1);
    const uint8_t *p = take_bytes(r, &n);
    if (r->s->host)
        r->s->host(r->s, p, n);
}

/* The damage is done to what the reader has checked: a device gets contents its own code would
 * never write. A state that is refused leaves a fresh device. */
static void do_renew(struct run *r)
{
    size_t offset = (size_t)take(r, 2);
    uint8_t flip = (uint8_t)take(r, 1);
    struct state_writer w;
    struct state_reader reader;
    state_writer_init(&w);
    virtio_save(r->dev, &w);
    int fd = memfd_create("state", MFD_CLOEXEC);
    if (fd < 0 || state_writer_finish(&w, fd, NULL) < 0 || state_reader_load(&reader, fd, NULL) < 0)
        abort();
    close(fd);
    state_writer_done(&w);
    reader.data[offset % reader.len] ^= flip;
    r->dev = r->s->renew(r->s);
    (void)!virtio_restore(r->dev, &reader, NULL);
    state_reader_done(&reader);
}

static void step(struct run *r)
{
    uint32_t reg;
    uint32_t value;
    switch ((enum script_op)(take(r, 1) % SCRIPT_OPS)) {
    case SCRIPT_WRITE:
        reg = (uint32_t)take(r, 1) % (VIRTIO_MMIO_BYTES / 4) * 4;
        write_reg(r, reg, (uint32_t)take(r, 4));
        return;
    case SCRIPT_READ:
        virtio_mmio_ops.read(r->dev, take(r, 1) % (VIRTIO_MMIO_BYTES / 4) * 4, &value,
                             sizeof value);
        return;
    case SCRIPT_ACCESS:
        return do_access(r);
    case SCRIPT_MEMORY:
        return do_memory(r);
    case SCRIPT_NEGOTIATE:
        return do_negotiate(r);
    case SCRIPT_QUEUES:
        return do_queues(r);
    case SCRIPT_CHAIN:
        return do_chain(r);
    case SCRIPT_KICK:
        virtio_kick(r->dev, take_queue(r));
        return;
    case SCRIPT_RUN:
        return run_loop(r);
    case SCRIPT_HOST:
        return do_host(r);
    case SCRIPT_RENEW:
        return do_renew(r);
    case SCRIPT_DESC:
        return do_desc(r);
    case SCRIPT_AVAIL:
        return do_avail(r);
    case SCRIPT_OPS:
        abort();
    }
}

static void set_up(struct device_script *s)
{
    if (gmem_reserve(&s->mem, MEMORY, NULL) < 0 || ev_new(&s->loop, NULL) < 0)
        abort();
    s->irq = (struct irq){swallow, s, 10};
}

void device_script_run(struct device_script *s, const uint8_t *p, size_t n)
{
    if (!s->loop)
        set_up(s);
    if (gmem_map_zero(&s->mem, false, NULL) < 0)
        abort();
    struct run r = {.s = s, .p = p, .n = n, .size = 16};
    r.dev = s->renew(s);
    assert(r.dev->ops->n_queues <= VIRTIO_QUEUES_MAX);
    for (unsigned ops = 0; r.n && ops < OPS_MAX; ops++)
        step(&r);
    run_loop(&r);
}
