/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Registers are reached by exits on vCPU threads; most need the lock. Three do
 * not, because a guest uses them while a request runs: the interrupt's status and acknowledgement
 * (atomic) and the notification (an eventfd, which an ioeventfd normally writes without us).
 *
 * Status (§2.1, §3.1.1) only ever grows, one step after the other, until it is reset. Features
 * freeze at FEATURES_OK; queues can be set up from then on and freeze at DRIVER_OK, when their
 * rings are checked. What a driver writes out of turn is ignored.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/le.h"
#include "vmm/virtio/virtio.h"

enum reg {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_VENDOR_ID = 0x00c,
    REG_DEVICE_FEATURES = 0x010,
    REG_DEVICE_FEATURES_SEL = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_NUM_MAX = 0x034,
    REG_QUEUE_NUM = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = VIRTIO_MMIO_QUEUE_NOTIFY,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC = 0x080, /* low, then high, as the next two */
    REG_QUEUE_DRIVER = 0x090,
    REG_QUEUE_DEVICE = 0x0a0,
    REG_CONFIG_GENERATION = 0x0fc,
    REG_CONFIG = 0x100,
};

#define MAGIC 0x74726976u     /* "virt" */
#define VENDOR_ID 0x58424454u /* "TDBX" */

enum { STATUS_ACKNOWLEDGE = 1, STATUS_DRIVER = 2, STATUS_DRIVER_OK = 4, STATUS_FEATURES_OK = 8 };
enum { STATUS_NEEDS_RESET = 0x40, STATUS_FAILED = 0x80 };
enum { INTERRUPT_QUEUE = 1, INTERRUPT_CONFIG = 2 };

#define F_INDIRECT_DESC 28
#define F_EVENT_IDX 29
#define F_VERSION_1 32
#define BIT64(n) (UINT64_C(1) << (n))

static uint64_t offered(const struct virtio_dev *d)
{
    return d->device_features | BIT64(F_INDIRECT_DESC) | BIT64(F_EVENT_IDX) | BIT64(F_VERSION_1);
}

static bool features_are_acceptable(const struct virtio_dev *d)
{
    return (d->regs.driver_features & ~offered(d)) == 0 && virtio_has(d, F_VERSION_1);
}

bool virtio_has(const struct virtio_dev *d, unsigned feature_bit)
{
    return d->regs.driver_features & BIT64(feature_bit);
}

static void interrupt(struct virtio_dev *d, uint32_t why)
{
    atomic_fetch_or(&d->interrupt_status, why);
    irq_raise(&d->at.irq);
}

void virtio_signal(struct virtio_dev *d, unsigned queue)
{
    if (virtq_should_signal(&d->queue[queue]))
        interrupt(d, INTERRUPT_QUEUE);
}

void virtio_config_changed(struct virtio_dev *d)
{
    d->regs.config_generation++;
    if (d->active)
        interrupt(d, INTERRUPT_CONFIG);
}

void virtio_needs_reset(struct virtio_dev *d)
{
    if (d->regs.status & STATUS_NEEDS_RESET)
        return;
    d->regs.status |= STATUS_NEEDS_RESET;
    d->active = false;
    for (unsigned i = 0; i < d->ops->n_queues; i++)
        d->queue[i].broken = true;
    if (d->regs.status & STATUS_DRIVER_OK)
        interrupt(d, INTERRUPT_CONFIG);
    if (d->on_broken)
        d->on_broken(d->on_broken_arg, d);
}

int virtio_notify_fd(const struct virtio_dev *d, unsigned queue)
{
    return d->event[queue].source.fd;
}

void virtio_kick(struct virtio_dev *d, unsigned queue)
{
    uint64_t one = 1;
    (void)!write(virtio_notify_fd(d, queue), &one, sizeof one); /* full is readable, too */
}

void virtio_kick_all(struct virtio_dev *d)
{
    for (unsigned i = 0; i < d->ops->n_queues; i++)
        virtio_kick(d, i);
}

