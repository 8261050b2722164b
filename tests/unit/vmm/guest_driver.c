/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest_driver.h"
#include "vmm/le.h"

#define FIRST_FREE 0x10000u
#define TURNS_MAX 100000u /* a loop that never comes to rest is a failure */

static void count(void *arg, unsigned gsi UNUSED)
{
    struct guest *g = arg;
    atomic_fetch_add(&g->interrupts, 1);
}

struct irq guest_irq(struct guest *g)
{
    return (struct irq){count, g, 10};
}

struct virtio_place guest_place(struct guest *g, unsigned slot)
{
    return (struct virtio_place){slot, &g->mem, guest_irq(g), g->loop};
}

void guest_init(struct guest *g, uint64_t bytes)
{
    struct err e = {0};
    *g = (struct guest){.next_free = FIRST_FREE};
    assert_int_equal(gmem_reserve(&g->mem, bytes, &e), 0);
    assert_int_equal(gmem_map_zero(&g->mem, false, &e), 0);
    assert_int_equal(ev_new(&g->loop, &e), 0);
}

void guest_done(struct guest *g)
{
    ev_free(g->loop);
    gmem_done(&g->mem);
}

uint64_t guest_alloc(struct guest *g, uint64_t len, uint64_t align)
{
    uint64_t at = (g->next_free + align - 1) / align * align;
    assert_non_null(gmem_ptr(&g->mem, at, len));
    g->next_free = at + len;
    return at;
}

void *guest_at(struct guest *g, uint64_t gpa, uint64_t len)
{
    void *p = gmem_ptr(&g->mem, gpa, len);
    assert_non_null(p);
    return p;
}

uint32_t guest_read(struct guest *g, uint32_t reg)
{
    struct le32 v;
    virtio_mmio_ops.read(g->dev, reg, &v, sizeof v);
    return le32_get(&v);
}

void guest_write(struct guest *g, uint32_t reg, uint32_t value)
{
    struct le32 v;
    le32_put(&v, value);
    virtio_mmio_ops.write(g->dev, reg, &v, sizeof v);
}

void guest_config(struct guest *g, uint32_t offset, void *p, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        virtio_mmio_ops.read(g->dev, R_CONFIG + offset + i, (uint8_t *)p + i, 1);
}

