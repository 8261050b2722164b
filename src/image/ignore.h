/* SPDX-License-Identifier: Apache-2.0 */
/*
 * .dockerignore (docs/design/dockerfile.md). Rules are tried in order and the last one that
 * decides wins; a rule that matches a directory covers what is below it, and a later "!" rule
 * takes single entries out again. Pure; a parsed set is immutable, any thread.
 */
#ifndef IMAGE_IGNORE_H
#define IMAGE_IGNORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define IGNORE_MAX_BYTES (256 * 1024)
#define IGNORE_MAX_RULES 2000

struct ignore;

/* -EINVAL (".dockerignore:<line>: ..."), -EMSGSIZE. */
int ignore_parse(const char *p, size_t n, struct ignore **ret, struct err *e) MUST_CHECK;
void ignore_free(struct ignore *g); /* NULL is fine */

/* path is relative and clean. *work grows by the matcher's steps; callers bound their sum. */
bool ignore_match(const struct ignore *g, const char *path, uint64_t *work);

/*
 * The same for a whole tree, without trying every directory above a path again: sets of rules as
 * ignore_set_words() words. above: the rules that cover the parent directory (NULL at the top).
 * own: receives the rules that cover path (NULL when it is no directory).
 */
size_t ignore_set_words(const struct ignore *g);
bool ignore_match_below(const struct ignore *g, const char *path, const uint64_t *above,
                        uint64_t *own, uint64_t *work);

#endif
