/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory file in compressed chunks (docs/design/monitor-snapshot.md), for snapshots whose memory
 * is not local or takes too much room: header, table, one zstd frame (RFC 8878) per chunk that is
 * not zero. The reader treats all of it as hostile. Blocking; one thread per reader.
 */
#ifndef VMM_SNAPSHOT_CHUNKS_H
#define VMM_SNAPSHOT_CHUNKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CHUNK_BYTES (64u << 10)

struct chunks;

/* Compresses a memory file (a multiple of CHUNK_BYTES long) into out, an empty file. */
int chunks_pack(int memory, int out, int level, struct err *e) MUST_CHECK;

/* fd is owned, also on failure. -EBADMSG: damaged, or not of ram_bytes. */
int chunks_open(int fd, uint64_t ram_bytes, struct chunks **ret, struct err *e) MUST_CHECK;
void chunks_close(struct chunks *c); /* NULL is fine */
uint64_t chunks_count(const struct chunks *c);
bool chunks_is_zero(const struct chunks *c, uint64_t i);
/* The contents of chunk i, CHUNK_BYTES at *ret until the next call. Allocates nothing. -EBADMSG. */
int chunks_read(struct chunks *c, uint64_t i, const void **ret, struct err *e) MUST_CHECK;

#endif
