/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is not local: RAM starts out missing, and a thread of its own fetches chunks
 * (chunks.h) when somebody touches them (userfaultfd(2), missing pages) and the others in order
 * while nobody waits. For snapshots in the page cache a private mapping is faster; this is for
 * those that are not.
 */
#ifndef VMM_SNAPSHOT_PAGER_H
#define VMM_SNAPSHOT_PAGER_H

#include "base/err.h"
#include "vmm/gmem.h"

struct pager;

/* A userfaultfd that also serves faults of the kernel (KVM's): needs the right to it, so before the
 * jail. -errno. */
int pager_open_uffd(void) MUST_CHECK;
/* Starts the thread, which waits. uffd is owned from success on. on_failure: a chunk cannot be had,
 * and whoever touches it waits for ever (pager thread). */
int pager_new(struct gmem *m, int uffd, void (*on_failure)(void *arg, const char *text), void *arg,
              struct pager **ret, struct err *e) MUST_CHECK;
/* Maps RAM and begins to serve it from fd (owned, also on failure). Once. */
int pager_serve(struct pager *p, int fd, struct err *e) MUST_CHECK;
/* Returns when everything is there. */
int pager_complete(struct pager *p, struct err *e) MUST_CHECK;
uint64_t pager_faults(const struct pager *p); /* served on demand so far; any thread */

#endif
