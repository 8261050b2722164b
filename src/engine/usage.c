/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/usage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "net/stats.h"

static int read_proc(pid_t pid, const char *name, struct buf *out, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return fs_read_file(path, out, e);
}

/* utime and stime are fields 14 and 15; the name in field 2 may hold anything but ends at the last
 * parenthesis. */
static int read_cpu(pid_t pid, uint64_t *ret, struct err *e)
{
    struct buf b = BUF_INIT(4096);
    int r = read_proc(pid, "stat", &b, e);
    const char *p = r == 0 && b.data ? strrchr(b.data, ')') : NULL;
    unsigned long long user = 0, system = 0;
    if (r == 0 && (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                                &user, &system) != 2))
        r = err_set(e, EPROTO, "/proc/%d/stat is not understood", (int)pid);
    buf_done(&b);
    if (r == 0)
        *ret = (user + system) * (uint64_t)(1000000 / sysconf(_SC_CLK_TCK));
    return r;
}

static uint64_t field_kib(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    return p ? strtoull(p + strlen(name), NULL, 10) * 1024 : 0;
}

/* A jailed monitor is not dumpable, and then only root may read its maps. Of memory that is a
 * private mapping "shared" is what comes from the file. */
static int read_statm(pid_t pid, struct engine_stats *ret, struct err *e)
{
    struct buf b = BUF_INIT(4096);
    unsigned long long resident = 0, shared = 0, page = (unsigned long long)sysconf(_SC_PAGESIZE);
    int r = read_proc(pid, "statm", &b, e);
    if (r == 0 && (!b.data || sscanf(b.data, "%*u %llu %llu", &resident, &shared) != 2))
        r = err_set(e, EPROTO, "/proc/%d/statm is not understood", (int)pid);
    buf_done(&b);
    ret->memory_private_bytes = resident > shared ? (resident - shared) * page : 0;
    ret->memory_rss_bytes = resident * page;
    return r;
}

static int read_memory(pid_t pid, struct engine_stats *ret, struct err *e)
{
    struct buf b = BUF_INIT(16384);
    struct err why = {0};
    int r = read_proc(pid, "smaps_rollup", &b, &why);
    if (r == 0 && b.data) {
        ret->memory_private_bytes = field_kib(b.data, "\nPss:");
        ret->memory_rss_bytes = field_kib(b.data, "\nRss:");
    }
    buf_done(&b);
    return r == -EACCES || r == -EPERM ? read_statm(pid, ret, e) : r < 0 ? err_copy(e, &why) : 0;
}

int usage_process(pid_t pid, struct engine_stats *ret, struct err *e)
{
    int r = read_cpu(pid, &ret->cpu_us, e);
    return r < 0 ? r : read_memory(pid, ret, e);
}

uint64_t usage_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

void usage_network(int stats_fd, struct engine_stats *ret)
{
    struct net_stats net;
    if (stats_fd < 0 || net_stats_read(stats_fd, &net) < 0)
        return;
    ret->net_tx_bytes = net.tx_bytes;
    ret->net_rx_bytes = net.rx_bytes;
}
