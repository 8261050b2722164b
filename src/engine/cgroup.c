/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HIERARCHY "/sys/fs/cgroup"
#define OURS HIERARCHY "/tinderbox"
#define PERIOD_US 100000u

struct cgroup {
    int dir; /* owned */
};

static int write_at(int dir, const char *name, const char *text)
{
    CLEANUP(cleanup_close)
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int check_hierarchy(int fd, const char *path, struct err *e)
{
    struct statfs s;
    if (fstatfs(fd, &s) < 0)
        return err_set_errno(e, errno, "%s", path);
    return s.f_type == CGROUP2_SUPER_MAGIC ? 0
                                           : err_set(e, ENOTSUP, "%s is not in cgroup v2", path);
}

/* The controllers must be handed down at every level; those above are the administrator's, but at
 * the root of the hierarchy root may do it. */
static int hand_down(int dir, const char *path, struct err *e)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids"};
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        (void)write_at(dir, "../cgroup.subtree_control", controllers[i]); /* the next one tells */
        int r = write_at(dir, "cgroup.subtree_control", controllers[i]);
        if (r < 0)
            return err_set_errno(e, -r, "%s/cgroup.subtree_control: %s", path, controllers[i]);
    }
    return 0;
}

static int open_dir(const char *path, struct cgroup **ret, struct err *e)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_set_errno(e, errno, "cgroup %s", path);
    CLEANUP(cleanup_close)
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_set_errno(e, errno, "cgroup %s", path);
    int r = check_hierarchy(dir, path, e);
    if (r == 0)
        r = hand_down(dir, path, e);
    if (r < 0)
        return r;
    struct cgroup *c = malloc(sizeof *c);
    if (!c)
        return err_set(e, ENOMEM, "out of memory");
    c->dir = dir;
    dir = -1;
    *ret = c;
    return 0;
}

int cgroup_open(const char *path, struct cgroup **ret, struct err *e)
{
    struct err why;
    *ret = NULL;
    if (strcmp(path, "none") == 0)
        return 0;
    if (strcmp(path, "auto") != 0)
        return open_dir(path, ret, e);
    struct statfs s;
    /* Not an error: most users may not, and the older layout has no place for it. */
    if (statfs(HIERARCHY, &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC &&
        open_dir(OURS, ret, &why) < 0)
        *ret = NULL;
    return 0;
}

void cgroup_close(struct cgroup *c)
{
    if (!c)
        return;
    close(c->dir);
    free(c);
}

static int set_limits(int dir, const struct cgroup_limits *l, struct err *e)
{
    char cpu[64], memory[32], tasks[32];
    snprintf(cpu, sizeof cpu, "%u %u", l->cpus * PERIOD_US, PERIOD_US);
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)l->memory_bytes);
    snprintf(tasks, sizeof tasks, "%u", l->tasks);
    const struct {
        const char *file, *value;
    } limits[] = {{"cpu.max", cpu}, {"memory.max", memory}, {"pids.max", tasks}};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        int r = write_at(dir, limits[i].file, limits[i].value);
        if (r < 0)
            return err_set_errno(e, -r, "cgroup limit %s", limits[i].file);
    }
    return 0;
}

/* A process that has ended meanwhile is no error: its end is reported elsewhere. */
static int move_processes(int dir, const pid_t *pids, unsigned n, struct err *e)
{
    for (unsigned i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "%d", (int)pids[i]);
        int r = pids[i] > 0 ? write_at(dir, "cgroup.procs", text) : 0;
        if (r < 0 && r != -ESRCH)
            return err_set_errno(e, -r, "cgroup of process %d", (int)pids[i]);
    }
    return 0;
}

int cgroup_enter(struct cgroup *c, const char *id, const struct cgroup_limits *l, const pid_t *pids,
                 unsigned n, struct err *e)
{
    if (!c)
        return 0;
    /* One of an earlier life of this machine may be left over. */
    if (mkdirat(c->dir, id, 0755) < 0 && errno != EEXIST)
        return err_set_errno(e, errno, "cgroup of machine %s", id);
    CLEANUP(cleanup_close)
    int dir = openat(c->dir, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return err_set_errno(e, errno, "cgroup of machine %s", id);
    int r = set_limits(dir, l, e);
    return r < 0 ? r : move_processes(dir, pids, n, e);
}

void cgroup_leave(struct cgroup *c, const char *id)
{
    if (c)
        (void)unlinkat(c->dir, id, AT_REMOVEDIR); /* made again or removed by the next life */
}
