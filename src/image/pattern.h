/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wildcards over paths, compiled to a list of tokens and run as a set of states: time is bounded
 * by tokens times characters, whatever the pattern. Pure; a compiled pattern is immutable.
 *
 * Two dialects. PATTERN_COPY, for COPY and ADD sources: '*' any run of characters but '/', '?' one
 * but '/', [class] with '^' and ranges, '\' takes the next one literally (Go's filepath.Match).
 * PATTERN_IGNORE, for .dockerignore: the same, and a double star crosses '/'.
 */
#ifndef IMAGE_PATTERN_H
#define IMAGE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PATTERN_MAX 1024 /* bytes of a pattern */

enum pattern_dialect { PATTERN_COPY, PATTERN_IGNORE };

struct pattern;

/* -EINVAL for a malformed class or a trailing escape, -EMSGSIZE. The text names no file. */
int pattern_compile(const char *s, size_t n, enum pattern_dialect dialect, struct pattern **ret,
                    struct err *e) MUST_CHECK;
void pattern_free(struct pattern *p); /* NULL is fine */

/* The whole of s has to match. *work (may be NULL) grows by the number of steps taken. */
bool pattern_match(const struct pattern *p, const char *s, size_t n, uint64_t *work);

/* Whether s has any character that pattern_compile() does not take literally. */
bool pattern_has_magic(const char *s);

#endif
