/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In order, each step taking what the next no longer needs:
 *
 *   1. limits         descriptors for the sockets and no more, memory, no processes, no core files
 *   2. bounding set   emptied, where there is the capability to do so
 *   3. user           root becomes "nobody", where there is such a user; then no capabilities
 *   4. Landlock       no file but those in the directory of resolv.conf, read-only
 *   5. seccomp        the table in syscalls.c; everything else kills the process
 *
 * Steps 2 to 4 do what the machine offers (a user namespace may have no other user, an old kernel
 * no Landlock; without Landlock nothing at all can be opened). Step 5 is not optional.
 */
#include "net/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "net/stack.h"
#include "net/syscalls.h"

#define NOBODY 65534
#define FDS (NET_SOCKETS_MAX + 256)
#define MEMORY ((rlim_t)512 << 20)

static const struct {
    int resource;
    rlim_t limit;
    const char *name;
} limits[] = {
    {RLIMIT_NOFILE, FDS, "descriptors"},
    {RLIMIT_DATA, MEMORY, "memory"},
    {RLIMIT_CORE, 0, "core size"},
    {RLIMIT_NPROC, 0, "processes"},
};

static int set_limits(struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit r;
        if (getrlimit(limits[i].resource, &r) < 0)
            return err_set_errno(e, errno, "reading the limit of %s", limits[i].name);
        r.rlim_cur = r.rlim_max = limits[i].limit < r.rlim_max ? limits[i].limit : r.rlim_max;
        if (setrlimit(limits[i].resource, &r) < 0)
            return err_set_errno(e, errno, "limiting %s", limits[i].name);
    }
    return 0;
}

static void leave_root(void)
{
    if (geteuid() != 0)
        return;
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        log_debug("net", "staying root of the user namespace: %s", strerror(errno));
}

/* Only one who has CAP_SETPCAP can; for others no_new_privs leaves nothing to bound. */
static void empty_bounding_set(void)
{
    capng_clear(CAPNG_SELECT_BOUNDS);
    if (capng_apply(CAPNG_SELECT_BOUNDS) < 0)
        log_debug("net", "keeping the capability bounding set");
}

static int drop_capabilities(struct err *e)
{
    capng_clear(CAPNG_SELECT_CAPS);
    if (capng_apply(CAPNG_SELECT_CAPS) < 0)
        return err_set(e, EPERM, "dropping capabilities failed");
    return 0;
}

/* A descriptor of the directory the file really lives in, or -1. */
static int open_directory_of(const char *file)
{
    char real[PATH_MAX];
    if (!realpath(file, real))
        return -1;
    return open(dirname(real), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* 0 or -errno. */
static int landlock_directory(int dir)
{
    /* Version 1 of the interface: every file access there is. */
    struct landlock_ruleset_attr all = {.handled_access_fs =
                                            (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
                                              .parent_fd = dir};
    CLEANUP(cleanup_close)
    int set = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (set < 0)
        return -errno;
    if (dir >= 0 && syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        return -errno;
    return syscall(SYS_landlock_restrict_self, set, 0) < 0 ? -errno : 0;
}

static bool restrict_files(const char *resolv_conf)
{
    CLEANUP(cleanup_close)
    int dir = open_directory_of(resolv_conf);
    int rc = landlock_directory(dir);
    if (rc < 0)
        log_debug("net", "no Landlock (%s): %s will not be read again", strerror(-rc), resolv_conf);
    return rc == 0;
}

static int add_row(scmp_filter_ctx ctx, const struct net_syscall *row, bool files)
{
    int nr = seccomp_syscall_resolve_name(row->name);
    if (nr == __NR_SCMP_ERROR)
        return 0; /* not on this architecture */
    uint32_t action = row->action;
    if (!files && strcmp(row->name, "openat") == 0)
        action = SCMP_ACT_ERRNO(EACCES);
    return seccomp_rule_add_array(ctx, action, nr, row->n_args, row->args);
}

static int filter_syscalls(bool files, struct err *e)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!ctx)
        return err_set(e, ENOMEM, "seccomp: out of memory");
    int rc = 0;
    for (unsigned i = 0; i < net_syscalls_n && rc >= 0; i++) {
        rc = add_row(ctx, &net_syscalls[i], files);
        if (rc < 0)
            rc = err_set_errno(e, -rc, "seccomp rule for %s", net_syscalls[i].name);
    }
    if (rc >= 0) {
        rc = seccomp_load(ctx);
        if (rc < 0)
            rc = err_set_errno(e, -rc, "loading the seccomp filter");
    }
    seccomp_release(ctx);
    return rc < 0 ? rc : 0;
}

int net_sandbox_enter(const char *resolv_conf, struct err *e)
{
    int rc = set_limits(e);
    if (rc < 0)
        return rc;
    empty_bounding_set();
    leave_root();
    rc = drop_capabilities(e);
    if (rc < 0)
        return rc;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_set_errno(e, errno, "prctl");
    bool files = restrict_files(resolv_conf);
    return filter_syscalls(files, e);
}
