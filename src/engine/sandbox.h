/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bubblewrap command line around one process. Inside there is /usr, /dev/null and exactly the
 * files named with sandbox_bind(); own user, pid, ipc and uts namespaces, no capability, and an
 * empty network namespace unless network was asked for. The sandbox dies with its parent.
 * Pure: builds an argument vector, starts nothing.
 */
#ifndef ENGINE_SANDBOX_H
#define ENGINE_SANDBOX_H

#include <stdbool.h>

#include "engine/argv.h"

struct sandbox {
    bool network; /* keep the host's network namespace */
    int info_fd;  /* gets {"child-pid": N}; -1 = none */
};

/* Appends "bwrap ..." up to but without the final "--". */
void sandbox_begin(struct argv *a, const struct sandbox *s);
void sandbox_bind(struct argv *a, const char *host, const char *inside, bool writable);
/* A shared object, read from fd, that is loaded before the program's own libraries. */
void sandbox_preload(struct argv *a, int fd, const char *inside);
void sandbox_end(struct argv *a); /* "--"; the program follows */

#endif
