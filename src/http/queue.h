/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte queue: appended at the tail, consumed at the head, always contiguous. Consuming is amortised
 * O(1): the bytes move only when more than half of the allocation is dead. Single owner.
 */
#ifndef HTTP_QUEUE_H
#define HTTP_QUEUE_H

#include <stddef.h>

#include "base/macros.h"

struct queue {
    char *data;       /* owned */
    size_t head, len; /* valid bytes are data[head .. head + len) */
    size_t cap;
};

int queue_add(struct queue *q, const void *p, size_t n) MUST_CHECK; /* 0 or -ENOMEM */
static inline const char *queue_head(const struct queue *q)
{
    return q->data ? q->data + q->head : "";
}
void queue_consume(struct queue *q, size_t n); /* n <= len; the memory is kept */
/* Gives an empty queue's memory back, if it is much. Not after every use: page faults cost more
 * than all copying (a fifth of a download's time, measured). */
void queue_trim(struct queue *q);
void queue_done(struct queue *q);

#endif
