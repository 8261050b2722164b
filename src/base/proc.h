/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes without a shell. Every child dies with us: PR_SET_PDEATHSIG is tied to the
 * *thread* that forked, so all forks happen on one spawner thread that lives as long as the
 * process. Any thread may call; calls block.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define PROC_FDS_MAX 16

struct proc_fd {
    int parent; /* descriptor in this process, borrowed */
    int child;  /* number it gets in the child */
};

struct proc_spec {
    const char *const *argv;          /* argv[0] is looked up in PATH unless it has a slash */
    const char *const *env;           /* NULL = inherit */
    const char *cwd;                  /* NULL = inherit */
    struct proc_fd fds[PROC_FDS_MAX]; /* 0, 1, 2 not named here are /dev/null */
    size_t n_fds;                     /* every other descriptor is closed in the child */
    bool new_session; /* setsid(); what is left of its process group is killed when it is reaped */
};

struct proc {
    pid_t pid;
    int pidfd; /* owned; readable once the process has ended */
    bool session;
};

/* How a process ended: exactly one of code (0..255) and signal (>0) is meaningful. */
struct proc_exit {
    int code;
    int signal;
};

int proc_spawn(const struct proc_spec *s, struct proc *ret, struct err *e) MUST_CHECK;
/* Waits up to timeout_ms (-1 = for ever). 0 and *ret filled (the child is reaped, pidfd closed),
 * or -ETIMEDOUT. */
int proc_wait(struct proc *p, int timeout_ms, struct proc_exit *ret) MUST_CHECK;
void proc_signal(const struct proc *p, int signo); /* through the pidfd: never hits another pid */
/* SIGKILL and reap. A proc with pidfd < 0 is ignored. */
void proc_kill(struct proc *p);

/*
 * Runs to the end and collects stdout (and stderr into the error text). input may be NULL.
 * A non-zero exit is -EIO with the last lines of stderr; a timeout kills the child: -ETIMEDOUT.
 */
int proc_run(const char *const *argv, const char *input, int timeout_ms, struct buf *out,
             struct err *e) MUST_CHECK;

#endif
