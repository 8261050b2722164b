/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. What the guest gives away, page by page (inflate) or in free ranges
 * (reporting), is dropped with MADV_DONTNEED; it comes back by being touched, so deflating needs no
 * work here. The guest's statistics are not asked for: nobody would read them.
 *
 * What a dropped page reads as. RAM is a private mapping of nothing or of a snapshot's memory and
 * pages files; dropped pages are zero in the first case and the snapshot's old contents in the
 * second. Virtio 1.2 §5.5.6.7.2 lets the device change reported pages in any way, and ballooned
 * pages are the device's (§5.5.6), as long as PAGE_POISON is not negotiated. It is not offered: a
 * Linux guest that counts on the contents of free pages (init_on_free, page poisoning) then keeps
 * from reporting by itself. Mapping zeroes over the page instead was decided against:
 *  - Nothing is gained in secrecy. The old contents were this guest's to read when it was thawed.
 *  - Every hole would split a mapping; a guest that gives away every second page would use up the
 *    process's 65,530 mappings.
 *  - A page that reads as the snapshot's is clean again: it is not anonymous, snapshot/pages.h does
 *    not save it, and the resumed machine finds the same contents as before. (One that came from a
 *    pages file reads as that again, and is still marked as to be saved.)
 *
 * Work is bounded: PFNS_MAX pages of a chain (Linux sends at most 256) and CHAINS_MAX chains a
 * turn. Page numbers beyond that, or outside RAM, are passed over: dropping is optional.
 */
#include "vmm/virtio/balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/le.h"

enum { INFLATE = 0, DEFLATE = 1, QUEUES = 5 };

#define PFNS_MAX 1024u
#define CHAINS_MAX 64u
#define STATE_VERSION 1u
#define BIT(feature) (UINT64_C(1) << (feature))

struct config_space {
    struct le32 target, actual; /* pages; num_pages in §5.5.4 is what we ask for */
};

struct saved { /* section STATE_BALLOON */
    struct config_space config;
    uint64_t reported; /* bytes */
};

struct balloon {
    struct virtio_dev virtio;
    struct saved s;
    struct virtq_chain chain;
};

static struct balloon *of(struct virtio_dev *d)
{
    return CONTAINER_OF(d, struct balloon, virtio);
}

/* ---- giving memory back ---- */

struct run { /* of host pages, end excluded */
    uint8_t *start, *end;
};

static void run_drop(struct run *r)
{
    if (r->start < r->end)
        (void)madvise(r->start, (size_t)(r->end - r->start), MADV_DONTNEED); /* optional */
    r->start = r->end = NULL;
}

/* Linux takes pages from the top of a free block or from its bottom: runs grow both ways. */
static void run_add(struct run *r, uint8_t *page)
{
    if (page == r->end) {
        r->end += GMEM_PAGE;
    } else if (r->start && page == r->start - GMEM_PAGE) {
        r->start = page;
    } else {
        run_drop(r);
        *r = (struct run){page, page + GMEM_PAGE};
    }
}

static void inflate(const struct balloon *b)
{
    struct le32 pfn[256];
    struct run run = {0};
    for (uint32_t done = 0; done < PFNS_MAX; done += ARRAY_LEN(pfn)) {
        uint32_t n = virtq_read(&b->chain, done * (uint32_t)sizeof *pfn, pfn, sizeof pfn);
        for (uint32_t i = 0; i < n / sizeof *pfn; i++) {
            uint8_t *page =
                gmem_ptr(b->virtio.at.mem, (uint64_t)le32_get(&pfn[i]) * GMEM_PAGE, GMEM_PAGE);
            if (page)
                run_add(&run, page);
        }
    }
    run_drop(&run);
}

/* Only whole pages inside each range. */
static void report(struct balloon *b)
{
    const struct virtq_chain *c = &b->chain;
    for (unsigned i = c->n_out; i < c->n_out + c->n_in; i++) {
        uint8_t *p = c->iov[i].iov_base;
        size_t before = -(uintptr_t)p % GMEM_PAGE, n = c->iov[i].iov_len;
        if (n < before + GMEM_PAGE)
            continue;
        n = (n - before) & ~(size_t)(GMEM_PAGE - 1);
        struct run run = {p + before, p + before + n};
        run_drop(&run);
        b->s.reported += n;
    }
}

