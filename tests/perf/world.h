/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network beside the host's own, for guests to talk to: a policy never lets a guest reach its
 * host. Another network namespace at WORLD_ADDRESS with a server on WORLD_PORT; a connection says
 * by its first byte what it wants: 'i' = all bytes are taken until the end, then one comes back,
 * 'o' = WORLD_BYTES are sent. Needs root and ip(8). The server dies with its parent.
 */
#ifndef TESTS_PERF_WORLD_H
#define TESTS_PERF_WORLD_H

#include <stdbool.h>

#define WORLD_ADDRESS "198.51.100.2"
#define WORLD_PORT 8080
#define WORLD_BYTES 8000000

/* To be called before there are threads. False: not possible here. */
bool world_make(void);
void world_end(void);

#endif
