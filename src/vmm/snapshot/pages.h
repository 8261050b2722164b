/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages file of a saved machine (docs/design/monitor-snapshot.md): the pages in which RAM
 * differs from the memory file it is a private mapping of, in runs, each at its own offset of a
 * sparse file as large as RAM plus an index at the end, so that it can be mapped back over RAM.
 *
 * Which pages differ comes from /proc/self/pagemap (anonymous pages of a private mapping) and from
 * what was mapped in by an earlier restore. Nothing is tracked while the machine runs: writing
 * costs nothing.
 */
#ifndef VMM_SNAPSHOT_PAGES_H
#define VMM_SNAPSHOT_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/gmem.h"

struct pages_map {  /* a bit per page: comes from a pages file, so it differs though it is not
                       anonymous */
    uint64_t *bits; /* owned; NULL = none */
    uint64_t pages;
};
void pages_map_done(struct pages_map *m);

struct pages_result {
    uint64_t bytes; /* of the file, allocated */
    uint64_t pages;
};

/* The machine is paused, or this is its forked copy. pagemap: /proc/self/pagemap of the process
 * whose RAM it is. all: every page that is not zero. Uses no heap. */
int pages_save(const struct gmem *m, const struct pages_map *mapped, int pagemap, bool all, int fd,
               struct pages_result *ret, struct err *e) MUST_CHECK;
/* Long runs are mapped, short ones copied. The file's index is hostile. -EBADMSG. */
int pages_load(struct gmem *m, int fd, struct pages_map *mapped, struct err *e) MUST_CHECK;

#endif
