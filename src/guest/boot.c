/* SPDX-License-Identifier: Apache-2.0 */
/* BOOT: root disk, network, names. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/fs.h"
#include "base/log.h"
#include "guest/boot.h"
#include "guest/job.h"
#include "guest/netconf.h"

#define EXT4_RESIZE_FS _IOW('f', 16, uint64_t)

int boot_check_hostname(const char *name, struct err *e)
{
    size_t n = name ? strlen(name) : 0;
    if (n == 0 || n > 63)
        return err_set(e, EINVAL, "the host name must have 1 to 63 characters");
    for (size_t i = 0; i < n; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.", name[i]))
            return err_set(e, EINVAL, "bad character in the host name");
    return 0;
}

static const char *const KEPT[] = {"hostname", "open/hosts", "machine-id", "boot_id"};
static int kept_fds[ARRAY_LEN(KEPT)] = {-1, -1, -1, -1};

static int open_lent(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, GUEST_RUN_DIR "/%s", name);
    return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
}

void boot_keep_lent(void)
{
    for (size_t i = 0; i < ARRAY_LEN(KEPT); i++)
        if (kept_fds[i] < 0)
            kept_fds[i] = open_lent(KEPT[i]);
}

int boot_lend(const char *name, const char *text, struct err *e)
{
    CLEANUP(cleanup_close)
    int own = -1;
    int fd = -1;
    for (size_t i = 0; i < ARRAY_LEN(KEPT); i++)
        if (strcmp(KEPT[i], name) == 0)
            fd = kept_fds[i];
    if (fd < 0) {
        own = open_lent(name);
        fd = own;
    }
    size_t n = strlen(text);
    if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, text, n, 0) != (ssize_t)n)
        return err_set_errno(e, errno, "cannot write the container's %s", name);
    return 0;
}

int boot_lend_names(const char *hostname, struct err *e)
{
    char text[512];
    snprintf(text, sizeof text, "%s\n", hostname);
    int r = boot_lend("hostname", text, e);
    if (r < 0)
        return r;
    bool local = strcmp(hostname, "localhost") == 0;
    snprintf(text, sizeof text,
             "127.0.0.1\tlocalhost%s%s\n::1\tlocalhost ip6-localhost ip6-loopback\n",
             local ? "" : " ", local ? "" : hostname);
    /* The application may have filled the room for this one: its own loss. */
    if (boot_lend("open/hosts", text, e) < 0)
        log_warn("agent", "%s", e->text);
    return 0;
}

int boot_lend_ids(const char *machine_id, const char *boot_id, struct err *e)
{
    char text[64];
    snprintf(text, sizeof text, "%.32s\n", machine_id);
    int r = boot_lend("machine-id", text, e);
    if (r < 0)
        return r;
    snprintf(text, sizeof text, "%.36s\n", boot_id);
    return boot_lend("boot_id", text, e);
}

static int check_device(int slot, char path[16], struct err *e)
{
    struct stat st;
    if (slot < 0 || slot > 25)
        return err_set(e, EINVAL, "there is no disk slot %d", slot);
    snprintf(path, 16, "/dev/vd%c", 'a' + slot);
    if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
        return err_set(e, ENOENT, "the machine has no disk %s", path);
    return 0;
}

int boot_device(int slot, char path[16], struct err *e)
{
    return check_device(slot, path, e);
}

/* The disk may be larger than the file system that was written to it. */
static int grow(const char *dev, const char *at, struct err *e)
{
    CLEANUP(cleanup_close)
    int disk = open(dev, O_RDONLY | O_CLOEXEC);
    CLEANUP(cleanup_close)
    int dir = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t bytes = 0;
    struct stat st;
    if (disk < 0 || dir < 0 || ioctl(disk, BLKGETSIZE64, &bytes) < 0 || fstat(dir, &st) < 0)
        return err_set_errno(e, errno, "cannot read the size of %s", dev);
    uint64_t blocks = bytes / (uint64_t)st.st_blksize;
    if (ioctl(dir, EXT4_RESIZE_FS, &blocks) < 0 && errno != EINVAL && errno != EBUSY)
        return err_set_errno(e, errno, "cannot grow the file system on %s", dev);
    return 0; /* EINVAL: as large as the disk already, to the block group */
}

int boot_mount(int slot, const char *at, bool read_only, struct err *e)
{
    char dev[16];
    int r = check_device(slot, dev, e);
    if (r < 0)
        return r;
    unsigned long flags = MS_NODEV | MS_NOATIME | (read_only ? MS_RDONLY : 0);
    /* "noload": a read-only disk cannot replay a journal */
    if (mount(dev, at, "ext4", flags, read_only ? "noload" : "discard") < 0)
        return err_set_errno(e, errno, "cannot mount %s as ext4", dev);
    if (read_only)
        return 0;
    r = grow(dev, at, e);
    if (r < 0)
        umount2(at, MNT_DETACH);
    return r;
}

struct boot_args {
    int slot;
    bool network;
    struct netconf net;
    char hostname[65];
};

static void random_ids(char machine_id[33], char boot_id[UUID_LEN + 1])
{
    unsigned char raw[16];
    random_bytes(raw, sizeof raw);
    hex_encode(machine_id, raw, sizeof raw);
    uuid_new(boot_id);
}

static int boot_work(void *arg, struct err *e)
{
    const struct boot_args *b = arg;
    int r = boot_mount(b->slot, GUEST_APP_ROOT, false, e);
    if (r == 0 && b->network)
        r = netconf_eth0(&b->net, e);
    if (r == 0)
        r = netconf_write_resolv(b->network ? &b->net : NULL, e);
    if (r == 0)
        r = boot_lend_names(b->hostname, e);
    char machine_id[33], boot_id[UUID_LEN + 1];
    random_ids(machine_id, boot_id);
    if (r == 0)
        r = boot_lend_ids(machine_id, boot_id, e);
    if (r == 0 && sethostname(b->hostname, strlen(b->hostname)) < 0)
        r = err_set_errno(e, errno, "cannot set the host name");
    return r;
}

static void boot_done(struct guest *g)
{
    g->booted = true;
}

void guest_boot(struct guest *g, struct stream *st, const json_t *body)
{
    static struct boot_args args;
    struct err e = {0};
    const char *hostname = json_get_str(body, "hostname");
    const json_t *net = json_object_get(body, "network");
    args = (struct boot_args){.slot = (int)json_get_int(body, "rootDisk", 0)};
    if (g->booted) {
        stream_error(st, 409, "the machine was booted already");
        return;
    }
    int r = boot_check_hostname(hostname ? hostname : "localhost", &e);
    if (r == 0 && net && !json_is_null(net)) {
        args.network = true;
        r = netconf_parse(net, &args.net, &e);
    }
    if (r < 0) {
        stream_error(st, 400, "%s", e.text);
        return;
    }
    snprintf(args.hostname, sizeof args.hostname, "%s", hostname ? hostname : "localhost");
    snprintf(g->hostname, sizeof g->hostname, "%s", args.hostname);
    job_start(g, st, boot_work, &args, boot_done);
}
