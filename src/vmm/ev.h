/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device thread: one epoll loop. There are two per machine, "io" (network, console, entropy,
 * balloon) and "disk", so that a slow disk does not hold up the network.
 *
 * Threads: add/modify/remove before the loop runs, on its own thread, or while it is parked; park,
 * unpark and stop from the control thread.
 */
#ifndef VMM_EV_H
#define VMM_EV_H

#include <stdint.h>

#include "base/err.h"

struct ev_loop;

struct ev_source {                                       /* embedded in its owner */
    int fd;                                              /* borrowed */
    void (*ready)(struct ev_source *s, uint32_t events); /* EPOLL* */
};

int ev_new(struct ev_loop **ret, struct err *e) MUST_CHECK;
void ev_free(struct ev_loop *l); /* stopped; NULL is fine */

/* Level-triggered: EPOLLET is not allowed, events in hand may be dropped and fetched again.
 * EPOLLHUP and EPOLLERR are always reported. 0, -errno */
int ev_add(struct ev_loop *l, struct ev_source *s, uint32_t events) MUST_CHECK;
void ev_modify(struct ev_loop *l, struct ev_source *s, uint32_t events);
/* No callback of s comes afterwards, also none of a batch already fetched. */
void ev_remove(struct ev_loop *l, struct ev_source *s);

void ev_run(struct ev_loop *l); /* until ev_stop(), which is for good */
/* One round of ev_run(): waits up to timeout_ms (-1: for ever), then calls what is ready. Number of
 * callbacks, or -ECANCELED once stopped. Tests drive a loop with it on their own thread. */
int ev_turn(struct ev_loop *l, int timeout_ms);
void ev_stop(struct ev_loop *l);
/* Returns when the loop thread is between two callbacks; no callback until ev_unpark(). */
void ev_park(struct ev_loop *l);
void ev_unpark(struct ev_loop *l);

#endif
