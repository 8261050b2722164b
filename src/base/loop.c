/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct post {
    struct post *next;
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_async_t wake;
    pthread_mutex_t lock;      /* guards head, tail */
    struct post *head, **tail; /* owned posts, oldest first */
    atomic_ulong thread;       /* pthread_t of loop_run(), 0 before it */
    atomic_bool stopping;
};

/* Only posts queued before the call run: one that posts itself again cannot starve the sockets. */
static void on_wake(uv_async_t *handle)
{
    struct loop *l = handle->data;
    pthread_mutex_lock(&l->lock);
    struct post *list = l->head;
    l->head = NULL;
    l->tail = &l->head;
    pthread_mutex_unlock(&l->lock);
    while (list) {
        struct post *p = list;
        list = p->next;
        p->fn(p->arg);
        free(p);
    }
    if (!atomic_load(&l->stopping))
        return;
    pthread_mutex_lock(&l->lock);
    bool more = l->head != NULL; /* posted before the stop, while the list above ran */
    pthread_mutex_unlock(&l->lock);
    if (more)
        uv_async_send(&l->wake);
    else
        uv_stop(&l->uv);
}

int loop_new(struct loop **ret, struct err *e)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ENOMEM, "out of memory");
    int r = uv_loop_init(&l->uv);
    if (r < 0) {
        free(l);
        return err_set(e, -r, "event loop: %s", uv_strerror(r));
    }
    r = uv_async_init(&l->uv, &l->wake, on_wake);
    if (r < 0) {
        uv_loop_close(&l->uv);
        free(l);
        return err_set(e, -r, "event loop: %s", uv_strerror(r));
    }
    l->wake.data = l;
    l->tail = &l->head;
    pthread_mutex_init(&l->lock, NULL);
    *ret = l;
    return 0;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    uv_loop_close(&l->uv);
    while (l->head) {
        struct post *p = l->head;
        l->head = p->next;
        free(p);
    }
    pthread_mutex_destroy(&l->lock);
    free(l);
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

void loop_run(struct loop *l)
{
    atomic_store(&l->thread, (unsigned long)pthread_self());
    uv_run(&l->uv, UV_RUN_DEFAULT);
    atomic_store(&l->thread, 0);
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stopping, true);
    uv_async_send(&l->wake);
}

bool loop_is_current(const struct loop *l)
{
    return atomic_load(&l->thread) == (unsigned long)pthread_self();
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = malloc(sizeof *p);
    if (!p)
        abort(); /* a lost hand-over would hang its waiter for ever */
    *p = (struct post){.fn = fn, .arg = arg};
    pthread_mutex_lock(&l->lock);
    *l->tail = p;
    l->tail = &p->next;
    pthread_mutex_unlock(&l->lock);
    uv_async_send(&l->wake);
}

struct call {
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done;
};

static void run_call(void *arg)
{
    struct call *c = arg;
    c->fn(c->arg);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->done_cond);
    pthread_mutex_unlock(&c->lock);
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct call c = {.fn = fn, .arg = arg};
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.done_cond, NULL);
    loop_post(l, run_call, &c);
    pthread_mutex_lock(&c.lock);
    while (!c.done)
        pthread_cond_wait(&c.done_cond, &c.lock);
    pthread_mutex_unlock(&c.lock);
    pthread_cond_destroy(&c.done_cond);
    pthread_mutex_destroy(&c.lock);
}
