/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that lives and dies with one object (a parsed Dockerfile, a plan, a context). Single
 * owner; not thread-safe. Every caller bounds the sizes it asks for before it asks, and checks
 * arena_used() where input decides how often; a refusal by malloc itself aborts.
 */
#ifndef IMAGE_ARENA_H
#define IMAGE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a); /* NULL is fine */
size_t arena_used(const struct arena *a);

void *arena_alloc(struct arena *a, size_t n); /* zeroed, aligned for any type */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF(2, 3);

/* A list of borrowed strings; the array itself lives in the arena. */
struct strlist {
    const char **v;
    size_t n, cap;
};

void strlist_add(struct arena *a, struct strlist *l, const char *s);

/* Room for one more element of an array kept in the arena: returns the (moved) array. */
void *arena_grow(struct arena *a, void *v, size_t n, size_t *cap, size_t size);

#endif
