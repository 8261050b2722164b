/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Callbacks run with "busy" set; parking waits until it is clear and keeps the
 * loop from setting it. A loop that sleeps in the kernel is parked at once, without a wake-up: it
 * stops before the first callback of what it brings back.
 *
 * Events are fetched in batches, so one may be in hand for a source that is being removed. Every
 * removal starts a new generation, and what was fetched in an older one is dropped unseen: sources
 * are level-triggered, so what still holds is reported again.
 */
#include "vmm/ev.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 16

struct ev_loop {
    int epoll;
    int wake; /* readable from ev_stop() on */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of the fields below */
    bool stopped, parked, busy;
    uint64_t generation;
};

int ev_new(struct ev_loop **ret, struct err *e)
{
    struct ev_loop *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ENOMEM, "out of memory");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event wake = {.events = EPOLLIN};
    if (l->epoll < 0 || l->wake < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &wake) < 0) {
        int r = err_set_errno(e, errno, "device loop");
        ev_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

void ev_free(struct ev_loop *l)
{
    if (!l)
        return;
    cleanup_close(&l->epoll);
    cleanup_close(&l->wake);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int ev_add(struct ev_loop *l, struct ev_source *s, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &ev) < 0 ? -errno : 0;
}

void ev_modify(struct ev_loop *l, struct ev_source *s, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};
    int r = epoll_ctl(l->epoll, EPOLL_CTL_MOD, s->fd, &ev);
    assert(r == 0); /* it was added */
    (void)r;
}

void ev_remove(struct ev_loop *l, struct ev_source *s)
{
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL); /* fails only when it is not there */
    pthread_mutex_lock(&l->lock);
    l->generation++;
    pthread_mutex_unlock(&l->lock);
}

/* Waits while parked; false when the batch of that generation must not be dispatched further. */
static bool begin_callback(struct ev_loop *l, uint64_t generation)
{
    pthread_mutex_lock(&l->lock);
    while (l->parked && !l->stopped)
        pthread_cond_wait(&l->changed, &l->lock);
    bool go = !l->stopped && l->generation == generation;
    l->busy = go;
    pthread_mutex_unlock(&l->lock);
    return go;
}

static void end_callback(struct ev_loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->busy = false;
    if (l->parked)
        pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

int ev_turn(struct ev_loop *l, int timeout_ms)
{
    struct epoll_event batch[BATCH];
    pthread_mutex_lock(&l->lock);
    uint64_t generation = l->generation;
    bool stopped = l->stopped;
    pthread_mutex_unlock(&l->lock);
    if (stopped)
        return -ECANCELED;
    int n = epoll_wait(l->epoll, batch, BATCH, timeout_ms);
    assert(n >= 0 || errno == EINTR);
    int called = 0;
    for (int i = 0; i < n; i++) {
        struct ev_source *s = batch[i].data.ptr;
        if (!s)
            continue; /* stopped: begin_callback() sees it too */
        if (!begin_callback(l, generation))
            break;
        s->ready(s, batch[i].events);
        end_callback(l);
        called++;
    }
    return called;
}

void ev_run(struct ev_loop *l)
{
    while (ev_turn(l, -1) >= 0)
        ;
}

static void set(struct ev_loop *l, bool *flag, bool value)
{
    pthread_mutex_lock(&l->lock);
    *flag = value;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

void ev_stop(struct ev_loop *l)
{
    set(l, &l->stopped, true);
    uint64_t one = 1;
    (void)!write(l->wake, &one, sizeof one); /* fails only when it is readable already */
}

void ev_park(struct ev_loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->parked = true;
    while (l->busy)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void ev_unpark(struct ev_loop *l)
{
    set(l, &l->parked, false);
}