bool guest_negotiate(struct guest *g, struct virtio_dev *d, uint64_t features)
{
    g->dev = d;
    features |= GUEST_F_VERSION_1;
    guest_write(g, R_STATUS, 0);
    guest_write(g, R_STATUS, GUEST_ACK);
    guest_write(g, R_STATUS, GUEST_ACK | GUEST_DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        guest_write(g, R_DRIVER_FEATURES_SEL, half);
        guest_write(g, R_DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
    }
    guest_write(g, R_STATUS, GUEST_ACK | GUEST_DRIVER | GUEST_FEATURES_OK);
    return guest_read(g, R_STATUS) & GUEST_FEATURES_OK;
}

static void write_address(struct guest *g, uint32_t reg, uint64_t gpa)
{
    guest_write(g, reg, (uint32_t)gpa);
    guest_write(g, reg + 4, (uint32_t)(gpa >> 32));
}

void guest_queue_setup(struct guest *g, unsigned q, uint16_t size)
{
    struct guest_queue *gq = &g->queue[q];
    *gq = (struct guest_queue){.size = size,
                               .desc = guest_alloc(g, 16u * size, 16),
                               .avail = guest_alloc(g, 6 + 2u * size, 2),
                               .used = guest_alloc(g, 6 + 8u * size, 4)};
    guest_write(g, R_QUEUE_SEL, q);
    guest_write(g, R_QUEUE_NUM, size);
    write_address(g, R_QUEUE_DESC, gq->desc);
    write_address(g, R_QUEUE_DRIVER, gq->avail);
    write_address(g, R_QUEUE_DEVICE, gq->used);
    guest_write(g, R_QUEUE_READY, 1);
    assert_int_equal(guest_read(g, R_QUEUE_READY), 1);
}

void guest_start(struct guest *g, struct virtio_dev *d, uint64_t features)
{
    assert_true(guest_negotiate(g, d, features));
    for (unsigned q = 0; q < d->ops->n_queues; q++) {
        guest_write(g, R_QUEUE_SEL, q);
        uint32_t max = guest_read(g, R_QUEUE_NUM_MAX);
        guest_queue_setup(g, q, max < GUEST_QUEUE_SIZE ? (uint16_t)max : GUEST_QUEUE_SIZE);
    }
    guest_write(g, R_STATUS, guest_read(g, R_STATUS) | GUEST_DRIVER_OK);
    assert_int_equal(guest_read(g, R_STATUS), 15);
    guest_run(g);
}

void guest_desc(struct guest *g, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
                uint16_t flags, uint16_t next)
{
    uint8_t *d = guest_at(g, table + UINT64_C(16) * i, 16);
    le64_put((struct le64 *)d, addr);
    le32_put((struct le32 *)(d + 8), len);
    le16_put((struct le16 *)(d + 12), flags);
    le16_put((struct le16 *)(d + 14), next);
}

void guest_offer(struct guest *g, unsigned q, uint16_t head)
{
    struct guest_queue *gq = &g->queue[q];
    uint8_t *avail = guest_at(g, gq->avail, 6 + 2u * gq->size);
    le16_put((struct le16 *)(avail + 4 + 2u * (gq->next_avail % gq->size)), head);
    gq->next_avail++;
    le16_put((struct le16 *)(avail + 2), gq->next_avail);
}

static uint16_t take_desc(struct guest_queue *gq)
{
    uint16_t i = gq->next_desc;
    gq->next_desc = (uint16_t)((i + 1) % gq->size);
    return i;
}

uint16_t guest_add(struct guest *g, unsigned q, const struct guest_buf *b, unsigned n)
{
    struct guest_queue *gq = &g->queue[q];
    assert_in_range(n, 1, gq->size);
    uint16_t head = take_desc(gq), at = head;
    for (unsigned i = 0; i < n; i++) {
        bool last = i + 1 == n;
        uint16_t next = last ? 0 : take_desc(gq);
        unsigned flags = (b[i].write ? GUEST_D_WRITE : 0u) | (last ? 0u : GUEST_D_NEXT);
        guest_desc(g, gq->desc, at, b[i].gpa, b[i].len, (uint16_t)flags, next);
        at = next;
    }
    guest_offer(g, q, head);
    return head;
}

uint16_t guest_add_indirect(struct guest *g, unsigned q, const struct guest_buf *b, unsigned n)
{
    uint64_t table = guest_alloc(g, 16u * n, 16);
    for (unsigned i = 0; i < n; i++) {
        unsigned flags = (b[i].write ? GUEST_D_WRITE : 0u) | (i + 1 == n ? 0u : GUEST_D_NEXT);
        guest_desc(g, table, i, b[i].gpa, b[i].len, (uint16_t)flags, (uint16_t)(i + 1));
    }
    uint16_t head = take_desc(&g->queue[q]);
    guest_desc(g, g->queue[q].desc, head, table, 16u * n, GUEST_D_INDIRECT, 0);
    guest_offer(g, q, head);
    return head;
}

void guest_kick(struct guest *g, unsigned q)
{
    guest_write(g, R_QUEUE_NOTIFY, q);
}

unsigned guest_run_at_most(struct guest *g, unsigned limit)
{
    unsigned calls = 0, turns = 0;
    for (int n; (n = ev_turn(g->loop, 0)) > 0;) {
        calls += (unsigned)n;
        if (limit && calls >= limit)
            break;
        assert_true(++turns < TURNS_MAX);
    }
    return calls;
}

unsigned guest_run(struct guest *g)
{
    return guest_run_at_most(g, 0);
}

bool guest_used(struct guest *g, unsigned q, uint16_t *head, uint32_t *len)
{
    struct guest_queue *gq = &g->queue[q];
    uint8_t *used = guest_at(g, gq->used, 6 + 8u * gq->size);
    if (le16_get((struct le16 *)(used + 2)) == gq->last_used)
        return false;
    uint8_t *entry = used + 4 + 8u * (gq->last_used % gq->size);
    gq->last_used++;
    *head = (uint16_t)le32_get((struct le32 *)entry);
    *len = le32_get((struct le32 *)(entry + 4));
    return true;
}

void guest_save(struct guest *g, uint8_t **ret, size_t *n)
{
    struct state_writer w;
    struct err e = {0};
    state_writer_init(&w);
    virtio_save(g->dev, &w);
    int fd = memfd_create("state", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(state_writer_finish(&w, fd, &e), 0);
    *n = w.len;
    *ret = malloc(*n);
    assert_non_null(*ret);
    assert_int_equal(pread(fd, *ret, *n, 0), (ssize_t)*n);
    close(fd);
    state_writer_done(&w);
}

int guest_restore(struct guest *g, struct virtio_dev *d, const uint8_t *p, size_t n, struct err *e)
{
    struct state_reader r = {0};
    int ret = state_reader_parse(&r, p, n, e);
    if (ret == 0)
        ret = virtio_restore(d, &r, e);
    state_reader_done(&r);
    if (ret == 0)
        g->dev = d;
    return ret;
}
