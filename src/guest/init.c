/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "guest/guest.h"
#include "guest/modules.h"
#include "guest/netconf.h"
#include "proto/wire.h"

#define PORTS_DIR "/sys/class/virtio-ports"
#define NO_ALL (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static unsigned port_major;

unsigned init_port_major(void)
{
    return port_major;
}

void init_die(const char *why)
{
    log_error("agent", "%s; powering off", why);
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

/*
 * The initramfs is the kernel's own root, which pivot_root refuses to leave, and containers need
 * pivot_root. A bind mount of it moved over it is an ordinary mount and solves that.
 */
static int stack_root(struct err *e)
{
    (void)mkdir("/newroot", 0755); /* may be part of the initramfs */
    if (mount("/", "/newroot", NULL, MS_BIND, NULL) < 0 || chdir("/newroot") < 0 ||
        mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return err_set_errno(e, errno, "cannot set up the root directory");
    return 0;
}

static int mount_all(struct err *e)
{
    static const struct {
        const char *type, *at;
        unsigned long flags;
        const char *data;
        bool optional;
    } table[] = {
        {"proc", "/proc", NO_ALL, NULL, false},
        {"sysfs", "/sys", NO_ALL, NULL, false},
        {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755", false},
        {"tmpfs", "/run", NO_ALL, "mode=0755,size=64m", false},
        {"tmpfs", "/tmp", NO_ALL, "mode=0700,size=64m", false},
        {"tmpfs", "/mnt", NO_ALL, "mode=0755,size=1m", false},
        {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666", true},
        {"cgroup2", "/sys/fs/cgroup", NO_ALL, NULL, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        (void)mkdir(table[i].at, 0755); /* there already, or mount says what is wrong */
        if (mount(table[i].type, table[i].at, table[i].type, table[i].flags, table[i].data) < 0 &&
            errno != EBUSY && !table[i].optional)
            return err_set_errno(e, errno, "cannot mount %s", table[i].at);
    }
    static const char *const dirs[] = {GUEST_RUN_DIR,         GUEST_RUN_DIR "/empty",
                                       GUEST_RUN_DIR "/open", GUEST_APP_ROOT,
                                       GUEST_STAGE_ROOT,      GUEST_FROM_ROOT};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
            return err_set_errno(e, errno, "cannot make %s", dirs[i]);
    /* Files the application may write get room of their own: filling it must not stop RESUMED. */
    if (mount("tmpfs", GUEST_RUN_DIR "/open", "tmpfs", NO_ALL, "mode=0755,size=1m") < 0)
        return err_set_errno(e, errno, "cannot mount " GUEST_RUN_DIR "/open");
    return 0;
}

static void write_setting(const char *path, const char *value)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fs_write_all(fd, value, strlen(value)) < 0)
        log_debug("agent", "%s: cannot write %s", path, value);
}

/* Controllers one by one: the kernel refuses a whole list for one it does not have. */
static void enable_controllers(void)
{
    static const char *const names[] = {"+cpuset", "+cpu", "+io", "+memory", "+hugetlb", "+pids"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        write_setting(GUEST_CGROUP "/cgroup.subtree_control", names[i]);
}

/* The kernel gave us the initramfs's /dev/console if it had one; make sure of it either way. */
static void take_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd < 0)
        fd = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        if (fd >= 0 && fd != i)
            dup2(fd, i);
    if (fd > 2)
        close(fd);
}

int init_machine(struct err *e)
{
    umask(022);
    int r = stack_root(e);
    if (r == 0)
        r = mount_all(e);
    if (r < 0)
        return r;
    take_console();
    modules_load();
    enable_controllers();
    write_setting("/proc/self/oom_score_adj", "-1000");
    write_setting("/proc/sys/kernel/printk", "4 4 1 7");
    const struct rlimit files = {65536, 65536};
    (void)setrlimit(RLIMIT_NOFILE, &files); /* root may */
    /* Nothing may change the agent's own file system from here on. */
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        return err_set_errno(e, errno, "cannot protect the root directory");
    return netconf_loopback(e);
}

static int try_port(const char *entry, struct err *e)
{
    char path[512];
    struct buf name = BUF_INIT(256);
    snprintf(path, sizeof path, PORTS_DIR "/%s/name", entry);
    int r = fs_read_file(path, &name, NULL);
    bool ours = r == 0 && name.len && strncmp(name.data, WIRE_PORT_NAME "\n", name.len) == 0;
    buf_done(&name);
    if (!ours)
        return -ENOENT;
    snprintf(path, sizeof path, "/dev/%s", entry);
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot open %s", path);
    struct stat st;
    if (fstat(fd, &st) == 0)
        port_major = major(st.st_rdev);
    return fd;
}

static int scan_ports(struct err *e)
{
    DIR *d = opendir(PORTS_DIR);
    int fd = -ENOENT;
    for (struct dirent *de; d && fd < 0 && (de = readdir(d));)
        if (de->d_name[0] != '.')
            fd = try_port(de->d_name, e);
    if (d)
        closedir(d);
    return fd;
}

/* Ports are announced by the device after its driver has started: a few milliseconds at boot. */
int init_open_port(int timeout_ms, struct err *e)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    for (;;) {
        int fd = scan_ports(e);
        if (fd >= 0)
            return fd;
        if (clock_mono_ms() > deadline)
            return err_set(e, ENODEV, "the machine has no port named %s", WIRE_PORT_NAME);
        usleep(2000);
    }
}
