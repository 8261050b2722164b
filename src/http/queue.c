/* SPDX-License-Identifier: Apache-2.0 */
#include "http/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_CAP ((size_t)32 * 1024) /* an idle connection holds at most this much per queue */

static int queue_grow(struct queue *q, size_t need)
{
    size_t cap = q->cap ? q->cap : 1024;
    while (cap < need)
        if (ckd_mul(&cap, cap, (size_t)2))
            return -ENOMEM;
    char *p = malloc(cap);
    if (!p)
        return -ENOMEM;
    if (q->len)
        memcpy(p, q->data + q->head, q->len);
    free(q->data);
    q->data = p;
    q->head = 0;
    q->cap = cap;
    return 0;
}

int queue_add(struct queue *q, const void *p, size_t n)
{
    size_t need;
    if (!n)
        return 0;
    if (ckd_add(&need, q->len, n))
        return -ENOMEM;
    if (need > q->cap) {
        if (queue_grow(q, need) < 0)
            return -ENOMEM;
    } else if (q->head + need > q->cap) {
        /* Growing while more than half is alive keeps the moved bytes below the consumed ones. */
        if (q->len > q->cap / 2) {
            if (queue_grow(q, q->cap + 1) < 0)
                return -ENOMEM;
        } else {
            memmove(q->data, q->data + q->head, q->len);
            q->head = 0;
        }
    }
    memcpy(q->data + q->head + q->len, p, n);
    q->len += n;
    return 0;
}

void queue_consume(struct queue *q, size_t n)
{
    assert(n <= q->len);
    q->len -= n;
    q->head += n;
    if (!q->len)
        q->head = 0;
}

void queue_trim(struct queue *q)
{
    if (!q->len && q->cap > KEEP_CAP)
        queue_done(q);
}

void queue_done(struct queue *q)
{
    free(q->data);
    *q = (struct queue){0};
}
