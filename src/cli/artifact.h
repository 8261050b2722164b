/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The artifact of a build: a ZIP of a directory, names sorted by bytes, the same tree giving the
 * same bytes. ".git" at the top is left out; .dockerignore is the build's business. Symbolic links
 * are kept as links; sockets, devices and pipes are refused.
 */
#ifndef CLI_ARTIFACT_H
#define CLI_ARTIFACT_H

#include <stdint.h>

#include "base/err.h"

/* Into a new unnamed file; *ret is its descriptor, owned by the caller. -ENOENT without Dockerfile.
 */
int artifact_pack(const char *dir, int *ret, uint64_t *files, struct err *e) MUST_CHECK;

#endif
