/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's event loop: epoll, timers, children, and hooks that run before it blocks. One thread.
 * Structures are the caller's and must stay in place while armed. A callback may disarm or free
 * anything, itself included: one event is taken from the kernel at a time.
 */
#ifndef GUEST_EV_H
#define GUEST_EV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "base/err.h"

struct ev;

struct ev_io {
    void (*fn)(struct ev_io *io, uint32_t events);
    int fd;
    uint32_t events; /* what it is armed for; 0 = not armed */
};

struct ev_timer {
    void (*fn)(struct ev_timer *t);
    int64_t due_ms;
    bool armed;
    struct ev_timer *next;
};

struct ev_child {
    void (*fn)(struct ev_child *c, int status); /* as from waitpid(2); already unarmed */
    pid_t pid;                                  /* 0 = not armed */
    struct ev_child *next;
};

struct ev_hook {
    void (*fn)(struct ev_hook *h);
    struct ev_hook *next;
};

/* Blocks SIGCHLD and SIGPIPE in this process; every child must unblock them before it execs. */
int ev_new(struct ev **ret, struct err *e) MUST_CHECK;
void ev_free(struct ev *ev);
/* Until ev_stop(). Reaps every child of the process, watched or not. */
void ev_run(struct ev *ev);
void ev_stop(struct ev *ev);

/* Arms io->fd for epoll events (EPOLLET allowed), changes them, or disarms (0). Must be disarmed
 * before the descriptor is closed. */
int ev_io_set(struct ev *ev, struct ev_io *io, uint32_t events);
void ev_timer_set(struct ev *ev, struct ev_timer *t, int64_t after_ms);
void ev_timer_stop(struct ev *ev, struct ev_timer *t);
void ev_child_watch(struct ev *ev, struct ev_child *c, pid_t pid);
void ev_child_forget(struct ev *ev, struct ev_child *c);
void ev_hook_add(struct ev *ev, struct ev_hook *h);
/* Closes a descriptor its io watched, sets it to -1. Nothing happens when it is -1. */
void ev_io_close(struct ev *ev, struct ev_io *io);

#endif