/* ---- queues ---- */

/* The reporting queue is number 4 by §5.5.2, but Linux leaves no gaps for queues whose features are
 * not negotiated: 2. Nothing else could be there. */
static bool is_reporting(const struct balloon *b, unsigned queue)
{
    return queue > DEFLATE && virtio_has(&b->virtio, VIRTIO_BALLOON_F_REPORTING);
}

static void take_chain(struct balloon *b, unsigned queue)
{
    if (queue == INFLATE)
        inflate(b);
    else if (is_reporting(b, queue))
        report(b);
    virtq_push(&b->virtio.queue[queue], &b->chain, 0);
}

static void balloon_notify(struct virtio_dev *d, unsigned queue)
{
    struct balloon *b = of(d);
    struct virtq *q = &d->queue[queue];
    unsigned budget = CHAINS_MAX;
    int r = 1;
    virtq_disable_notify(q);
    while (r > 0 && budget--) {
        r = virtq_pop(q, d->at.mem, &b->chain);
        if (r > 0)
            take_chain(b, queue);
        else if (r == 0)
            r = virtq_enable_notify(q);
    }
    virtio_signal(d, queue);
    if (r < 0)
        virtio_needs_reset(d);
    if (r > 0)
        virtio_kick(d, queue); /* the others' turn, then again */
}

/* ---- the rest of the device ---- */

static void balloon_reset(struct virtio_dev *d)
{
    le32_put(&of(d)->s.config.actual, 0); /* the driver owns all pages again */
}

static void balloon_config_read(struct virtio_dev *d, uint32_t offset, void *p, uint32_t len)
{
    memcpy(p, (const uint8_t *)&of(d)->s.config + offset, len);
}

static void balloon_config_write(struct virtio_dev *d, uint32_t offset, const void *p, uint32_t len)
{
    struct config_space *c = &of(d)->s.config;
    struct le32 target = c->target; /* not the driver's to set */
    memcpy((uint8_t *)c + offset, p, len);
    c->target = target;
}

static void balloon_save(struct virtio_dev *d, struct state_writer *w)
{
    state_put(w, STATE_BALLOON, d->at.slot, STATE_VERSION, &of(d)->s, sizeof(struct saved));
}

static int balloon_restore(struct virtio_dev *d, const struct state_reader *r, struct err *e)
{
    return state_get(r, STATE_BALLOON, d->at.slot, STATE_VERSION, &of(d)->s, sizeof(struct saved),
                     e);
}

static const struct virtio_ops balloon_ops = {
    .device_id = 5,
    .name = "balloon",
    .n_queues = QUEUES,
    .queue_size_max = VIRTQ_SIZE_MAX,
    .reset = balloon_reset,
    .notify = balloon_notify,
    .config_len = sizeof(struct config_space),
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .save = balloon_save,
    .restore = balloon_restore,
};

int balloon_new(struct virtio_place at, struct virtio_dev **ret, struct err *e)
{
    int r = virtio_new(sizeof(struct balloon), &balloon_ops, at, ret, e);
    if (r == 0)
        (*ret)->device_features =
            BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | BIT(VIRTIO_BALLOON_F_REPORTING);
    return r;
}

void balloon_set_target(struct virtio_dev *d, uint64_t pages)
{
    struct balloon *b = of(d);
    uint64_t most = b->virtio.at.mem->bytes / GMEM_PAGE; /* at most GMEM_MAX_BYTES: fits 32 bits */
    pthread_mutex_lock(&b->virtio.lock);
    le32_put(&b->s.config.target, (uint32_t)(pages < most ? pages : most));
    virtio_config_changed(&b->virtio);
    pthread_mutex_unlock(&b->virtio.lock);
}

void balloon_stats(struct virtio_dev *d, struct balloon_stats *ret)
{
    struct balloon *b = of(d);
    pthread_mutex_lock(&b->virtio.lock);
    *ret = (struct balloon_stats){
        .target_pages = le32_get(&b->s.config.target),
        .actual_pages = le32_get(&b->s.config.actual),
        .reported_bytes = b->s.reported,
    };
    pthread_mutex_unlock(&b->virtio.lock);
}
