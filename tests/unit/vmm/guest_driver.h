/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio driver inside the test: guest memory, a device's registers through virtio_mmio_ops, and
 * its event loop, driven on the test's own thread. Everything asserts (cmocka); a test that wants
 * to break a rule writes into the rings itself (struct guest_queue has the addresses).
 *
 *   struct guest g;
 *   guest_init(&g, 64 << 20);
 *   rng_new(guest_place(&g, 0), &rng, &e);
 *   guest_start(&g, rng, 0);
 *   uint64_t page = guest_alloc(&g, 4096, 4096);
 *   guest_add(&g, 0, &(struct guest_buf){page, 4096, true}, 1);
 *   guest_kick(&g, 0);
 *   guest_run(&g);
 *   assert_true(guest_used(&g, 0, &head, &len));
 */
#ifndef TEST_VMM_GUEST_DRIVER_H
#define TEST_VMM_GUEST_DRIVER_H

#include <stdatomic.h>

#include "vmm/virtio/virtio.h"

/* Registers, as in virtio 1.2 §4.2.2. */
enum guest_reg {
    R_MAGIC = 0x000,
    R_VERSION = 0x004,
    R_DEVICE_ID = 0x008,
    R_VENDOR_ID = 0x00c,
    R_DEVICE_FEATURES = 0x010,
    R_DEVICE_FEATURES_SEL = 0x014,
    R_DRIVER_FEATURES = 0x020,
    R_DRIVER_FEATURES_SEL = 0x024,
    R_QUEUE_SEL = 0x030,
    R_QUEUE_NUM_MAX = 0x034,
    R_QUEUE_NUM = 0x038,
    R_QUEUE_READY = 0x044,
    R_QUEUE_NOTIFY = 0x050,
    R_INTERRUPT_STATUS = 0x060,
    R_INTERRUPT_ACK = 0x064,
    R_STATUS = 0x070,
    R_QUEUE_DESC = 0x080,
    R_QUEUE_DRIVER = 0x090,
    R_QUEUE_DEVICE = 0x0a0,
    R_CONFIG_GENERATION = 0x0fc,
    R_CONFIG = 0x100,
};

#define GUEST_F_INDIRECT (UINT64_C(1) << 28)
#define GUEST_F_EVENT_IDX (UINT64_C(1) << 29)
#define GUEST_F_VERSION_1 (UINT64_C(1) << 32)

enum { GUEST_ACK = 1, GUEST_DRIVER = 2, GUEST_DRIVER_OK = 4, GUEST_FEATURES_OK = 8 };
enum { GUEST_NEEDS_RESET = 0x40, GUEST_FAILED = 0x80 };
enum { GUEST_D_NEXT = 1, GUEST_D_WRITE = 2, GUEST_D_INDIRECT = 4 };

#define GUEST_QUEUE_SIZE 16u /* unless the device has less */

struct guest_queue {
    uint16_t size;
    uint64_t desc, avail, used; /* guest physical */
    uint16_t next_desc;         /* descriptors are handed out round robin, never checked */
    uint16_t next_avail, last_used;
};

struct guest {
    struct gmem mem;
    struct ev_loop *loop;
    struct virtio_dev *dev; /* borrowed; set by guest_start(), guest_negotiate() */
    atomic_uint interrupts; /* raised so far */
    uint64_t next_free;     /* of guest_alloc() */
    struct guest_queue queue[VIRTIO_QUEUES_MAX];
};

struct guest_buf {
    uint64_t gpa;
    uint32_t len;
    bool write; /* the device writes */
};

void guest_init(struct guest *g, uint64_t bytes); /* as gmem_reserve() */
void guest_done(struct guest *g);                 /* after the device */
struct irq guest_irq(struct guest *g);            /* counts in g->interrupts */
struct virtio_place guest_place(struct guest *g, unsigned slot);

/* Zeroed guest memory for buffers and rings, from 64 KiB up. */
uint64_t guest_alloc(struct guest *g, uint64_t len, uint64_t align);
void *guest_at(struct guest *g, uint64_t gpa, uint64_t len);

uint32_t guest_read(struct guest *g, uint32_t reg);
void guest_write(struct guest *g, uint32_t reg, uint32_t value);
void guest_config(struct guest *g, uint32_t offset, void *p, uint32_t len); /* byte by byte */

/* Reset, ACKNOWLEDGE, DRIVER, features (VERSION_1 is added), FEATURES_OK. Whether it stuck. */
bool guest_negotiate(struct guest *g, struct virtio_dev *d, uint64_t features);
void guest_queue_setup(struct guest *g, unsigned q, uint16_t size);
/* All of it: negotiate, every queue, DRIVER_OK. */
void guest_start(struct guest *g, struct virtio_dev *d, uint64_t features);

/* One descriptor; addr and so on as they come. */
void guest_desc(struct guest *g, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
                uint16_t flags, uint16_t next);
void guest_offer(struct guest *g, unsigned q, uint16_t head); /* next avail entry */
/* A chain of descriptors, offered; returns its head. */
uint16_t guest_add(struct guest *g, unsigned q, const struct guest_buf *b, unsigned n);
uint16_t guest_add_indirect(struct guest *g, unsigned q, const struct guest_buf *b, unsigned n);
void guest_kick(struct guest *g, unsigned q); /* QUEUE_NOTIFY */
/* Runs the loop until nothing is ready; returns the callbacks made, at most limit if not 0. */
unsigned guest_run(struct guest *g);
unsigned guest_run_at_most(struct guest *g, unsigned limit);
/* Takes the next used entry. */
bool guest_used(struct guest *g, unsigned q, uint16_t *head, uint32_t *len);

/* The device is saved into bytes that the caller frees, or restored from them into another device
 * over the same memory; the driver's own state stays and talks to the new device. */
void guest_save(struct guest *g, uint8_t **ret, size_t *n);
int guest_restore(struct guest *g, struct virtio_dev *d, const uint8_t *p, size_t n, struct err *e);

#endif
