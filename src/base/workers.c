/* SPDX-License-Identifier: Apache-2.0 */
#include "base/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
    struct job *next;
    void (*fn)(void *arg);
    void *arg;
};

struct workers {
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t more, changed;
    struct job *head, **tail;
    unsigned n_queued, max_queued;
    unsigned n_threads, n_idle, max_threads;
    bool closing;
    char name[16];
};

static void *worker_main(void *arg)
{
    struct workers *w = arg;
    pthread_setname_np(pthread_self(), w->name);
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->head && !w->closing) {
            w->n_idle++;
            pthread_cond_wait(&w->more, &w->lock);
            w->n_idle--;
        }
        struct job *j = w->head;
        if (!j)
            break;
        w->head = j->next;
        if (!w->head)
            w->tail = &w->head;
        w->n_queued--;
        pthread_mutex_unlock(&w->lock);
        j->fn(j->arg);
        free(j);
        pthread_mutex_lock(&w->lock);
    }
    w->n_threads--;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int workers_new(const char *name, unsigned max_threads, unsigned max_queued, struct workers **ret,
                struct err *e)
{
    struct workers *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ENOMEM, "out of memory");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->tail = &w->head;
    w->max_threads = max_threads;
    w->max_queued = max_queued;
    snprintf(w->name, sizeof w->name, "%s", name);
    *ret = w;
    return 0;
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->more);
    while (w->n_threads)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&w->more);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void start_thread(struct workers *w)
{
    pthread_t t;
    if (pthread_create(&t, NULL, worker_main, w) != 0)
        return; /* the threads that exist will get to it */
    pthread_detach(t);
    w->n_threads++;
}

int workers_submit(struct workers *w, void (*fn)(void *arg), void *arg)
{
    struct job *j = malloc(sizeof *j);
    if (!j)
        return -ENOMEM;
    *j = (struct job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&w->lock);
    if (w->closing || w->n_queued >= w->max_queued) {
        pthread_mutex_unlock(&w->lock);
        free(j);
        return -EAGAIN;
    }
    if (w->n_idle <= w->n_queued && w->n_threads < w->max_threads)
        start_thread(w);
    if (!w->n_threads) {
        pthread_mutex_unlock(&w->lock);
        free(j);
        return -EAGAIN;
    }
    *w->tail = j;
    w->tail = &j->next;
    w->n_queued++;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    return 0;
}
