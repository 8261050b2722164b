/* SPDX-License-Identifier: Apache-2.0 */
/* TCP ports somebody listens on in this network namespace. */
#ifndef GUEST_LISTENERS_H
#define GUEST_LISTENERS_H

#include <stddef.h>
#include <stdint.h>

#define LISTENERS_MAX 64

/* Adds the ports of the listening sockets in the text of /proc/net/tcp or tcp6 to list[0..n),
 * without repeats; returns the new n. Pure. */
size_t listeners_parse(const char *text, uint16_t list[LISTENERS_MAX], size_t n);
size_t listeners_find(uint16_t list[LISTENERS_MAX]);

#endif
