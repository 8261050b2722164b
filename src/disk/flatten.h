/* SPDX-License-Identifier: Apache-2.0 */
/* A stack of layers becomes one raw file. Blocking; any thread. */
#ifndef DISK_FLATTEN_H
#define DISK_FLATTEN_H

#include "disk/disk.h"

struct flatten_stats {
    uint64_t shared_bytes; /* extents the file system now shares with a layer */
    uint64_t copied_bytes;
};

/* fd: an empty regular file, open for writing. It becomes disk_bytes(d) long; blocks of zeroes stay
 * holes. Not synced. -errno; the file is then of no use. stats may be NULL. */
int disk_flatten(struct disk *d, int fd, struct flatten_stats *stats, struct err *e) MUST_CHECK;

#endif
