/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One queue, worked off in order on the disk thread with blocking I/O straight
 * from and to guest memory. Nothing is in flight between two callbacks: a request that cannot go on
 * (rate limit, no space on the host) is put back into the queue and a timer tries it again; so
 * saving, restoring and resetting need no draining, and a request is never half a device's state.
 *
 * Trust: header and ranges are copied once and judged as copies; data only pass through. What is
 * wrong in a request gets an error status; a request without room for a status breaks the queue.
 */
#include "vmm/virtio/blk.h"

#include <errno.h>
#include <string.h>

#include "vmm/le.h"
#include "vmm/virtio/throttle.h"

enum {
    DEVICE_ID = 2,
    SECTOR = 512,
    QUEUE_SIZE = 128,
    SERIAL_LEN = 20,
    SEGMENTS_MAX = VIRTQ_CHAIN_MAX - 2, /* header and status */
    RANGES_MAX = 16,                    /* of one discard or write-zeroes */
    RANGE_SECTORS_MAX = 1 << 19,        /* 256 MiB: parking waits for it */
    REQUEST_BYTES_MAX = 32 << 20,       /* parking waits for a request; drivers stop at 4 MiB */
    BATCH_REQUESTS = 16,
    BATCH_BYTES = 4 << 20,
};
_Static_assert(SEGMENTS_MAX <= DISK_IOV_MAX, "a request is one call");

#define RETRY_NS UINT64_C(1000000000)

enum { F_SEG_MAX = 2, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9, F_TOPOLOGY = 10 };
enum { F_DISCARD = 13, F_WRITE_ZEROES = 14 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { RANGE_UNMAP = 1 };

struct request_header {
    struct le32 type, reserved;
    struct le64 sector;
};

struct range {
    struct le64 sector;
    struct le32 n_sectors, flags;
};

struct config { /* virtio 1.2 §5.2.4 */
    struct le64 capacity;
    struct le32 size_max, seg_max;
    uint8_t geometry[4];
    struct le32 blk_size;
    uint8_t physical_block_exp, alignment_offset;
    struct le16 min_io_size;
    struct le32 opt_io_size;
    uint8_t writeback, unused0;
    struct le16 num_queues;
    struct le32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
    struct le32 max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct config) == 60, "as in the specification");

struct blk {
    struct virtio_dev dev;
    struct blk_config c;
    struct config config;
    struct throttle throttle;
    bool waiting; /* the throttle will go on */
    bool stuck;   /* for space */
    bool told;    /* what on_full() last said */
    _Atomic uint64_t bytes_written;
    struct virtq_chain chain;
};

static struct blk *of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct blk, dev);
}

/* ---- requests: 0 or -errno, which becomes the status ---- */

/* The data of a chain, cut out of it: what follows the header, or precedes the status. */
static unsigned data_out(struct virtq_chain *c, struct iovec **ret)
{
    size_t skip = sizeof(struct request_header);
    unsigned i = 0;
    for (; i < c->n_out && skip >= c->iov[i].iov_len; i++)
        skip -= c->iov[i].iov_len;
    *ret = &c->iov[i];
    if (i < c->n_out) {
        c->iov[i].iov_base = (char *)c->iov[i].iov_base + skip;
        c->iov[i].iov_len -= skip;
    }
    return c->n_out - i;
}

static unsigned data_in(struct virtq_chain *c, struct iovec **ret)
{
    *ret = &c->iov[c->n_out];
    struct iovec *last = *ret + c->n_in - 1;
    return --last->iov_len ? c->n_in : c->n_in - 1;
}

/* A place on the disk, in bytes; whether it lies on it the disk decides. */
static int place(uint64_t sector, uint64_t bytes, uint64_t *ret)
{
    return bytes > REQUEST_BYTES_MAX || ckd_mul(ret, sector, (uint64_t)SECTOR) ? -EINVAL : 0;
}

static int do_read(struct blk *b, uint64_t sector)
{
    struct iovec *v;
    uint64_t offset;
    int r = place(sector, b->chain.in_bytes - 1, &offset);
    unsigned n = data_in(&b->chain, &v);
    return r < 0 ? r : disk_readv(b->c.disk, v, n, offset);
}

static int do_write(struct blk *b, uint64_t sector)
{
    struct iovec *v;
    uint64_t offset, bytes = b->chain.out_bytes - sizeof(struct request_header);
    int r = place(sector, bytes, &offset);
    unsigned n = data_out(&b->chain, &v);
    if (r == 0)
        r = disk_writev(b->c.disk, v, n, offset);
    if (r == 0)
        atomic_fetch_add_explicit(&b->bytes_written, bytes, memory_order_relaxed);
    return r;
}

