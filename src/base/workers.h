/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for blocking, straight-line operations (a build, a suspend, an API call). Work is taken
 * in order; threads are started on demand up to a ceiling and kept. Any thread may submit.
 */
#ifndef BASE_WORKERS_H
#define BASE_WORKERS_H

#include "base/err.h"

struct workers;

int workers_new(const char *name, unsigned max_threads, unsigned max_queued, struct workers **ret,
                struct err *e) MUST_CHECK;
/* Waits for queued and running work, then ends the threads. NULL is fine. */
void workers_free(struct workers *w);
/* -EAGAIN when the queue is full: the caller answers "throttled". fn runs exactly once otherwise.
 */
int workers_submit(struct workers *w, void (*fn)(void *arg), void *arg) MUST_CHECK;

#endif
