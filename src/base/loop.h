/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one event loop of a process and the bridge into it. Everything that touches a uv handle runs
 * on the loop thread; other threads hand work over with loop_post() or loop_call().
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

struct loop;

int loop_new(struct loop **ret, struct err *e) MUST_CHECK;
/* After loop_run() returned and every handle was closed. */
void loop_free(struct loop *l);
uv_loop_t *loop_uv(struct loop *l);

/* Runs until loop_stop(); the calling thread becomes the loop thread. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l); /* any thread, also from a posted function */
bool loop_is_current(const struct loop *l);

/* Queues fn(arg) to run once on the loop thread, in order of posting. Any thread. */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);
/* As loop_post(), but returns after fn ran. Any thread but the loop's own. */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);

#endif