static int do_range(struct blk *b, uint32_t type, const struct range *range)
{
    uint32_t n = le32_get(&range->n_sectors), flags = le32_get(&range->flags);
    uint64_t offset;
    if (flags & ~(type == T_WRITE_ZEROES ? (uint32_t)RANGE_UNMAP : 0))
        return -EOPNOTSUPP; /* §5.2.6.2 */
    if (n > RANGE_SECTORS_MAX || place(le64_get(&range->sector), 0, &offset) < 0)
        return -EINVAL;
    uint64_t bytes = (uint64_t)n * SECTOR;
    return type == T_DISCARD ? disk_discard(b->c.disk, offset, bytes)
                             : disk_write_zeroes(b->c.disk, offset, bytes);
}

static int do_ranges(struct blk *b, uint32_t type)
{
    struct range range[RANGES_MAX];
    uint32_t n = b->chain.out_bytes - (uint32_t)sizeof(struct request_header);
    if (!virtio_has(&b->dev, type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES))
        return -EOPNOTSUPP;
    if (n == 0 || n % sizeof range[0] || n > sizeof range)
        return -EINVAL;
    virtq_read(&b->chain, sizeof(struct request_header), range, n);
    int r = 0;
    for (unsigned i = 0; r == 0 && i < n / sizeof range[0]; i++)
        r = do_range(b, type, &range[i]);
    return r;
}

static int do_get_id(struct blk *b)
{
    char id[SERIAL_LEN] = {0};
    uint32_t room = b->chain.in_bytes - 1;
    memcpy(id, b->c.serial, strnlen(b->c.serial, SERIAL_LEN));
    virtq_write(&b->chain, 0, id, room < SERIAL_LEN ? room : SERIAL_LEN);
    return 0;
}

static int serve(struct blk *b, const struct request_header *h)
{
    uint32_t type = le32_get(&h->type);
    int r = -EOPNOTSUPP;
    switch (type) {
    case T_IN:
        return do_read(b, le64_get(&h->sector));
    case T_GET_ID:
        return do_get_id(b);
    case T_FLUSH:
        return disk_flush(b->c.disk);
    case T_OUT:
        r = do_write(b, le64_get(&h->sector));
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        r = do_ranges(b, type);
    }
    /* A driver without FLUSH expects a write-through disk (§5.2.6.2). */
    return r == 0 && !virtio_has(&b->dev, F_FLUSH) ? disk_flush(b->c.disk) : r;
}

/* ---- the queue ---- */

static void complete(struct blk *b, int r, uint8_t *status)
{
    *status = r == 0 ? S_OK : r == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;
    b->stuck = false;
    throttle_next(&b->throttle);
    virtq_push(&b->dev.queue[0], &b->chain, b->chain.in_bytes);
}

/* The request in b->chain. 1 = done, 0 = waits, at the head of the queue again, -EPROTO. */
static int work_one(struct blk *b)
{
    const struct virtq_chain *c = &b->chain;
    struct request_header h;
    if (c->n_in == 0)
        return -EPROTO;
    const struct iovec *last = &c->iov[c->n_out + c->n_in - 1];
    uint8_t *status = (uint8_t *)last->iov_base + last->iov_len - 1;
    bool paid = throttle_pay(&b->throttle, (uint64_t)c->out_bytes + c->in_bytes);
    int r = -EINVAL;
    if (paid && virtq_read(c, 0, &h, sizeof h) == sizeof h)
        r = serve(b, &h);
    if (paid && r != -ENOSPC) {
        complete(b, r, status);
        return 1;
    }
    virtq_unpop(&b->dev.queue[0]);
    b->waiting = true;
    b->stuck = paid;
    if (b->stuck)
        throttle_wait(&b->throttle, RETRY_NS);
    return 0;
}

static void tell(struct blk *b)
{
    if (b->told == b->stuck)
        return;
    b->told = b->stuck;
    if (b->c.on_full)
        b->c.on_full(b->c.on_full_arg, b->told);
}

static void work(struct blk *b)
{
    struct virtq *q = &b->dev.queue[0];
    uint64_t bytes = 0;
    int r = 1;
    virtq_disable_notify(q);
    for (unsigned i = 0; r > 0 && i < BATCH_REQUESTS && bytes < BATCH_BYTES; i++) {
        r = virtq_pop(q, b->dev.at.mem, &b->chain);
        if (r > 0) {
            bytes += (uint64_t)b->chain.out_bytes + b->chain.in_bytes;
            r = work_one(b);
        }
    }
    virtio_signal(&b->dev, 0);
    if (r < 0) {
        b->stuck = false;
        virtio_needs_reset(&b->dev);
    } else if (!b->waiting && (r > 0 || virtq_enable_notify(q))) {
        virtio_kick(&b->dev, 0);
    }
    tell(b);
}

