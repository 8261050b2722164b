/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/ev.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

struct ev {
    int ep;
    struct ev_io sig;
    struct ev_timer *timers; /* armed, in no order: there are a handful */
    struct ev_child *children;
    struct ev_hook *hooks;
    bool stop;
};

static void on_child_signal(struct ev_io *io, uint32_t events);

int ev_new(struct ev **ret, struct err *e)
{
    struct ev *ev = calloc(1, sizeof *ev);
    if (!ev)
        return err_set(e, ENOMEM, "out of memory");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    ev->sig =
        (struct ev_io){.fn = on_child_signal, .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
    ev->ep = epoll_create1(EPOLL_CLOEXEC);
    int r = ev->ep < 0 || ev->sig.fd < 0 ? -errno : ev_io_set(ev, &ev->sig, EPOLLIN);
    if (r < 0) {
        ev_free(ev);
        return err_set_errno(e, -r, "cannot set up the event loop");
    }
    *ret = ev;
    return 0;
}

void ev_free(struct ev *ev)
{
    if (!ev)
        return;
    if (ev->ep >= 0)
        close(ev->ep);
    if (ev->sig.fd >= 0)
        close(ev->sig.fd);
    free(ev);
}

int ev_io_set(struct ev *ev, struct ev_io *io, uint32_t events)
{
    if (events == io->events)
        return 0;
    int op = !io->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    struct epoll_event e = {.events = events, .data.ptr = io};
    if (epoll_ctl(ev->ep, op, io->fd, &e) < 0)
        return -errno;
    io->events = events;
    return 0;
}

void ev_io_close(struct ev *ev, struct ev_io *io)
{
    if (io->fd < 0)
        return;
    (void)ev_io_set(ev, io, 0); /* closing drops it from epoll anyway */
    io->events = 0;
    close(io->fd);
    io->fd = -1;
}

void ev_timer_stop(struct ev *ev, struct ev_timer *t)
{
    if (!t->armed)
        return;
    struct ev_timer **p = &ev->timers;
    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    t->armed = false;
}

void ev_timer_set(struct ev *ev, struct ev_timer *t, int64_t after_ms)
{
    ev_timer_stop(ev, t);
    t->due_ms = clock_mono_ms() + after_ms;
    t->armed = true;
    t->next = ev->timers;
    ev->timers = t;
}

void ev_child_watch(struct ev *ev, struct ev_child *c, pid_t pid)
{
    c->pid = pid;
    c->next = ev->children;
    ev->children = c;
}

void ev_child_forget(struct ev *ev, struct ev_child *c)
{
    if (!c->pid)
        return;
    struct ev_child **p = &ev->children;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    c->pid = 0;
}

void ev_hook_add(struct ev *ev, struct ev_hook *h)
{
    h->next = ev->hooks;
    ev->hooks = h;
}

static void child_ended(struct ev *ev, pid_t pid, int status)
{
    for (struct ev_child *c = ev->children; c; c = c->next)
        if (c->pid == pid) {
            ev_child_forget(ev, c);
            c->fn(c, status);
            return;
        }
}

static void on_child_signal(struct ev_io *io, uint32_t events UNUSED)
{
    struct ev *ev = CONTAINER_OF(io, struct ev, sig);
    struct signalfd_siginfo si;
    while (read(io->fd, &si, sizeof si) > 0)
        ;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        child_ended(ev, pid, status);
}

/* Runs what is due; returns the time to the next one, -1 for none. */
static int run_timers(struct ev *ev)
{
    for (;;) {
        int64_t now = clock_mono_ms();
        struct ev_timer *first = NULL;
        for (struct ev_timer *t = ev->timers; t; t = t->next)
            if (!first || t->due_ms < first->due_ms)
                first = t;
        if (!first)
            return -1;
        if (first->due_ms > now)
            return (int)(first->due_ms - now < 60000 ? first->due_ms - now : 60000);
        ev_timer_stop(ev, first);
        first->fn(first);
    }
}

void ev_run(struct ev *ev)
{
    while (!ev->stop) {
        int wait = run_timers(ev);
        for (struct ev_hook *h = ev->hooks; h; h = h->next)
            h->fn(h);
        if (ev->stop)
            break;
        struct epoll_event e;
        int n = epoll_wait(ev->ep, &e, 1, wait);
        if (n < 0 && errno != EINTR)
            log_error("agent", "epoll_wait failed: errno %d", errno);
        if (n == 1) {
            struct ev_io *io = e.data.ptr;
            io->fn(io, e.events);
        }
    }
}

void ev_stop(struct ev *ev)
{
    ev->stop = true;
}
