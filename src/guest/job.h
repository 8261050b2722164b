/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that block (mount, resize, sync) run in a forked child, so that the channel stays
 * alive and a crash is an error answer. What they change is the kernel's state, not ours.
 */
#ifndef GUEST_JOB_H
#define GUEST_JOB_H

#include "guest/guest.h"

/* Forks; the child runs work(arg) and reports. done (may be NULL) runs here, before a successful
 * answer {} is given; a failure answers 500, or 400 for EINVAL, 404 for ENOENT, 409 for EBUSY. */
void job_start(struct guest *g, struct stream *st, int (*work)(void *arg, struct err *e), void *arg,
               void (*done)(struct guest *g));

#endif
