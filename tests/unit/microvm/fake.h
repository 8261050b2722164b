/* SPDX-License-Identifier: Apache-2.0 */
/* An engine and a guest agent that do what a test tells them. */
#ifndef TESTS_UNIT_MICROVM_FAKE_H
#define TESTS_UNIT_MICROVM_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct fake {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    int restores, suspends, resumes, machines; /* calls so far; machines alive */
    int fail_suspend, fail_resume;             /* errno to fail with; 0 = succeed */
    bool hold_restore, hold_suspend;           /* the call waits until this is false */
    bool holding;                              /* a call waits */
    bool mute;                                 /* hooks and other calls are never answered */
    bool write_on_resume;                      /* a failing resume has touched the disk */
};
extern struct fake fake;

void fake_reset(void);
void fake_set(bool *flag, bool value); /* with the lock, waking who waits */
void fake_await(const bool *flag);     /* until true */
/* The current session dies; the machine goes on. */
void fake_break_session(void);
/* The current machine dies by itself. */
void fake_kill_machine(const char *why);

#endif
