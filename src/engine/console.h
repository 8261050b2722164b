/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine's serial console and its processes' stderr say: the last bytes in memory, the
 * console also in "console.log", capped at two files of half a mebibyte. A hostile guest writes it.
 * Single thread at a time (the reaper's).
 */
#ifndef ENGINE_CONSOLE_H
#define ENGINE_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

enum { TAIL_BYTES = 4096 };

struct tail { /* the last bytes of a stream; NUL-terminated, no other NUL in it */
    char text[TAIL_BYTES];
    size_t n;
};

void tail_add(struct tail *t, const char *p, size_t n);
void tail_last_line(const struct tail *t, char *out, size_t cap);

struct console_log {
    int dir_fd; /* borrowed: the machine's directory */
    int file;   /* owned; -1 = closed or not writable */
    size_t bytes;
    struct tail tail;
};

/* Appends to what an earlier life of the directory left. 0 or -errno. */
int console_log_open(struct console_log *c, int dir_fd) MUST_CHECK;
void console_log_add(struct console_log *c, const char *p, size_t n);
void console_log_close(struct console_log *c);
/* The last "Kernel panic..." line; false when there is none. */
bool console_log_panic(const struct console_log *c, char *out, size_t cap);

#endif
