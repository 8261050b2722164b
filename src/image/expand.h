/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Variable expansion of Dockerfile words: $NAME, ${NAME}, ${NAME:-word}, ${NAME-word},
 * ${NAME:+word}, ${NAME+word}, ${NAME:?text}, ${NAME?text}; quotes are removed, variables inside
 * single quotes are left alone, the escape character takes the next one literally. Pure.
 */
#ifndef IMAGE_EXPAND_H
#define IMAGE_EXPAND_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define EXPAND_MAX_DEPTH 16 /* ${A:-${B:-...}} */

struct expand {
    /* The value, or NULL when unset; borrowed until the next call. name is not NUL-terminated. */
    const char *(*get)(const void *arg, struct slice name);
    const void *arg;
    char escape;
    /* A here-document's body: quotes are text, the escape character only works before itself,
     * '$' and '`'. */
    bool heredoc;
};

/* Appends to out, whose ceiling bounds the result. -EINVAL, -EMSGSIZE; texts name no line. */
int expand_word(const struct expand *x, struct slice word, struct buf *out,
                struct err *e) MUST_CHECK;

#endif
