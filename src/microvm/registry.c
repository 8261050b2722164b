/* SPDX-License-Identifier: Apache-2.0 */
/* The VMs in memory, by id and by endpoint label: two search trees under the service's lock. */
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "microvm/internal.h"

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct microvm *)a)->label, ((const struct microvm *)b)->label);
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct microvm *)a)->id, ((const struct microvm *)b)->id);
}

int registry_add(struct microvm_service *s, struct microvm *vm)
{
    int r = 0;
    pthread_mutex_lock(&s->lock);
    if (!tsearch(vm, &s->by_id, by_id)) {
        r = -ENOMEM;
    } else if (!tsearch(vm, &s->by_label, by_label)) {
        tdelete(vm, &s->by_id, by_id);
        r = -ENOMEM;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

void registry_remove(struct microvm_service *s, struct microvm *vm)
{
    pthread_mutex_lock(&s->lock);
    bool known = tdelete(vm, &s->by_id, by_id) != NULL;
    tdelete(vm, &s->by_label, by_label);
    pthread_mutex_unlock(&s->lock);
    if (known)
        microvm_unref(vm);
}

static struct microvm *find(struct microvm_service *s, const struct microvm *key, void *const *tree,
                            int (*order)(const void *, const void *))
{
    pthread_mutex_lock(&s->lock);
    struct microvm **at = tfind(key, tree, order);
    struct microvm *vm = at ? *at : NULL;
    if (vm)
        microvm_ref(vm);
    pthread_mutex_unlock(&s->lock);
    return vm;
}

struct microvm *registry_find_id(struct microvm_service *s, const char *id)
{
    struct microvm key;
    size_t n = strlen(id);
    if (n >= sizeof key.id)
        return NULL;
    memcpy(key.id, id, n + 1);
    return find(s, &key, &s->by_id, by_id);
}

struct microvm *microvm_find(struct microvm_service *s, struct slice label)
{
    struct microvm key;
    if (label.n >= sizeof key.label)
        return NULL;
    memcpy(key.label, label.p, label.n);
    key.label[label.n] = '\0';
    return find(s, &key, &s->by_label, by_label);
}

struct collection {
    struct microvm **list;
    size_t n, cap;
};

static void collect(const void *node, VISIT visit, void *arg)
{
    struct collection *c = arg;
    if (visit != postorder && visit != leaf)
        return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct microvm **list = realloc(c->list, cap * sizeof(struct microvm *));
        if (!list)
            return; /* those left out are visited next time */
        c->list = list;
        c->cap = cap;
    }
    c->list[c->n] = *(struct microvm *const *)node;
    microvm_ref(c->list[c->n++]);
}

void registry_each(struct microvm_service *s, void (*fn)(struct microvm *vm, void *arg), void *arg)
{
    struct collection c = {0};
    pthread_mutex_lock(&s->lock);
    twalk_r(s->by_id, collect, &c);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < c.n; i++) {
        fn(c.list[i], arg);
        microvm_unref(c.list[i]);
    }
    free(c.list);
}