/* A broken ring leaves the device as if it had misbehaved later: it asks for a reset. */
static int activate_queues(struct virtio_dev *d)
{
    for (unsigned i = 0; i < d->ops->n_queues; i++) {
        struct virtq *q = &d->queue[i];
        q->event_idx = virtio_has(d, F_EVENT_IDX);
        q->indirect = virtio_has(d, F_INDIRECT_DESC);
        if (q->ready && (q->size > d->ops->queue_size_max || virtq_activate(q, d->at.mem) < 0))
            return -EPROTO;
    }
    return 0;
}

static void activate(struct virtio_dev *d)
{
    if (activate_queues(d) < 0) {
        virtio_needs_reset(d);
        return;
    }
    for (unsigned i = 0; i < d->ops->n_queues; i++)
        d->queue[i].signalled_valid = true; /* nothing was pushed before */
    d->active = true;
    if (d->ops->activate)
        d->ops->activate(d);
    virtio_kick_all(d); /* some drivers fill and notify before DRIVER_OK */
}

static void reset(struct virtio_dev *d)
{
    d->active = false;
    d->regs = (struct virtio_regs){.config_generation = d->regs.config_generation};
    memset(d->queue, 0, sizeof d->queue);
    atomic_store(&d->interrupt_status, 0);
    if (d->ops->reset)
        d->ops->reset(d);
}

static void write_status(struct virtio_dev *d, uint32_t wanted)
{
    uint32_t *status = &d->regs.status, more = wanted & ~*status;
    if (wanted == 0)
        reset(d);
    *status |= more & STATUS_FAILED;
    if (*status & (STATUS_FAILED | STATUS_NEEDS_RESET))
        return;
    *status |= more & STATUS_ACKNOWLEDGE;
    if (*status & STATUS_ACKNOWLEDGE)
        *status |= more & STATUS_DRIVER;
    if ((*status & STATUS_DRIVER) && features_are_acceptable(d))
        *status |= more & STATUS_FEATURES_OK;
    if ((*status & STATUS_FEATURES_OK) && (more & STATUS_DRIVER_OK)) {
        *status |= STATUS_DRIVER_OK;
        activate(d);
    }
}

static void write_driver_features(struct virtio_dev *d, uint32_t value)
{
    unsigned shift = d->regs.driver_features_sel * 32;
    if (d->regs.driver_features_sel > 1 || (d->regs.status & STATUS_FEATURES_OK))
        return;
    d->regs.driver_features &= ~((uint64_t)UINT32_MAX << shift);
    d->regs.driver_features |= (uint64_t)value << shift;
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
    *address = high ? (*address & UINT32_MAX) | (uint64_t)value << 32
                    : (*address & ~(uint64_t)UINT32_MAX) | value;
}

static void write_queue(struct virtio_dev *d, uint32_t reg, uint32_t value)
{
    uint32_t phase = d->regs.status & (STATUS_FEATURES_OK | STATUS_DRIVER_OK | STATUS_NEEDS_RESET);
    if (phase != STATUS_FEATURES_OK || d->regs.queue_sel >= d->ops->n_queues)
        return;
    struct virtq *q = &d->queue[d->regs.queue_sel];
    if (reg == REG_QUEUE_READY)
        q->ready = value & 1;
    else if (q->ready)
        return;
    else if (reg == REG_QUEUE_NUM)
        q->size = value <= d->ops->queue_size_max ? (uint16_t)value : 0; /* 0 fails later */
    else if ((reg & ~4u) == REG_QUEUE_DESC)
        set_half(&q->desc, reg & 4, value);
    else if ((reg & ~4u) == REG_QUEUE_DRIVER)
        set_half(&q->avail, reg & 4, value);
    else if ((reg & ~4u) == REG_QUEUE_DEVICE)
        set_half(&q->used, reg & 4, value);
}

static void write_register(struct virtio_dev *d, uint32_t reg, uint32_t value)
{
    if (reg == REG_STATUS)
        write_status(d, value);
    else if (reg == REG_DEVICE_FEATURES_SEL)
        d->regs.device_features_sel = value;
    else if (reg == REG_DRIVER_FEATURES_SEL)
        d->regs.driver_features_sel = value;
    else if (reg == REG_DRIVER_FEATURES)
        write_driver_features(d, value);
    else if (reg == REG_QUEUE_SEL)
        d->regs.queue_sel = value;
    else
        write_queue(d, reg, value);
}

