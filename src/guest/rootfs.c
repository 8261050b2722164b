/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Files lent to the container (resolv.conf, hosts, ...) live in a tmpfs of the
 * agent's; a detached copy of each mount is opened first (open_tree), then pivot_root makes the
 * image the root and the agent's whole tree is detached, then everything is mounted by path inside
 * the new root: a link the image put in the way resolves inside the image.
 *
 * /dev is a tmpfs with the few nodes Docker gives; /dev/console is a null device, the machine's
 * console is not for applications. In a build, mount points that did not exist are reported so
 * that they can be removed after the step: they are not part of the image.
 */
#include "guest/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "guest/guest.h"

#define NO_ALL (MS_NOSUID | MS_NODEV | MS_NOEXEC)

enum lent {
    LENT_RESOLV,
    LENT_HOSTS,
    LENT_HOSTNAME,
    LENT_MACHINE_ID,
    LENT_BOOT_ID,
    LENT_CA,
    LENT_N
};

static const struct {
    const char *file; /* in GUEST_RUN_DIR; a missing one is not lent */
    const char *target;
    bool app, build, writable;
} LENT[LENT_N] = {
    [LENT_RESOLV] = {"open/resolv.conf", "/etc/resolv.conf", true, true, true},
    [LENT_HOSTS] = {"open/hosts", "/etc/hosts", true, true, true},
    [LENT_HOSTNAME] = {"hostname", "/etc/hostname", true, false, false},
    [LENT_MACHINE_ID] = {"machine-id", "/etc/machine-id", true, false, false},
    [LENT_BOOT_ID] = {"boot_id", "/proc/sys/kernel/random/boot_id", true, false, false},
    [LENT_CA] = {"ca-bundle.crt", "/dev/tinderbox/ca-bundle.crt", false, true, false},
};

struct enter {
    const struct launch *l;
    int sock;
    int lent[LENT_N];
};

int rootfs_mkdir_p(const char *path)
{
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

static void made(const struct enter *x, const char *path)
{
    if (x->l->build)
        launch_say(x->sock, 'M', path, strlen(path), -1);
}

/* Parents of path, each reported. */
static int make_parents(const struct enter *x, const char *path, struct err *e)
{
    char part[4096];
    size_t n = strlen(path);
    for (size_t i = 1; i < n && n < sizeof part; i++) {
        if (path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) == 0)
            made(x, part);
        else if (errno != EEXIST)
            return err_set_errno(e, errno, "cannot make %s in the image", part);
    }
    return 0;
}

