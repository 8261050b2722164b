/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The three rings are guest memory that its processors change while we look.
 * Their place was checked once, at activation, and cannot change afterwards; every index into them
 * is masked by the frozen size. Everything read from them is read once into a local, and only the
 * local is judged and used. What the judgement refuses breaks the queue: no guess is made about
 * what the guest may have meant.
 *
 * Order (virtio 1.2 §2.7.13): the avail index is read with acquire before the entry it announces,
 * the used index is written with release after its entry. "I am about to sleep" and "I have news"
 * (both ends of event suppression) are Dekker's problem, and so need a full fence between the store
 * of one's own flag and the load of the other's.
 */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "vmm/le.h"

enum { DESC_F_NEXT = 1, DESC_F_WRITE = 2, DESC_F_INDIRECT = 4 };
enum { AVAIL_F_NO_INTERRUPT = 1, USED_F_NO_NOTIFY = 1 };

struct desc {
    struct le64 addr;
    struct le32 len;
    struct le16 flags, next;
};
_Static_assert(sizeof(struct desc) == 16, "as in the specification");

/* Offsets into the rings: flags, index, entries, the other side's event index. */
#define FLAGS 0u
#define INDEX 2u
#define AVAIL_ENTRY(q, i) (4u + 2u * ((i) & ((q)->size - 1u)))
#define USED_ENTRY(q, i) (4u + 8u * ((i) & ((q)->size - 1u)))
#define USED_EVENT(q) (4u + 2u * (q)->size)  /* in the avail ring */
#define AVAIL_EVENT(q) (4u + 8u * (q)->size) /* in the used ring */

