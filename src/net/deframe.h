/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames out of the monitor's byte stream and into it: each is preceded by its length, four bytes,
 * big-endian. Sans-IO. Loop thread.
 */
#ifndef NET_DEFRAME_H
#define NET_DEFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "net/frame.h"

/* No monitor sends more than this: a longer length means that the framing is lost. */
#define NET_STREAM_FRAME_MAX (68 * 1024)

struct net_deframer {
    uint8_t head[4];
    size_t head_have;
    size_t want, have; /* of the current frame */
    uint8_t frame[NET_FRAME_MAX];
};

/* p borrows for the call. A frame longer than NET_FRAME_MAX is reported with p NULL. */
typedef void net_frame_fn(void *arg, const uint8_t *p, size_t n);

/* Takes all n bytes. 0, or -EPROTO: the stream cannot be followed any longer. */
int net_deframer_feed(struct net_deframer *d, const uint8_t *p, size_t n, net_frame_fn *fn,
                      void *arg) MUST_CHECK;

/* Bounded queue of framed bytes towards the monitor. */
#define NET_OUTQ_CAP (512 * 1024)
#define NET_OUTQ_HIGH (192 * 1024) /* above: take nothing more from the world */

struct net_outq {
    uint8_t *data; /* owned, NET_OUTQ_CAP bytes */
    size_t head, tail;
};

int net_outq_init(struct net_outq *q) MUST_CHECK; /* -ENOMEM */
void net_outq_done(struct net_outq *q);
bool net_outq_add(struct net_outq *q, const void *frame, size_t n); /* false: full, dropped */
size_t net_outq_len(const struct net_outq *q);
const uint8_t *net_outq_head(const struct net_outq *q);
void net_outq_consume(struct net_outq *q, size_t n); /* n <= net_outq_len() */

#endif
