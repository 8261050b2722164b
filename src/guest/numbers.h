/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in the kernel's text files. Pure. */
#ifndef GUEST_NUMBERS_H
#define GUEST_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

/* The unsigned decimal number after the first key in text; missing when there is none. */
uint64_t number_after(const char *text, const char *key, uint64_t missing);

/* One socket of /proc/net/tcp or tcp6. */
struct tcp_line {
    unsigned local_port, state;
    char remote[33]; /* hex as printed: 8 or 32 digits */
};

/* Takes the next line of such a table and moves *text on. 1, 0 at the end; lines that are no
 * sockets are skipped. */
int tcp_line_next(const char **text, struct tcp_line *ret);

#endif
