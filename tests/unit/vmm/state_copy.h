/* SPDX-License-Identifier: Apache-2.0 */
/* Through a state file and back, for persist tests of devices. */
#ifndef TESTS_STATE_COPY_H
#define TESTS_STATE_COPY_H

#include <sys/mman.h>
#include <unistd.h>

#include "vmm/snapshot/state.h"

/* Completes w and reads it back; both are released by state_copy_done(). */
static inline int state_copy(struct state_writer *w, struct state_reader *r)
{
    struct err e;
    int fd = memfd_create("state", MFD_CLOEXEC);
    int rc = state_writer_finish(w, fd, &e);
    if (rc >= 0 && lseek(fd, 0, SEEK_SET) == 0)
        rc = state_reader_load(r, fd, &e);
    close(fd);
    return rc;
}

static inline void state_copy_done(struct state_writer *w, struct state_reader *r)
{
    state_writer_done(w);
    state_reader_done(r);
}

#endif
