/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port and the session on it. The descriptor may be a virtio-console port or (in tests) one end
 * of a socket pair. A broken session is answered with GOAWAY and dropped; the channel lives on and
 * waits for the next hello (proto/sync.h).
 */
#ifndef GUEST_CHANNEL_H
#define GUEST_CHANNEL_H

#include "guest/ev.h"
#include "guest/session.h"

struct channel;

/* Takes ownership of fd. on_gone (may be NULL) runs when fd is at its end and is no port. */
int channel_new(struct ev *ev, int fd, bool port, session_router *router, void *app,
                void (*on_gone)(void *app), struct channel **ret, struct err *e) MUST_CHECK;
void channel_free(struct channel *c);

#endif