static uint32_t read_register(const struct virtio_dev *d, uint32_t reg)
{
    uint32_t sel = d->regs.queue_sel;
    bool known = sel < d->ops->n_queues;
    switch (reg) {
    case REG_MAGIC:
        return MAGIC;
    case REG_VERSION:
        return 2;
    case REG_DEVICE_ID:
        return d->ops->device_id;
    case REG_VENDOR_ID:
        return VENDOR_ID;
    case REG_DEVICE_FEATURES:
        sel = d->regs.device_features_sel;
        return sel > 1 ? 0 : (uint32_t)(offered(d) >> 32 * sel);
    case REG_QUEUE_NUM_MAX:
        return known ? d->ops->queue_size_max : 0;
    case REG_QUEUE_READY:
        return known && d->queue[sel].ready;
    case REG_STATUS:
        return d->regs.status;
    case REG_CONFIG_GENERATION:
        return d->regs.config_generation;
    default: /* also the length of shared memory regions: there are none, and that is -1 */
        return UINT32_MAX;
    }
}

static bool config_has(const struct virtio_dev *d, uint64_t offset, unsigned len)
{
    return offset >= REG_CONFIG && offset - REG_CONFIG <= d->ops->config_len &&
           len <= d->ops->config_len - (offset - REG_CONFIG);
}

static bool is_register(uint64_t offset, unsigned len)
{
    return offset < REG_CONFIG && offset % 4 == 0 && len == 4;
}

static uint32_t read_locked(struct virtio_dev *d, uint32_t reg)
{
    pthread_mutex_lock(&d->lock);
    uint32_t v = read_register(d, reg);
    pthread_mutex_unlock(&d->lock);
    return v;
}

static void mmio_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    struct virtio_dev *d = dev;
    if (is_register(offset, len)) {
        uint32_t v = offset == REG_INTERRUPT_STATUS ? atomic_load(&d->interrupt_status)
                                                    : read_locked(d, (uint32_t)offset);
        le32_put(data, v);
    } else if (config_has(d, offset, len)) {
        pthread_mutex_lock(&d->lock);
        d->ops->config_read(d, (uint32_t)(offset - REG_CONFIG), data, len);
        pthread_mutex_unlock(&d->lock);
    } else {
        memset(data, 0xff, len);
    }
}

static void mmio_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct virtio_dev *d = dev;
    uint32_t value = is_register(offset, len) ? le32_get(data) : 0;
    if (offset == REG_INTERRUPT_ACK) {
        atomic_fetch_and(&d->interrupt_status, ~value);
    } else if (offset == REG_QUEUE_NOTIFY) {
        if (is_register(offset, len) && value < d->ops->n_queues)
            virtio_kick(d, value);
    } else {
        pthread_mutex_lock(&d->lock);
        if (is_register(offset, len))
            write_register(d, (uint32_t)offset, value);
        else if (config_has(d, offset, len) && d->ops->config_write)
            d->ops->config_write(d, (uint32_t)(offset - REG_CONFIG), data, len);
        pthread_mutex_unlock(&d->lock);
    }
}

const struct bus_ops virtio_mmio_ops = {mmio_read, mmio_write};

static void on_notify(struct ev_source *s, uint32_t events UNUSED)
{
    struct virtio_queue_event *event = CONTAINER_OF(s, struct virtio_queue_event, source);
    struct virtio_dev *d = event->dev;
    uint64_t n;
    (void)!read(s->fd, &n, sizeof n); /* before looking: what comes later is a new notification */
    pthread_mutex_lock(&d->lock);
    if (d->active && d->queue[event->index].ready)
        d->ops->notify(d, event->index);
    pthread_mutex_unlock(&d->lock);
}

