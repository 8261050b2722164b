/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The application's recent output: a ring of bounded size between pipes that must never block the
 * application and a host that may not be there. Reading takes bytes out; when it is full the
 * oldest go, and are counted. Single owner.
 */
#ifndef GUEST_LOGRING_H
#define GUEST_LOGRING_H

#include <stddef.h>
#include <stdint.h>

#define LOGRING_SIZE (1024 * 1024)
#define LOGRING_CHUNK 4096 /* largest piece one record holds */

struct logring {
    unsigned char data[LOGRING_SIZE];
    size_t head, used; /* oldest byte, bytes held (records with headers) */
    uint64_t dropped;  /* payload bytes lost since logring_dropped() */
};

void logring_put(struct logring *r, int fd, const char *p, size_t n);
/* Takes the oldest record: its fd and up to LOGRING_CHUNK bytes into out. 0 when empty. */
size_t logring_take(struct logring *r, int *fd, char out[LOGRING_CHUNK]);
uint64_t logring_dropped(struct logring *r); /* and resets the count */

#endif