/* One aligned 16-bit field of a ring: a single access that the compiler may not repeat. */
static uint16_t ring_load(const void *ring, size_t offset)
{
    const uint16_t *p = (const void *)((const char *)ring + offset);
    return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static void ring_store(void *ring, size_t offset, uint16_t v)
{
    uint16_t *p = (void *)((char *)ring + offset);
    __atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
}

int virtq_activate(struct virtq *q, const struct gmem *m)
{
    if (q->size == 0 || q->size > VIRTQ_SIZE_MAX || (q->size & (q->size - 1u)))
        return -EPROTO;
    if (q->desc % 16 || q->avail % 2 || q->used % 4)
        return -EPROTO;
    void *desc = gmem_ptr(m, q->desc, 16u * q->size);
    void *avail = gmem_ptr(m, q->avail, USED_EVENT(q) + 2);
    void *used = gmem_ptr(m, q->used, AVAIL_EVENT(q) + 2);
    if (!desc || !avail || !used)
        return -EPROTO;
    q->desc_host = desc;
    q->avail_host = avail;
    q->used_host = used;
    return 0;
}

static bool is_working(const struct virtq *q)
{
    return q->avail_host && !q->broken;
}

static struct desc copy_desc(const void *table, unsigned i)
{
    struct desc d;
    memcpy(&d, (const char *)table + sizeof d * i, sizeof d);
    /* Or the compiler could read guest memory again instead of the copy. */
    atomic_signal_fence(memory_order_seq_cst);
    return d;
}

static int add_buffer(struct virtq_chain *c, const struct gmem *m, const struct desc *d)
{
    uint32_t len = le32_get(&d->len), total;
    bool in = le16_get(&d->flags) & DESC_F_WRITE;
    unsigned n = c->n_out + c->n_in;
    void *p = gmem_ptr(m, le64_get(&d->addr), len); /* an empty buffer is refused here too */
    if (n == VIRTQ_CHAIN_MAX || !p || (!in && c->n_in))
        return -EPROTO;
    if (ckd_add(&total, c->out_bytes, c->in_bytes) || ckd_add(&total, total, len))
        return -EPROTO; /* §2.7.4.1: at most 4 GiB in a chain */
    c->iov[n] = (struct iovec){p, len};
    *(in ? &c->in_bytes : &c->out_bytes) += len;
    *(in ? &c->n_in : &c->n_out) += 1;
    return 0;
}

/* Follows one table of n descriptors from entry i. Stops at a descriptor that refers to an indirect
 * table: 1 and *ret. Ends because the chain's length is bounded, also in a loop. */
static int walk(struct virtq_chain *c, const struct gmem *m, const void *table, unsigned n,
                unsigned i, struct desc *ret)
{
    for (;;) {
        if (i >= n)
            return -EPROTO;
        struct desc d = copy_desc(table, i);
        uint16_t flags = le16_get(&d.flags);
        if (flags & DESC_F_INDIRECT) {
            *ret = d;
            return flags & DESC_F_NEXT ? -EPROTO : 1; /* §2.7.5.3.1: never both */
        }
        int r = add_buffer(c, m, &d);
        if (r < 0 || !(flags & DESC_F_NEXT))
            return r;
        i = le16_get(&d.next);
    }
}

static int walk_indirect(struct virtq_chain *c, const struct gmem *m, const struct desc *d)
{
    uint32_t len = le32_get(&d->len);
    struct desc nested;
    if (len % sizeof *d || len > sizeof *d * VIRTQ_CHAIN_MAX)
        return -EPROTO;
    const void *table = gmem_ptr(m, le64_get(&d->addr), len);
    if (!table)
        return -EPROTO;
    return walk(c, m, table, len / (unsigned)sizeof *d, 0, &nested) == 0 ? 0 : -EPROTO;
}

int virtq_pop(struct virtq *q, const struct gmem *m, struct virtq_chain *c)
{
    if (!is_working(q))
        return q->broken ? -EPROTO : 0;
    uint16_t index = ring_load(q->avail_host, INDEX);
    uint16_t waiting = (uint16_t)(index - q->next_avail);
    uint16_t in_flight = (uint16_t)(q->next_avail - q->next_used);
    if (waiting == 0)
        return 0;
    int r = -EPROTO;
    if (waiting <= q->size && in_flight < q->size) {
        struct desc indirect;
        c->head = ring_load(q->avail_host, AVAIL_ENTRY(q, q->next_avail));
        c->n_out = c->n_in = 0;
        c->out_bytes = c->in_bytes = 0;
        r = walk(c, m, q->desc_host, q->size, c->head, &indirect);
        if (r == 1)
            r = q->indirect ? walk_indirect(c, m, &indirect) : -EPROTO;
    }
    q->broken = r < 0;
    if (r < 0)
        return r;
    q->next_avail++;
    return 1;
}

void virtq_unpop(struct virtq *q)
{
    q->next_avail--;
}

static void put_used(struct virtq *q, uint16_t head, uint32_t written)
{
    struct {
        struct le32 id, len;
    } entry;
    le32_put(&entry.id, head);
    le32_put(&entry.len, written);
    memcpy((char *)q->used_host + USED_ENTRY(q, q->next_used), &entry, sizeof entry);
    q->next_used++;
}

void virtq_push(struct virtq *q, const struct virtq_chain *c, uint32_t written)
{
    virtq_push_all(q, &(struct virtq_used){c->head, written}, 1);
}

void virtq_push_all(struct virtq *q, const struct virtq_used *u, unsigned n)
{
    if (!is_working(q))
        return;
    for (unsigned i = 0; i < n; i++)
        put_used(q, u[i].head, u[i].written);
    ring_store(q->used_host, INDEX, q->next_used);
}

bool virtq_should_signal(struct virtq *q)
{
    if (!is_working(q))
        return false;
    uint16_t pushed = (uint16_t)(q->next_used - q->signalled);
    bool known = q->signalled_valid;
    q->signalled = q->next_used;
    q->signalled_valid = true;
    if (known && pushed == 0)
        return false;
    atomic_thread_fence(memory_order_seq_cst);
    if (!q->event_idx)
        return !(ring_load(q->avail_host, FLAGS) & AVAIL_F_NO_INTERRUPT);
    uint16_t event = ring_load(q->avail_host, USED_EVENT(q));
    /* §2.7.10: was entry "event" among those pushed? */
    return !known || (uint16_t)(q->next_used - event - 1) < pushed;
}

bool virtq_enable_notify(struct virtq *q)
{
    if (!is_working(q))
        return false;
    if (q->event_idx)
        ring_store(q->used_host, AVAIL_EVENT(q), q->next_avail);
    else
        ring_store(q->used_host, FLAGS, 0);
    atomic_thread_fence(memory_order_seq_cst);
    return ring_load(q->avail_host, INDEX) != q->next_avail;
}

void virtq_disable_notify(struct virtq *q)
{
    /* With event indexes nothing is to be done: avail_event stays behind. */
    if (is_working(q) && !q->event_idx)
        ring_store(q->used_host, FLAGS, USED_F_NO_NOTIFY);
}

static uint32_t copy(const struct iovec *iov, unsigned n_iov, uint32_t skip, char *p, uint32_t n,
                     bool to_guest)
{
    uint32_t done = 0;
    for (unsigned i = 0; i < n_iov && done < n; i++) {
        uint32_t len = (uint32_t)iov[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        char *guest = (char *)iov[i].iov_base + skip;
        uint32_t part = len - skip < n - done ? len - skip : n - done;
        if (to_guest)
            memcpy(guest, p + done, part);
        else
            memcpy(p + done, guest, part);
        done += part;
        skip = 0;
    }
    return done;
}

uint32_t virtq_read(const struct virtq_chain *c, uint32_t skip, void *p, uint32_t n)
{
    return copy(c->iov, c->n_out, skip, p, n, false);
}

uint32_t virtq_write(const struct virtq_chain *c, uint32_t skip, const void *p, uint32_t n)
{
    return copy(c->iov + c->n_out, c->n_in, skip, (char *)(uintptr_t)p, n, true);
}
