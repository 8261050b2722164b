/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of one machine and how they end: the monitor (perhaps inside a sandbox process),
 * tinderbox-net beside it, what they print, and the exit report. Whichever process ends first takes
 * the other with it; when both are reaped the descriptors are drained and closed, waiters are
 * woken, and on_exit is called last, without the lock.
 *
 * Threads: the caller's and the engine's reaper. Fields below "lock" are guarded by it; the others
 * are set before life_start() or belong to the reaper.
 *
 * Order: life_init, life_open_*, life_start_net, the engine fills vmm (and pid, inner_pidfd),
 * life_start, life_hand_out, ..., life_stop, life_done.
 */
#ifndef ENGINE_LIFE_H
#define ENGINE_LIFE_H

#include <pthread.h>

#include "base/proc.h"
#include "engine/console.h"
#include "engine/engine.h"
#include "engine/reaper.h"

enum life_state {
    LIFE_NEW,   /* no process yet */
    LIFE_LIVE,  /* processes run and are watched */
    LIFE_ENDED, /* all reaped, descriptors closed */
    LIFE_DONE,  /* on_exit has returned */
};

struct life;
struct life_ops {
    /* Reaper thread, no lock, both processes are gone: takes what is still in the engine's own
     * channel and stops watching it. */
    void (*close)(struct life *l);
    /* Lock held: why a monitor that exited by itself with status 0 did so. */
    void (*explain)(const struct life *l, char *out, size_t cap);
};

struct life {
    const struct life_ops *ops;
    struct reaper *reaper; /* borrowed: the engine's */
    char id[65];
    char *dir;      /* owned */
    int dir_fd;     /* O_PATH */
    bool sandboxed; /* vmm is a sandbox: an exit status above 128 is a signal */
    void (*on_exit)(void *arg, const struct engine_exit *x);
    void *on_exit_arg;
    struct watch on_vmm, on_net, on_console, on_stderr; /* -1 = none */
    struct console_log console;
    struct tail stderr_tail;
    int stats_fd; /* tinderbox-net's counters */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    enum life_state state;
    bool returned; /* engine_boot() and friends have handed it out: on_exit is owed */
    bool expected; /* its end is */
    bool vmm_gone, net_gone;
    struct proc vmm, net;
    int inner_pidfd; /* owned: the monitor itself where vmm is a sandbox around it; else -1 */
    pid_t pid;       /* of the monitor */
    char note[160];  /* why we ended it, "" = we did not */
    struct proc_exit exit;
    char text[200]; /* of the exit report, once ENDED */
};

#define LIFE_NO_SPACE "no space left on the disk of the host" /* a note that means ENOSPC */

/* On failure life_done() is still due. */
int life_init(struct life *l, const struct life_ops *ops, struct reaper *r,
              const struct engine_spec *s, struct err *e) MUST_CHECK;
/* The child's ends are the caller's. -errno. */
int life_open_console(struct life *l, int *theirs) MUST_CHECK;
int life_open_stderr(struct life *l, int *theirs) MUST_CHECK;
/* stream and err: the helper's ends, borrowed. */
int life_start_net(struct life *l, const char *helper_dir, const struct net_policy *policy,
                   int stream, int err, struct err *e) MUST_CHECK;
/* The machine is LIVE and watched, with the engine's own watches; vmm must run. */
int life_start(struct life *l, struct watch *const *own, size_t n, struct err *e) MUST_CHECK;
/* From now on on_exit is called. -EPIPE when it has ended already. */
int life_hand_out(struct life *l, struct err *e) MUST_CHECK;

bool life_alive(const struct life *l);
/* -EPIPE (-ENOSPC after LIFE_NO_SPACE) with what is known about its end. */
int life_gone(struct life *l, struct err *e);
/* Waits under l->lock until *flag, the end of the monitor or the time: 0, -EPIPE, -ETIMEDOUT. */
int life_wait_flag(struct life *l, const bool *flag, int timeout_ms) MUST_CHECK;
/* Waits for the end of all its processes; -ETIMEDOUT. */
int life_wait_end(struct life *l, int timeout_ms) MUST_CHECK;
void life_expect_end(struct life *l);
/* Kills the monitor for a reason; the first reason counts. Any thread. */
void life_end(struct life *l, const char *why);
/* Kills all and returns when they are gone. Any thread but the reaper's, any time. */
void life_kill(struct life *l);

/* Kills if needed, also what never got as far as life_start(); afterwards the reaper has let go of
 * it. */
void life_stop(struct life *l);
void life_done(struct life *l); /* after life_stop(); frees what it owns */

/* Reaper thread: takes what has been printed so far. */
void life_drain(struct life *l);
/* Reaper thread: removes and closes. */
void life_unwatch(struct life *l, struct watch *w);

#endif
