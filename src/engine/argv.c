/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/argv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void push(struct argv *a, char *owned)
{
    if (!owned) {
        a->failed = true;
        return;
    }
    if (a->n + 1 >= a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 64;
        char **v = reallocarray(a->v, cap, sizeof *v);
        if (!v) {
            a->failed = true;
            free(owned);
            return;
        }
        a->v = v;
        a->cap = cap;
    }
    a->v[a->n++] = owned;
    a->v[a->n] = NULL;
}

void argv_add(struct argv *a, const char *s)
{
    push(a, strdup(s));
}

void argv_addf(struct argv *a, const char *fmt, ...)
{
    va_list ap;
    char *s = NULL;
    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        s = NULL;
    va_end(ap);
    push(a, s);
}

const char *const *argv_end(struct argv *a, struct err *e)
{
    if (a->failed || !a->n) {
        err_set(e, ENOMEM, "out of memory while building a command line");
        return NULL;
    }
    return (const char *const *)a->v;
}

void argv_done(struct argv *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i]);
    free(a->v);
    *a = (struct argv){0};
}