static void notify(struct virtio_dev *d, unsigned q UNUSED)
{
    struct blk *b = of(d);
    if (!b->waiting)
        work(b);
}

static void again(struct throttle *t)
{
    struct blk *b = CONTAINER_OF(t, struct blk, throttle);
    pthread_mutex_lock(&b->dev.lock);
    b->waiting = false;
    if (b->dev.active && b->dev.queue[0].ready)
        work(b);
    else
        tell(b); /* a reset came first */
    pthread_mutex_unlock(&b->dev.lock);
}

/* The throttle goes on: told is put right on its thread. */
static void reset(struct virtio_dev *d)
{
    struct blk *b = of(d);
    b->waiting = b->stuck = false;
    throttle_next(&b->throttle);
}

/* ---- configuration and state ---- */

static void config_read(struct virtio_dev *d, uint32_t offset, void *p, uint32_t len)
{
    memcpy(p, (const char *)&of(d)->config + offset, len);
}

static void fill_config(struct config *c, uint64_t bytes)
{
    le64_put(&c->capacity, bytes / SECTOR);
    le32_put(&c->seg_max, SEGMENTS_MAX);
    le32_put(&c->blk_size, SECTOR);
    c->physical_block_exp = 3; /* a layer's block: 4 KiB */
    le16_put(&c->min_io_size, 8);
    le16_put(&c->num_queues, 1);
    le32_put(&c->max_discard_sectors, RANGE_SECTORS_MAX);
    le32_put(&c->max_discard_seg, RANGES_MAX);
    le32_put(&c->discard_sector_alignment, 8);
    le32_put(&c->max_write_zeroes_sectors, RANGE_SECTORS_MAX);
    le32_put(&c->max_write_zeroes_seg, RANGES_MAX);
    c->write_zeroes_may_unmap = 1;
}

#define STATE_VERSION 1

struct blk_state {
    uint64_t bytes;
    uint32_t read_only, reserved;
};

static void save(struct virtio_dev *d, struct state_writer *w)
{
    const struct blk *b = of(d);
    struct blk_state s = {disk_bytes(b->c.disk), disk_is_read_only(b->c.disk), 0};
    state_put(w, STATE_BLK, d->at.slot, STATE_VERSION, &s, sizeof s);
}

static int restore(struct virtio_dev *d, const struct state_reader *r, struct err *e)
{
    const struct blk *b = of(d);
    struct blk_state s;
    int k = state_get(r, STATE_BLK, d->at.slot, STATE_VERSION, &s, sizeof s, e);
    if (k == 0 &&
        (s.bytes != disk_bytes(b->c.disk) || !s.read_only == disk_is_read_only(b->c.disk)))
        k = err_set(e, EBADMSG,
                    "blk was saved with a disk of %llu bytes (read-only: %u), not %llu (%d)",
                    (unsigned long long)s.bytes, s.read_only,
                    (unsigned long long)disk_bytes(b->c.disk), disk_is_read_only(b->c.disk));
    return k;
}

static void release(struct virtio_dev *d)
{
    struct blk *b = of(d);
    throttle_done(&b->throttle, d->at.loop);
    disk_close(b->c.disk);
}

static const struct virtio_ops OPS = {
    .device_id = DEVICE_ID,
    .name = "blk",
    .n_queues = 1,
    .queue_size_max = QUEUE_SIZE,
    .reset = reset,
    .notify = notify,
    .config_len = sizeof(struct config),
    .config_read = config_read,
    .save = save,
    .restore = restore,
    .release = release,
};

static uint64_t features(const struct disk *d)
{
    uint64_t f = 1 << F_SEG_MAX | 1 << F_BLK_SIZE | 1 << F_TOPOLOGY;
    if (disk_is_read_only(d))
        return f | 1 << F_RO;
    return f | 1 << F_FLUSH | 1 << F_DISCARD | 1 << F_WRITE_ZEROES;
}

int blk_new(struct virtio_place at, const struct blk_config *c, struct virtio_dev **ret,
            struct err *e)
{
    struct virtio_dev *d;
    int r = virtio_new(sizeof(struct blk), &OPS, at, &d, e);
    if (r < 0)
        return r;
    struct blk *b = of(d);
    d->device_features = features(c->disk);
    fill_config(&b->config, disk_bytes(c->disk));
    r = throttle_init(&b->throttle, at.loop, c->bytes, c->ops, again, e);
    if (r < 0) {
        virtio_free(d); /* without the disk */
        return r;
    }
    b->c = *c;
    *ret = d;
    return 0;
}

uint64_t blk_bytes_written(struct virtio_dev *d)
{
    return atomic_load_explicit(&of(d)->bytes_written, memory_order_relaxed);
}

bool blk_is_stuck(struct virtio_dev *d)
{
    return of(d)->stuck;
}
