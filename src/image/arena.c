/* SPDX-License-Identifier: Apache-2.0 */
#include "image/arena.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES (16 * 1024)

/* Blocks are chained, newest first; an allocation larger than a quarter of a block gets its own,
 * so that the sanitizer sees overruns of the big ones and the rest of a block is not wasted. */
struct block {
    struct block *next;
    size_t used, cap;
    max_align_t data[];
};

struct arena {
    struct block *blocks;
    size_t used;
};

static void *must(void *p)
{
    if (!p)
        abort(); /* sizes are bounded by the callers: the machine itself is out of memory */
    return p;
}

struct arena *arena_new(void)
{
    return must(calloc(1, sizeof(struct arena)));
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    for (struct block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

static struct block *block_add(struct arena *a, size_t cap)
{
    size_t total;
    if (ckd_add(&total, cap, sizeof(struct block)))
        abort();
    struct block *b = must(calloc(1, total));
    b->cap = cap;
    b->next = a->blocks;
    a->blocks = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    size_t want;
    if (ckd_add(&want, n ? n : 1, _Alignof(max_align_t) - 1))
        abort();
    want &= ~(_Alignof(max_align_t) - 1);
    a->used += want;
    struct block *b = a->blocks;
    if (want > BLOCK_BYTES / 4) {
        struct block *own = block_add(a, want);
        if (b) { /* keep filling the block we had */
            a->blocks = own->next;
            own->next = b->next;
            b->next = own;
        }
        own->used = want;
        return own->data;
    }
    if (!b || b->cap - b->used < want)
        b = block_add(a, BLOCK_BYTES);
    void *p = (char *)b->data + b->used;
    b->used += want;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);
    if (n)
        memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    char *p = arena_alloc(a, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

void *arena_grow(struct arena *a, void *v, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return v;
    size_t want = *cap ? *cap * 2 : 8, bytes;
    if (ckd_mul(&bytes, want, size))
        abort();
    void *p = arena_alloc(a, bytes);
    if (n)
        memcpy(p, v, n * size);
    *cap = want;
    return p;
}

void strlist_add(struct arena *a, struct strlist *l, const char *s)
{
    l->v = arena_grow(a, l->v, l->n, &l->cap, sizeof *l->v);
    l->v[l->n++] = s;
}
