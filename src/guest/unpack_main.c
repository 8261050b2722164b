/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The agent starts this program with all its rights; it opens what it needs (a
 * disk, the other stage), then locks itself up before it looks at the first foreign byte:
 *   scan, read  an empty directory as root, user 65534, no capabilities: it can only read the disk
 *               it was given and write frames;
 *   copy        the stage as root directory, and the capabilities that restoring files needs;
 *   files       the application's root (a descriptor from the agent) as root directory: to list and
 *               read, the one capability of reading everything; to write, those of copy, and the
 *               target as root directory, so that no link in it or in the archive leads out.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/guest.h"
#include "guest/unpack.h"
#include "proto/wire.h"

#define NOBODY 65534
#define MEMORY_MAX (768ul << 20) /* an archive may ask for a dictionary of 4 GiB */
#define CAP(c) (1u << (c))
#define COPY_CAPS                                                                                  \
    (CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FOWNER) | CAP(CAP_FSETID) | CAP(CAP_MKNOD) | \
     CAP(CAP_SETFCAP))

enum mode { MODE_SCAN, MODE_READ, MODE_COPY, MODE_FILES };

static int open_disk(const json_t *spec, struct err *e)
{
    int64_t slot = json_get_int(spec, "disk", -1);
    if (slot < 0 || slot > 25)
        return err_set(e, EINVAL, "there is no disk slot %lld", (long long)slot);
    char path[] = "/dev/vda";
    path[7] = (char)('a' + slot);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_set_errno(e, errno, "cannot open %s", path) : fd;
}

static int set_caps(unsigned keep, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}};
    if (syscall(SYS_capset, &head, data) < 0)
        return err_set_errno(e, errno, "cannot drop capabilities");
    return 0;
}

static int set_limits(struct err *e)
{
    const struct rlimit files = {1024, 1024}, procs = {0, 0}, memory = {MEMORY_MAX, MEMORY_MAX};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0 ||
        setrlimit(RLIMIT_NPROC, &procs) < 0 || setrlimit(RLIMIT_AS, &memory) < 0)
        return err_set_errno(e, errno, "cannot set limits");
    return 0;
}

static int lock_up(enum mode mode, struct err *e)
{
    const char *root = mode == MODE_COPY ? GUEST_STAGE_ROOT : GUEST_RUN_DIR "/empty";
    if (chroot(root) < 0 || chdir("/") < 0)
        return err_set_errno(e, errno, "cannot change root to %s", root);
    int r = set_limits(e);
    if (r < 0)
        return r;
    if (mode == MODE_COPY)
        return set_caps(COPY_CAPS, e);
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return err_set_errno(e, errno, "cannot drop rights");
    return set_caps(0, e);
}

static int enter_root(int fd, const char *path, struct err *e)
{
    if (fd < 0 || fchdir(fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return err_set_errno(e, fd < 0 ? -fd : errno, "%.300s", path);
    close(fd);
    return 0;
}

static int run_files(const json_t *spec, struct err *e)
{
    const char *op = json_get_str(spec, "op"), *path = json_get_str(spec, "path");
    bool put = op && strcmp(op, "write") == 0;
    if (!op || !path || path[0] != '/')
        return err_set(e, EINVAL, "a path must begin with '/'");
    umask(0);
    int r = enter_root((int)json_get_int(spec, "rootFd", -EBADF), "/", e);
    if (r == 0 && put)
        r = enter_root(files_open(path, O_PATH | O_DIRECTORY), path, e);
    if (r == 0)
        r = set_limits(e);
    if (r == 0)
        r = set_caps(put ? COPY_CAPS : CAP(CAP_DAC_READ_SEARCH), e);
    if (r < 0)
        return r;
    if (put) {
        const struct copy c = {
            .put = {.chmod = (mode_t)-1}, .dest = "/", .max_bytes = UNPACK_MAX_BYTES};
        return tar_stream(&c, STDIN_FILENO, e);
    }
    if (strcmp(op, "list") == 0)
        return files_list(path, e);
    return strcmp(op, "read") == 0 ? files_read(path, e)
                                   : err_set(e, EINVAL, "no operation '%.20s'", op);
}

static int run(enum mode mode, const json_t *spec, struct err *e)
{
    const char *source = json_get_str(spec, "source");
    bool stage = source && strcmp(source, "stage") == 0;
    int disk = -1, from = -1;
    if (mode != MODE_COPY || json_get_int(spec, "disk", -1) >= 0) {
        disk = stage ? -1 : open_disk(spec, e);
        if (disk < 0 && !stage)
            return disk;
    }
    if (mode == MODE_COPY && stage) {
        from = open(GUEST_FROM_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (from < 0)
            return err_set_errno(e, errno, "cannot open the source stage");
    }
    int r = lock_up(mode, e);
    if (r < 0)
        return r;
    if (mode == MODE_SCAN)
        return scan_run(disk, spec, e);
    return mode == MODE_READ ? read_run(disk, spec, e) : copy_run(disk, from, spec, e);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"scan", "read", "copy", "files"};
    struct err e = {0};
    int mode = -1;
    for (int i = 0; argc == 3 && i < 4; i++)
        if (strcmp(argv[1], names[i]) == 0)
            mode = i;
    if (mode < 0) {
        fprintf(stderr, "usage: tinderbox-unpack scan|read|copy|files JSON\n");
        return 2;
    }
    setlocale(LC_ALL, "C.UTF-8"); /* libarchive converts names through it */
    CLEANUP(cleanup_json)
    json_t *spec = NULL;
    int r = json_parse(argv[2], strlen(argv[2]), WIRE_MAX_FRAME_DATA, &spec, &e);
    if (r == 0)
        r = mode == MODE_FILES ? run_files(spec, &e) : run((enum mode)mode, spec, &e);
    if (r < 0)
        out_error(&e);
    else
        out_exit();
    return 0;
}
