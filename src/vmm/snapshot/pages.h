/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages file of a saved machine (docs/design/monitor-snapshot.md): the pages in which RAM
 * differs from the memory file it is a private mapping of, each at its own offset of a sparse file
 * as large as RAM, then an index of runs. So it can be mapped back over RAM, and cut to RAM's size
 * the file of a machine without a base is a memory file itself.
 *
 * Which pages differ comes from /proc/self/pagemap (anonymous pages of a private mapping) and from
 * what an earlier restore mapped in. Nothing is tracked while the machine runs.
 *
 * Threads: the control thread, machine paused. pages_write() also in a forked copy of the process.
 */
#ifndef VMM_SNAPSHOT_PAGES_H
#define VMM_SNAPSHOT_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "vmm/gmem.h"

struct page_set {   /* a bit per page of RAM */
    uint64_t *bits; /* owned; mapped, so that it can be given back at once */
    uint64_t pages;
};

int page_set_init(struct page_set *s, const struct gmem *m, struct err *e) MUST_CHECK;
void page_set_done(struct page_set *s);
bool page_set_has(const struct page_set *s, uint64_t page);
/* All of them pages of RAM. */
void page_set_add(struct page_set *s, uint64_t first, uint64_t n);

enum pages_what {
    PAGES_DIFFERENT, /* anonymous, or in mapped */
    PAGES_TOUCHED,   /* in the page table: read or written since the mapping was made */
    PAGES_ALL,       /* whatever is not known to be zero */
};

/* Adds to *ret. pagemap: /proc/self/pagemap of this process. mapped: pages that came from a pages
 * file (NULL = none). */
int pages_scan(const struct gmem *m, int pagemap, enum pages_what what,
               const struct page_set *mapped, struct page_set *ret, struct err *e) MUST_CHECK;

struct pages_result {
    uint64_t pages, bytes; /* in the set; written (pages of zeroes are holes) */
};
/* Writes the pages of the set and the index into fd, an empty file. Uses no heap. */
int pages_write(const struct gmem *m, const struct page_set *set, int fd, struct pages_result *ret,
                struct err *e) MUST_CHECK;
/* Puts a pages file over RAM: long runs are mapped (and added to mapped), short ones copied. The
 * index is hostile. -EBADMSG. */
int pages_load(const struct gmem *m, int fd, struct page_set *mapped, struct err *e) MUST_CHECK;

/* A working-set file: the index alone, of pages worth having before the machine runs. */
int pages_write_index(const struct page_set *set, uint64_t ram_bytes, int fd,
                      struct err *e) MUST_CHECK;
/* Reads such a file and populates the page table with its pages, in pieces of 64 KiB. -EBADMSG. */
int pages_populate(const struct gmem *m, int fd, struct err *e) MUST_CHECK;

#endif
