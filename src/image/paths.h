/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as text (no file system is asked). Pure; any thread. */
#ifndef IMAGE_PATHS_H
#define IMAGE_PATHS_H

#include <stddef.h>

#include "base/macros.h"

#define PATHS_MAX 4095

/*
 * The shortest equal path by text alone: no "//", no ".", "x/.." folded, ".." above "/" dropped,
 * no slash at the end but in "/"; "" gives ".". -ENAMETOOLONG when longer than PATHS_MAX.
 */
int paths_clean(const char *s, size_t n, char out[PATHS_MAX + 1]) MUST_CHECK;
/* paths_clean() of path below dir, or of path alone when it is absolute. dir is absolute. */
int paths_resolve(const char *dir, const char *path, char out[PATHS_MAX + 1]) MUST_CHECK;
/* What follows the last slash. */
const char *paths_base(const char *path);

#endif
