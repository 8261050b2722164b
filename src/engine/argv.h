/* SPDX-License-Identifier: Apache-2.0 */
/* An argument vector under construction. Out of memory is remembered and reported once, at the end.
 * Single owner. */
#ifndef ENGINE_ARGV_H
#define ENGINE_ARGV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/macros.h"

struct argv {
    char **v; /* owned, NULL-terminated once argv_end() succeeded */
    size_t n, cap;
    bool failed;
};

void argv_add(struct argv *a, const char *s);
void argv_addf(struct argv *a, const char *fmt, ...) PRINTF(2, 3);
/* The finished vector, borrowed; NULL and *e when memory ran out. */
const char *const *argv_end(struct argv *a, struct err *e) MUST_CHECK;
void argv_done(struct argv *a);

#endif
