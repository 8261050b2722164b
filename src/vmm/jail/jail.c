/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stages, each taking what the next no longer needs:
 *
 * - user and namespaces: for root a user of its own that owns nothing (a number no two living
 *   monitors share); for others a user namespace, in which alone the rest is possible. Mount,
 *   network, ipc, uts, cgroup. No pid namespace: it holds for children only, and the filters leave
 *   no call that takes somebody else's pid.
 * - root directory: an empty read-only tmpfs; everything the host had is detached.
 * - rights: capabilities, bounding set; no new privileges; not dumpable.
 * - Landlock: no right to any file, where the kernel has it.
 *
 * The system call filters follow per thread (filter.c).
 */
#include "vmm/jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
/* Plus a pid (below 2^22): no user of the host, nor in a container's usual range. */
#define UID_BASE 0x70000000u
#define OWN_DATA \
    (UINT64_C(256) << 20) /* heap, stacks, tables and disks' bitmaps beside guest memory */
#define DESCRIPTORS 512

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t k = write(fd, text, strlen(text));
    int r = k < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int map_ids(uid_t uid, gid_t gid, struct err *e)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "65534 %u 1", uid);
    snprintf(groups, sizeof groups, "65534 %u 1", gid);
    int r = write_text("/proc/self/setgroups", "deny");
    if (r == 0)
        r = write_text("/proc/self/uid_map", users);
    if (r == 0)
        r = write_text("/proc/self/gid_map", groups);
    return r < 0 ? err_set_errno(e, -r, "user namespace of the monitor") : 0;
}

static int enter_namespaces(struct err *e)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (uid != 0 && unshare(CLONE_NEWUSER) < 0)
        return err_set_errno(e, errno, "user namespace of the monitor");
    if (uid != 0) {
        int r = map_ids(uid, gid, e);
        if (r < 0)
            return r;
    }
    return unshare(NAMESPACES) < 0 ? err_set_errno(e, errno, "namespaces of the monitor") : 0;
}

/* /usr is a directory on every system; what is mounted there is seen by nobody else. */
static int empty_root(struct err *e)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/usr", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") < 0 ||
        chdir("/usr") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
        mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0)
        return err_set_errno(e, errno, "empty root directory of the monitor");
    return 0;
}

static int become_nobody(struct err *e)
{
    if (geteuid() != 0)
        return 0;
    uid_t id = UID_BASE + (uid_t)getpid();
    if (setgroups(0, NULL) == 0 && setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0)
        return 0;
    /* The root of a user namespace may have no other user; without capabilities it is nobody, too.
     */
    return errno == EINVAL || errno == EPERM ? 0 : err_set_errno(e, errno, "user of the monitor");
}

static int drop_bounding_set(struct err *e)
{
    for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
            return err_set_errno(e, errno, "bounding set of the monitor");
    return 0;
}

static int drop_rights(struct err *e)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof none);
    int r = drop_bounding_set(e);
    if (r == 0)
        r = become_nobody(e);
    if (r < 0)
        return r;
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_set_errno(e, errno, "rights of the monitor");
    /* A change of user clears what base/proc asked for. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_set_errno(e, errno, "parent death signal");
    return 0;
}

static int landlock_nothing(struct err *e)
{
    /* Version 1 of the interface: every file access there is. */
    struct landlock_ruleset_attr all = {.handled_access_fs =
                                            (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    CLEANUP(cleanup_close)
    int set = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (set < 0)
        return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : err_set_errno(e, errno, "Landlock");
    return syscall(SYS_landlock_restrict_self, set, 0) < 0 ? err_set_errno(e, errno, "Landlock")
                                                           : 0;
}

int jail_open_pagemap(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2], less[2];
    if (syscall(SYS_capget, &header, all) < 0)
        return -errno;
    memcpy(less, all, sizeof less);
    less[0].effective &= ~(1u << CAP_SYS_ADMIN);
    if (syscall(SYS_capset, &header, less) < 0)
        return -errno;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : fd;
    return syscall(SYS_capset, &header, all) < 0 ? -errno : r;
}

int jail_enter(struct err *e)
{
    int r = enter_namespaces(e);
    if (r == 0)
        r = empty_root(e);
    if (r == 0)
        r = drop_rights(e);
    return r < 0 ? r : landlock_nothing(e);
}

int jail_limit(uint64_t guest_bytes, uint64_t max_file_bytes, unsigned tasks, struct err *e)
{
    const struct {
        enum __rlimit_resource what;
        uint64_t max;
    } limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_FSIZE, max_file_bytes},
        {RLIMIT_DATA, guest_bytes + OWN_DATA},
        {RLIMIT_NOFILE, DESCRIPTORS},
        {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},
        /* Counted per user and user namespace; uid 0: the one we came with, see become_nobody(). */
        {RLIMIT_NPROC, getuid() ? tasks : RLIM_INFINITY},
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit l = {limits[i].max, limits[i].max}, now;
        if (getrlimit(limits[i].what, &now) == 0 && now.rlim_max < l.rlim_max)
            l.rlim_cur = l.rlim_max = now.rlim_max;
        if (setrlimit(limits[i].what, &l) < 0)
            return err_set_errno(e, errno, "limits of the monitor");
    }
    return 0;
}