static void free_transport(struct virtio_dev *d)
{
    for (unsigned i = 0; i < d->ops->n_queues; i++)
        if (d->event[i].source.fd >= 0) {
            ev_remove(d->at.loop, &d->event[i].source);
            close(d->event[i].source.fd);
        }
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int virtio_new(size_t size, const struct virtio_ops *ops, struct virtio_place at,
               struct virtio_dev **ret, struct err *e)
{
    struct virtio_dev *d = calloc(1, size);
    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    d->ops = ops;
    d->at = at;
    pthread_mutex_init(&d->lock, NULL);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        d->event[i] = (struct virtio_queue_event){{-1, on_notify}, d, i};
    for (unsigned i = 0; i < ops->n_queues; i++) {
        struct ev_source *s = &d->event[i].source;
        s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        int r = s->fd < 0 ? -errno : ev_add(at.loop, s, EPOLLIN);
        if (r < 0) {
            free_transport(d);
            return err_set_errno(e, -r, "notifications of %s", ops->name);
        }
    }
    *ret = d;
    return 0;
}

void virtio_free(struct virtio_dev *d)
{
    if (!d)
        return;
    if (d->ops->release)
        d->ops->release(d);
    free_transport(d);
}

#define STATE_VERSION 1

struct queue_state {
    uint64_t desc, avail, used;
    uint16_t size, next_avail, next_used;
    uint8_t ready, broken;
};

struct virtio_state {
    uint32_t device_id, n_queues, interrupt_status, reserved;
    struct virtio_regs regs;
    struct queue_state queue[VIRTIO_QUEUES_MAX];
};

void virtio_save(struct virtio_dev *d, struct state_writer *w)
{
    pthread_mutex_lock(&d->lock);
    struct virtio_state s = {
        d->ops->device_id, d->ops->n_queues, atomic_load(&d->interrupt_status), 0, d->regs, {{0}}};
    for (unsigned i = 0; i < d->ops->n_queues; i++) {
        const struct virtq *q = &d->queue[i];
        s.queue[i] = (struct queue_state){q->desc,       q->avail,     q->used,  q->size,
                                          q->next_avail, q->next_used, q->ready, q->broken};
    }
    state_put(w, STATE_VIRTIO, d->at.slot, STATE_VERSION, &s, sizeof s);
    if (d->ops->save)
        d->ops->save(d, w);
    pthread_mutex_unlock(&d->lock);
}

static void take_queue(struct virtq *q, const struct queue_state *s)
{
    *q = (struct virtq){.size = s->size, .ready = s->ready, .broken = s->broken};
    q->desc = s->desc;
    q->avail = s->avail;
    q->used = s->used;
    q->next_avail = s->next_avail;
    q->next_used = s->next_used;
    q->signalled_valid = false; /* one interrupt too many, but none is lost */
}

static int restore_locked(struct virtio_dev *d, const struct state_reader *r, struct err *e)
{
    struct virtio_state s;
    int ret = state_get(r, STATE_VIRTIO, d->at.slot, STATE_VERSION, &s, sizeof s, e);
    if (ret < 0)
        return ret;
    if (s.device_id != d->ops->device_id || s.n_queues != d->ops->n_queues)
        return err_set(e, EBADMSG, "virtio slot %u: saved as another device", d->at.slot);
    d->regs = s.regs;
    d->active = (d->regs.status & STATUS_DRIVER_OK) && !(d->regs.status & STATUS_NEEDS_RESET);
    atomic_store(&d->interrupt_status, s.interrupt_status & (INTERRUPT_QUEUE | INTERRUPT_CONFIG));
    for (unsigned i = 0; i < d->ops->n_queues; i++)
        take_queue(&d->queue[i], &s.queue[i]);
    if ((d->regs.status & STATUS_FEATURES_OK) && !features_are_acceptable(d))
        return err_set(e, EBADMSG, "%s was saved with features it does not have here (%#llx)",
                       d->ops->name, (unsigned long long)(d->regs.driver_features & ~offered(d)));
    if (d->active && (!(d->regs.status & STATUS_FEATURES_OK) || activate_queues(d) < 0))
        return err_set(e, EBADMSG, "%s was saved with impossible queues", d->ops->name);
    return d->ops->restore ? d->ops->restore(d, r, e) : 0;
}

int virtio_restore(struct virtio_dev *d, const struct state_reader *r, struct err *e)
{
    pthread_mutex_lock(&d->lock);
    int ret = restore_locked(d, r, e);
    if (ret < 0)
        reset(d);
    pthread_mutex_unlock(&d->lock);
    if (ret == 0)
        virtio_kick_all(d);
    return ret;
}
