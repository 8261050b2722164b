/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <sys/random.h>

#define DEVICE_ID 4u
#define QUEUE_SIZE 8u
#define REQUEST_MAX 65536u
#define REQUESTS_PER_CALL 4u /* at most half a millisecond: parking waits for it */

struct rng {
    struct virtio_dev dev;
    struct virtq_chain chain;
};

/* Straight into guest memory. Without a failure getrandom() stops early only for a signal. */
static uint32_t fill(const struct virtq_chain *c)
{
    uint32_t done = 0;
    for (unsigned i = c->n_out; i < c->n_out + c->n_in; i++) {
        size_t want = c->iov[i].iov_len, have = 0;
        if (want > REQUEST_MAX - done)
            want = REQUEST_MAX - done;
        while (have < want) {
            ssize_t n = getrandom((char *)c->iov[i].iov_base + have, want - have, 0);
            if (n < 0 && errno != EINTR)
                return done + (uint32_t)have;
            have += n > 0 ? (size_t)n : 0;
        }
        done += (uint32_t)have;
    }
    return done;
}

static void notify(struct virtio_dev *d, unsigned q)
{
    struct rng *r = CONTAINER_OF(d, struct rng, dev);
    int got = 1;
    for (unsigned i = 0; i < REQUESTS_PER_CALL; i++) {
        got = virtq_pop(&d->queue[q], d->at.mem, &r->chain);
        if (got <= 0)
            break;
        virtq_push(&d->queue[q], &r->chain, fill(&r->chain));
    }
    virtio_signal(d, q);
    if (got < 0)
        virtio_needs_reset(d);
    else if (got > 0 || virtq_enable_notify(&d->queue[q]))
        virtio_kick(d, q);
}

static const struct virtio_ops OPS = {
    .device_id = DEVICE_ID,
    .name = "rng",
    .n_queues = 1,
    .queue_size_max = QUEUE_SIZE,
    .notify = notify,
};

int rng_new(struct virtio_place at, struct virtio_dev **ret, struct err *e)
{
    return virtio_new(sizeof(struct rng), &OPS, at, ret, e);
}
