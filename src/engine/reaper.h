/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread that watches descriptors of all machines: process ends (pidfd), control
 * channels, consoles, stderr.
 * Callbacks run on that thread, one at a time, and may remove any watch; nobody else may.
 */
#ifndef ENGINE_REAPER_H
#define ENGINE_REAPER_H

#include "base/err.h"

struct reaper;

struct watch {
    int fd; /* borrowed; level-triggered input */
    void (*ready)(struct watch *w);
};

int reaper_new(struct reaper **ret, struct err *e) MUST_CHECK;
void reaper_free(struct reaper *r); /* every watch must have been removed; NULL is fine */
int reaper_add(struct reaper *r, struct watch *w, struct err *e) MUST_CHECK; /* any thread */
void reaper_remove(struct reaper *r, struct watch *w); /* the reaper thread only */

#endif