static int make_dir(const struct enter *x, const char *path, struct err *e)
{
    struct stat st;
    if (lstat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? 0
                                   : err_set(e, EINVAL, "%s in the image is not a directory", path);
    int r = make_parents(x, path, e);
    if (r < 0)
        return r;
    if (mkdir(path, 0755) < 0)
        return err_set_errno(e, errno, "cannot make %s in the image", path);
    made(x, path);
    return 0;
}

/* A file to mount over. A dangling link is followed once, as far as its target can be made. */
static int make_file(const struct enter *x, const char *path, struct err *e)
{
    struct stat st;
    char target[4096], link[4096];
    if (stat(path, &st) == 0)
        return 0;
    snprintf(target, sizeof target, "%s", path);
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n > 0) {
        link[n] = '\0';
        const char *slash = strrchr(path, '/');
        int len = link[0] == '/'
                      ? snprintf(target, sizeof target, "%s", link)
                      : snprintf(target, sizeof target, "%.*s/%s", (int)(slash - path), path, link);
        if (len < 0 || (size_t)len >= sizeof target)
            return err_set(e, ENAMETOOLONG, "%s in the image is a link that is too long", path);
    }
    int r = make_parents(x, target, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make %s in the image", target);
    made(x, target);
    return 0;
}

static int mount_at(const char *type, const char *path, unsigned long flags, const char *data,
                    struct err *e)
{
    if (mount(type, path, type, flags, data) < 0)
        return err_set_errno(e, errno, "cannot mount %s", path);
    return 0;
}

static int open_lent(struct enter *x)
{
    for (int i = 0; i < LENT_N; i++) {
        x->lent[i] = -1;
        if (!(x->l->build ? LENT[i].build : LENT[i].app) || (i == LENT_CA && !x->l->have_ca))
            continue;
        char path[256];
        snprintf(path, sizeof path, GUEST_RUN_DIR "/%s", LENT[i].file);
        x->lent[i] = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    }
    return 0;
}

static int mount_lent(struct enter *x, struct err *e)
{
    for (int i = 0; i < LENT_N; i++) {
        if (x->lent[i] < 0)
            continue;
        const char *target = LENT[i].target;
        int r = strncmp(target, "/proc/", 6) == 0 ? 0 : make_file(x, target, e);
        if (r < 0)
            return r;
        if (move_mount(x->lent[i], "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return err_set_errno(e, errno, "cannot mount %s", target);
        close(x->lent[i]);
        if (!LENT[i].writable &&
            mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | NO_ALL, NULL))
            return err_set_errno(e, errno, "cannot protect %s", target);
    }
    return 0;
}

static int pivot(const char *root, struct err *e)
{
    /* "." on "." stacks the old root over the new one; detaching it leaves the image alone. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir(root) < 0 ||
        syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_set_errno(e, errno, "cannot change into the image");
    return 0;
}

static int make_nodes(struct err *e)
{
    static const struct {
        const char *path;
        mode_t mode;
        unsigned major, minor;
    } nodes[] = {
        {"/dev/null", 0666, 1, 3},    {"/dev/zero", 0666, 1, 5},    {"/dev/full", 0666, 1, 7},
        {"/dev/random", 0666, 1, 8},  {"/dev/urandom", 0666, 1, 9}, {"/dev/tty", 0666, 5, 0},
        {"/dev/console", 0620, 1, 3},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},       {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
        {"pts/ptmx", "/dev/ptmx"},
    };
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        if (mknod(nodes[i].path, S_IFCHR, makedev(nodes[i].major, nodes[i].minor)) < 0 ||
            chmod(nodes[i].path, nodes[i].mode) < 0)
            return err_set_errno(e, errno, "cannot make %s", nodes[i].path);
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlink(links[i][0], links[i][1]) < 0)
            return err_set_errno(e, errno, "cannot make %s", links[i][1]);
    return 0;
}

static int make_dev(const struct enter *x, struct err *e)
{
    int r = make_dir(x, "/dev", e);
    if (r == 0)
        r = mount_at("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC | MS_STRICTATIME,
                     "mode=755,size=65536k", e);
    if (r == 0)
        r = make_nodes(e);
    static const char *const dirs[] = {"/dev/pts", "/dev/shm", "/dev/mqueue"};
    for (size_t i = 0; i < ARRAY_LEN(dirs) && r == 0; i++)
        if (mkdir(dirs[i], 0755) < 0)
            r = err_set_errno(e, errno, "cannot make %s", dirs[i]);
    if (r == 0)
        r = mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                     "newinstance,ptmxmode=0666,mode=0620,gid=5", e);
    if (r == 0)
        r = mount_at("tmpfs", "/dev/shm", NO_ALL, "mode=1777,size=65536k", e);
    if (r == 0)
        r = mount_at("mqueue", "/dev/mqueue", NO_ALL, NULL, e);
    if (r == 0 && x->l->all_caps) /* for FUSE file systems; absent when the kernel lacks it */
        if (mknod("/dev/fuse", S_IFCHR, makedev(10, 229)) == 0)
            (void)chmod("/dev/fuse", 0666);
    if (r == 0 && x->lent[LENT_CA] >= 0 && mkdir("/dev/tinderbox", 0755) < 0)
        r = err_set_errno(e, errno, "cannot make /dev/tinderbox");
    return r;
}

/* What Docker hides and protects: kernel memory, keys, timers, firmware; settings of the kernel. */
static int protect(struct err *e)
{
    static const char *const hidden[] = {
        "/proc/kcore",       "/proc/keys",        "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/proc/acpi",          "/proc/scsi",
        "/sys/firmware",     "/proc/asound"};
    static const char *const frozen[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                         "/proc/sysrq-trigger"};
    for (size_t i = 0; i < ARRAY_LEN(frozen); i++) {
        if (mount(frozen[i], frozen[i], NULL, MS_BIND | MS_REC, NULL) < 0) {
            if (errno == ENOENT)
                continue;
            return err_set_errno(e, errno, "cannot protect %s", frozen[i]);
        }
        if (mount(NULL, frozen[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | NO_ALL, NULL) < 0)
            return err_set_errno(e, errno, "cannot protect %s", frozen[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
        struct stat st;
        if (stat(hidden[i], &st) < 0)
            continue;
        int r = S_ISDIR(st.st_mode)
                    ? mount("tmpfs", hidden[i], "tmpfs", MS_RDONLY | NO_ALL, "size=0k")
                    : mount("/dev/null", hidden[i], NULL, MS_BIND, NULL);
        if (r < 0)
            return err_set_errno(e, errno, "cannot hide %s", hidden[i]);
    }
    return 0;
}

static int mount_kernel(const struct enter *x, struct err *e)
{
    int r = make_dir(x, "/proc", e);
    if (r == 0)
        r = mount_at("proc", "/proc", NO_ALL, NULL, e);
    if (r == 0)
        r = make_dir(x, "/sys", e);
    if (r == 0)
        r = mount_at("sysfs", "/sys", NO_ALL | (x->l->all_caps ? 0 : MS_RDONLY), NULL, e);
    if (r == 0 && x->l->all_caps)
        r = mount_at("cgroup2", "/sys/fs/cgroup", NO_ALL, NULL, e);
    return r;
}

int rootfs_enter(const struct launch *l, int sock, struct err *e)
{
    struct enter x = {.l = l, .sock = sock};
    umask(0);
    int r = open_lent(&x);
    if (r == 0)
        r = pivot(l->root, e);
    if (r == 0)
        r = mount_kernel(&x, e);
    if (r == 0)
        r = make_dev(&x, e);
    if (r == 0)
        r = mount_lent(&x, e); /* boot_id before /proc/sys is bound: the bind is recursive */
    if (r == 0 && !l->all_caps)
        r = protect(e);
    umask(022);
    return r;
}
