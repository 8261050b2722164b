/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors for child processes. All close-on-exec, owned by the caller; 0 (or the descriptor)
 * or -errno. Any thread. */
#ifndef ENGINE_FDS_H
#define ENGINE_FDS_H

#include <stddef.h>

#include "base/macros.h"

/* A pair of connected sockets of a type (SOCK_STREAM, SOCK_SEQPACKET). Ours is non-blocking: the
 * reaper reads it. */
int fds_pair(int type, int *ours, int *theirs) MUST_CHECK;
int fds_nonblocking(int fd) MUST_CHECK;
/* An anonymous file with these contents, at its start. */
int fds_memory(const char *name, const void *p, size_t n) MUST_CHECK;

#endif
