/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kvm/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

/* Refilling waits a little: it would compete with the machine that has just been started, whose
 * first answer takes several times what a monitor takes to start. After a failure it waits longer.
 */
enum { REFILL_DELAY_MS = 50, REFILL_DELAY_MAX_MS = 1000, STARTS = 20, RETRY_DELAY_MS = 10000 };

struct vmm_pool {
    struct vmm_program program;
    unsigned size;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool wanted; /* shape is one that was asked for */
    bool closing;
    struct vmm_shape shape;
    struct vmm_process idle[VMM_POOL_MAX]; /* all of shape */
    unsigned n_idle;
    struct vmm_process stale[VMM_POOL_MAX]; /* of another shape, or dead: the thread reaps them */
    unsigned n_stale;
    int64_t due_ms; /* when to refill: */
    int delay_ms;   /* after a machine was taken; STARTS times what a start took, within bounds */
};

static void sleep_unless_closing(struct vmm_pool *p, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)ms * 1000000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    int r = 0;
    while (!p->closing && r == 0)
        r = pthread_cond_timedwait(&p->changed, &p->lock, &until);
}

/* Lock held on entry and return, not while the process is started. False: try again later. */
static bool add_one(struct vmm_pool *p)
{
    struct vmm_shape shape = p->shape;
    struct vmm_process made;
    struct err e = {0};
    pthread_mutex_unlock(&p->lock);
    int64_t start = clock_mono_ms();
    int r = vmm_process_spawn(&p->program, &made, &e);
    if (r == 0 && (r = vmm_process_create(&made, &shape, &e)) < 0)
        vmm_process_kill(&made);
    if (r < 0)
        log_warn("engine", "no monitor can be started ahead: %s", e.text);
    int64_t delay = STARTS * (clock_mono_ms() - start);
    pthread_mutex_lock(&p->lock);
    p->delay_ms = delay < REFILL_DELAY_MS       ? REFILL_DELAY_MS
                  : delay > REFILL_DELAY_MAX_MS ? REFILL_DELAY_MAX_MS
                                                : (int)delay;
    if (r == 0 && !p->closing && vmm_shape_same(&shape, &p->shape) && p->n_idle < p->size)
        p->idle[p->n_idle++] = made;
    else if (r == 0)
        vmm_process_kill(&made);
    return r == 0;
}

/* Lock held on entry and return. */
static void kill_stale(struct vmm_pool *p)
{
    while (p->n_stale) {
        struct vmm_process one = p->stale[--p->n_stale];
        pthread_mutex_unlock(&p->lock);
        vmm_process_kill(&one);
        pthread_mutex_lock(&p->lock);
    }
}

static void *fill_main(void *arg)
{
    struct vmm_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        kill_stale(p);
        if (!p->wanted || p->n_idle >= p->size) {
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        int64_t left = p->due_ms - clock_mono_ms();
        if (left > 0)
            sleep_unless_closing(p, (int)left);
        else if (!add_one(p))
            sleep_unless_closing(p, RETRY_DELAY_MS);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int start_thread(struct vmm_pool *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&p->thread, NULL, fill_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

static void init_sync(struct vmm_pool *p)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&p->lock, NULL);
}

int vmm_pool_new(const struct vmm_program *program, unsigned size, struct vmm_pool **ret,
                 struct err *e)
{
    struct vmm_pool *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ENOMEM, "out of memory");
    p->program = *program;
    p->delay_ms = REFILL_DELAY_MS;
    p->size = size < VMM_POOL_MAX ? size : VMM_POOL_MAX;
    init_sync(p);
    int r = p->size ? start_thread(p) : 0;
    if (r < 0) {
        free(p);
        return err_set_errno(e, -r, "pool thread");
    }
    *ret = p;
    return 0;
}

void vmm_pool_free(struct vmm_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (p->size)
        pthread_join(p->thread, NULL);
    for (unsigned i = 0; i < p->n_idle; i++)
        vmm_process_kill(&p->idle[i]);
    for (unsigned i = 0; i < p->n_stale; i++)
        vmm_process_kill(&p->stale[i]);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    free(p);
}

bool vmm_pool_take(struct vmm_pool *p, const struct vmm_shape *s, struct vmm_process *ret)
{
    bool found = false;
    vmm_process_init(ret);
    pthread_mutex_lock(&p->lock);
    bool fits = p->wanted && vmm_shape_same(&p->shape, s);
    while (p->n_idle && !found) {
        struct vmm_process one = p->idle[--p->n_idle];
        found = fits && vmm_process_alive(&one);
        if (found)
            *ret = one;
        else if (p->n_stale < VMM_POOL_MAX)
            p->stale[p->n_stale++] = one;
        else
            vmm_process_kill(&one);
    }
    p->shape = *s;
    p->wanted = true;
    int64_t now = clock_mono_ms();
    if (p->due_ms <= now) /* not put off again by each of many */
        p->due_ms = now + p->delay_ms;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return found;
}

unsigned vmm_pool_idle(struct vmm_pool *p)
{
    pthread_mutex_lock(&p->lock);
    unsigned n = p->n_idle;
    pthread_mutex_unlock(&p->lock);
    return n;
}
