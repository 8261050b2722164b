/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable byte buffer with a ceiling, and the borrowed byte range used for wire data.
 * Single owner; not thread-safe. The data is always followed by a NUL that len does not count.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct slice {
    const char *p; /* borrowed, not NUL-terminated */
    size_t n;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
struct slice slice_from(const char *s); /* NULL gives the empty slice */
bool slice_eq(struct slice s, const char *text);
bool slice_eq_nocase(struct slice s, const char *text);

struct buf {
    char *data; /* owned */
    size_t len, cap;
    size_t max; /* adding past this fails with -EMSGSIZE; 0 = no ceiling but memory */
};

#define BUF_INIT(ceiling) ((struct buf){.max = (ceiling)})

void buf_done(struct buf *b);
int buf_reserve(struct buf *b, size_t extra) MUST_CHECK; /* 0, -ENOMEM, -EMSGSIZE */
int buf_add(struct buf *b, const void *p, size_t n) MUST_CHECK;
int buf_adds(struct buf *b, const char *s) MUST_CHECK;
int buf_addf(struct buf *b, const char *fmt, ...) PRINTF(2, 3) MUST_CHECK;
void buf_consume(struct buf *b, size_t n); /* drops the first n bytes */
void buf_clear(struct buf *b);
char *buf_take(struct buf *b); /* the NUL-terminated data, owned by the caller; never NULL */

#endif
