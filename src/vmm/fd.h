/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that came with a request. */
#ifndef VMM_FD_H
#define VMM_FD_H

#include <errno.h>
#include <fcntl.h>

#include "base/err.h"

/* The descriptor has a new owner. */
static inline int fd_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

MUST_CHECK static inline int fd_nonblocking(int fd, const char *what, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0
               ? err_set_errno(e, errno, "%s", what)
               : 0;
}

#endif
