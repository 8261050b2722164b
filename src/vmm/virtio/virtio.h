/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device and its MMIO transport (virtio 1.2 §4.2, version 2 only). The transport is common
 * code: registers, feature negotiation, queues, reset, persistence. A device fills in the ops.
 *
 * Threads: registers are accessed on vCPU threads, queues are worked on on the device's loop thread
 * (notifications arrive by ioeventfd). The lock covers everything but the interrupt status, which
 * is atomic, so that acknowledging an interrupt never waits for a request.
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/bus.h"
#include "vmm/ev.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"
#include "vmm/snapshot/state.h"
#include "vmm/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 8u

struct virtio_dev;

struct virtio_ops {
    uint32_t device_id; /* virtio 1.2 §5 */
    const char *name;   /* "blk" */
    unsigned n_queues;
    uint16_t queue_size_max;
    /* All with the lock held. activate and reset may be NULL; they are called on vCPU threads,
     * whose system call filter allows notifications and interrupts, not much more. */
    void (*activate)(
        struct virtio_dev *d);           /* DRIVER_OK was set; d->regs.driver_features are final */
    void (*reset)(struct virtio_dev *d); /* back to the state after power-on */
    /* On the loop thread, device active, q ready: the guest (or a restore) says that queue q has
     * something. A bounded number of chains per call, the rest after virtio_kick(). */
    void (*notify)(struct virtio_dev *d, unsigned q);
    /* Bytes of the device configuration; offset+len never exceeds config_len (at most 256). read
     * may be NULL when that is 0; write may be NULL. */
    uint32_t config_len;
    void (*config_read)(struct virtio_dev *d, uint32_t offset, void *p, uint32_t len);
    void (*config_write)(struct virtio_dev *d, uint32_t offset, const void *p, uint32_t len);
    /* The device's own section; may be NULL. Everything else is saved by the transport, and
     * notifies each ready queue once after a restore. */
    void (*save)(struct virtio_dev *d, struct state_writer *w);
    int (*restore)(struct virtio_dev *d, const struct state_reader *r, struct err *e);
    /* Gives back what the device owns besides its memory; may be NULL. */
    void (*release)(struct virtio_dev *d);
};

struct virtio_place {       /* what a device gets from its machine */
    unsigned slot;          /* place on the bus: address, interrupt, instance in the state file */
    const struct gmem *mem; /* borrowed */
    struct irq irq;
    struct ev_loop *loop; /* borrowed */
};

struct virtio_regs { /* of the transport, as they are saved; no padding */
    uint64_t driver_features;
    uint32_t device_features_sel, driver_features_sel, queue_sel, status, config_generation;
    uint32_t reserved;
};

struct virtio_queue_event { /* notification of one queue */
    struct ev_source source;
    struct virtio_dev *dev;
    unsigned index;
};

struct virtio_dev { /* the first member of each device's own struct */
    const struct virtio_ops *ops;
    uint64_t device_features; /* what this device offers besides VIRTIO_F_VERSION_1, RING_EVENT_IDX,
                                 RING_INDIRECT_DESC, which the transport adds */
    struct virtio_place at;
    /* The driver broke the rules and the device waits for its reset. Lock held, any thread; may be
     * NULL. */
    void (*on_broken)(void *arg, const struct virtio_dev *d);
    void *on_broken_arg;

    pthread_mutex_t lock;
    struct virtio_regs regs;
    bool active; /* DRIVER_OK, not broken and not reset since */
    struct virtq queue[VIRTIO_QUEUES_MAX];
    struct virtio_queue_event event[VIRTIO_QUEUES_MAX];
    _Atomic uint32_t interrupt_status;
};

/* A device of size bytes, zero but for its struct virtio_dev, with its notifications watched. Loop
 * parked or not running, as for virtio_free(). device_features are the caller's to add. */
int virtio_new(size_t size, const struct virtio_ops *ops, struct virtio_place at,
               struct virtio_dev **ret, struct err *e) MUST_CHECK;
void virtio_free(struct virtio_dev *d); /* NULL is fine */

/* Registers of the transport, for bus_add() at LAYOUT_VIRTIO_BASE + slot * stride, length 0x200. */
extern const struct bus_ops virtio_mmio_ops;
#define VIRTIO_MMIO_BYTES 0x200u
/* Where an ioeventfd of 4 bytes, datamatch = queue, belongs. */
#define VIRTIO_MMIO_QUEUE_NOTIFY 0x50u
int virtio_notify_fd(const struct virtio_dev *d, unsigned queue); /* borrowed */

/* For devices, lock held. */
bool virtio_has(const struct virtio_dev *d, unsigned feature_bit);
void virtio_signal(struct virtio_dev *d, unsigned queue); /* interrupts if the guest wants it */
void virtio_config_changed(struct virtio_dev *d);
/* The guest broke the rules (§2.1.2), as when virtq_pop() is negative: the device is no longer
 * active, its queues are broken. Again is fine. */
void virtio_needs_reset(struct virtio_dev *d);

/* The machine is paused and the loop parked. */
void virtio_save(struct virtio_dev *d, struct state_writer *w);
int virtio_restore(struct virtio_dev *d, const struct state_reader *r, struct err *e) MUST_CHECK;
/* Makes queues look again, through their eventfd. Any thread, lock or not. */
void virtio_kick(struct virtio_dev *d, unsigned queue);
void virtio_kick_all(struct virtio_dev *d);

#endif
