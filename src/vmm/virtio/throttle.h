/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits of one queue: a token bucket for bytes, one for requests, and a timer that comes back
 * when they have filled up. One request at a time pays, the one at the head of the queue, as often
 * as it is tried. On the device's loop thread, with its lock; again() without it.
 */
#ifndef VMM_VIRTIO_THROTTLE_H
#define VMM_VIRTIO_THROTTLE_H

#include "vmm/ev.h"
#include "vmm/rate.h"

struct throttle {
    struct rate_bucket bytes, requests;
    bool request_paid;   /* a second attempt does not pay again, */
    uint64_t bytes_paid; /* and a longer request put in its place pays the rest */
    struct ev_source timer;
    void (*again)(struct throttle *t);
};

/* Limits of zero: none. Loop parked. */
int throttle_init(struct throttle *t, struct ev_loop *loop, struct rate_limit bytes,
                  struct rate_limit requests, void (*again)(struct throttle *t),
                  struct err *e) MUST_CHECK;
void throttle_done(struct throttle *t, struct ev_loop *loop); /* zeroed is fine */
/* Whether a request of so many bytes may begin. If not, again() is called when it may. */
bool throttle_pay(struct throttle *t, uint64_t bytes) MUST_CHECK;
/* That request is done with: the next one pays anew. */
void throttle_next(struct throttle *t);
/* again() after ns, which is not 0. */
void throttle_wait(struct throttle *t, uint64_t ns);

#endif
