/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"

int fds_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int fds_pair(int type, int *ours, int *theirs)
{
    int fd[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fd) < 0)
        return -errno;
    *ours = fd[0];
    *theirs = fd[1];
    return fds_nonblocking(fd[0]);
}

int fds_memory(const char *name, const void *p, size_t n)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fs_write_all(fd, p, n);
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}
