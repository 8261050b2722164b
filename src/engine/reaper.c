/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fs.h"

struct reaper {
    int epoll, wake;
    pthread_t thread;
};

static void *reaper_main(void *arg)
{
    struct reaper *r = arg;
    for (;;) {
        /* One event at a time: a callback may free what a second one would point to. */
        struct epoll_event ev;
        int n = epoll_wait(r->epoll, &ev, 1, -1);
        if (n != 1)
            continue;
        struct watch *w = ev.data.ptr;
        if (!w)
            return NULL;
        w->ready(w);
    }
}

static int start_thread(struct reaper *r)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int k = pthread_create(&r->thread, NULL, reaper_main, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -k;
}

int reaper_new(struct reaper **ret, struct err *e)
{
    struct reaper *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, ENOMEM, "out of memory");
    struct epoll_event ev = {.events = EPOLLIN};
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->wake = eventfd(0, EFD_CLOEXEC);
    int k = r->epoll < 0 || r->wake < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &ev) < 0
                ? -errno
                : start_thread(r);
    if (k < 0) {
        close(r->epoll);
        close(r->wake);
        free(r);
        return err_set_errno(e, -k, "reaper thread");
    }
    *ret = r;
    return 0;
}

void reaper_free(struct reaper *r)
{
    if (!r)
        return;
    uint64_t one = 1;
    if (fs_write_all(r->wake, &one, sizeof one) < 0)
        abort(); /* an eventfd of ours refuses nothing */
    pthread_join(r->thread, NULL);
    close(r->epoll);
    close(r->wake);
    free(r);
}

int reaper_add(struct reaper *r, struct watch *w, struct err *e)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = w};
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, w->fd, &ev) < 0)
        return err_set_errno(e, errno, "watch a descriptor");
    return 0;
}

void reaper_remove(struct reaper *r, struct watch *w)
{
    epoll_ctl(r->epoll, EPOLL_CTL_DEL, w->fd, NULL);
}
