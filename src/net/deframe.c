/* SPDX-License-Identifier: Apache-2.0 */
#include "net/deframe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/be.h"

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t feed_head(struct net_deframer *d, const uint8_t *p, size_t n)
{
    size_t take = min_size(sizeof d->head - d->head_have, n);
    memcpy(d->head + d->head_have, p, take);
    d->head_have += take;
    d->have = 0;
    d->want = d->head_have == sizeof d->head ? be32_get(d->head) : 0;
    return take;
}

/* Bytes of a frame we have no room for are counted, not kept. */
static size_t feed_body(struct net_deframer *d, const uint8_t *p, size_t n)
{
    size_t take = min_size(d->want - d->have, n);
    if (d->want <= sizeof d->frame)
        memcpy(d->frame + d->have, p, take);
    d->have += take;
    return take;
}

int net_deframer_feed(struct net_deframer *d, const uint8_t *p, size_t n, net_frame_fn *fn,
                      void *arg)
{
    while (n) {
        size_t took = d->head_have < sizeof d->head ? feed_head(d, p, n) : feed_body(d, p, n);
        p += took;
        n -= took;
        if (d->head_have < sizeof d->head)
            continue;
        if (d->want > NET_STREAM_FRAME_MAX)
            return -EPROTO;
        if (d->have < d->want)
            continue;
        d->head_have = 0;
        fn(arg, d->want <= sizeof d->frame ? d->frame : NULL, d->want);
    }
    return 0;
}

int net_outq_init(struct net_outq *q)
{
    *q = (struct net_outq){.data = malloc(NET_OUTQ_CAP)};
    return q->data ? 0 : -ENOMEM;
}

void net_outq_done(struct net_outq *q)
{
    free(q->data);
    *q = (struct net_outq){0};
}

size_t net_outq_len(const struct net_outq *q)
{
    return q->tail - q->head;
}

const uint8_t *net_outq_head(const struct net_outq *q)
{
    return q->data + q->head;
}

bool net_outq_add(struct net_outq *q, const void *frame, size_t n)
{
    size_t need = n + 4;
    if (n > NET_OUTQ_CAP - 4 || need > NET_OUTQ_CAP - net_outq_len(q))
        return false;
    if (need > NET_OUTQ_CAP - q->tail) {
        memmove(q->data, q->data + q->head, net_outq_len(q));
        q->tail -= q->head;
        q->head = 0;
    }
    be32_put(q->data + q->tail, (uint32_t)n);
    memcpy(q->data + q->tail + 4, frame, n);
    q->tail += need;
    return true;
}

void net_outq_consume(struct net_outq *q, size_t n)
{
    assert(n <= net_outq_len(q));
    q->head += n;
    if (q->head == q->tail)
        q->head = q->tail = 0;
}
