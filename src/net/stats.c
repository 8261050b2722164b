/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stats.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(NET_REASONS <= NET_STATS_REASONS, "every reason has a counter");

int net_stats_map(int fd, struct net_stats **ret)
{
    if (fd >= 0 && ftruncate(fd, sizeof **ret) < 0)
        return -errno;
    int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, sizeof **ret, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *ret = p;
    __atomic_store_n(&(*ret)->magic, NET_STATS_MAGIC, __ATOMIC_RELEASE);
    return 0;
}

int net_stats_read(int fd, struct net_stats *ret)
{
    struct net_stats s;
    ssize_t n = pread(fd, &s, sizeof s, 0);
    if (n < 0)
        return -errno;
    if ((size_t)n < sizeof s || s.magic != NET_STATS_MAGIC)
        return -ENODATA;
    *ret = s;
    return 0;
}
