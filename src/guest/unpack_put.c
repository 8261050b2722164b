/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files, directories and links below the stage's root. The process has changed its root to the
 * stage: a link on the way leads somewhere in the stage, never out of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/unpack.h"

bool put_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static mode_t mode_for(const struct put *p, mode_t mode)
{
    return (p->chmod == (mode_t)-1 ? mode : p->chmod) & 07777;
}

static int fail(struct err *e, const char *path)
{
    return err_set_errno(e, errno, "%.300s", path);
}

static int own_path(const struct put *p, const char *path, uid_t uid, gid_t gid, struct err *e)
{
    if (lchown(path, p->has_owner ? p->uid : uid, p->has_owner ? p->gid : gid) < 0)
        return fail(e, path);
    return 0;
}

int put_mkdir_p(const struct put *p, const char *path, struct err *e)
{
    char part[UNPACK_MAX_PATH];
    size_t n = strlen(path);
    if (put_is_dir(path))
        return 0;
    if (n >= sizeof part)
        return err_set(e, EBADMSG, "the path '%.200s...' is too long", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) == 0) {
            int r = own_path(p, part, 0, 0, e);
            if (r < 0)
                return r;
        } else if (errno != EEXIST) {
            return fail(e, part);
        } else if (!put_is_dir(part)) {
            return err_set(e, EINVAL, "%.300s is not a directory", part);
        }
    }
    return 0;
}

static int make_parent(const struct put *p, const char *path, struct err *e)
{
    char dir[UNPACK_MAX_PATH];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return 0;
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = '\0';
    return put_mkdir_p(p, dir, e);
}

int put_dir(const struct put *p, const char *path, const struct put_meta *m, struct err *e)
{
    int r = make_parent(p, path, e);
    if (r < 0)
        return r;
    if (mkdir(path, 0700) < 0) {
        if (errno == EEXIST && put_is_dir(path))
            return 0;
        if (errno == EEXIST)
            return err_set(e, EINVAL, "%.300s exists and is not a directory", path);
        return fail(e, path);
    }
    r = own_path(p, path, m->uid, m->gid, e);
    if (r == 0 && chmod(path, mode_for(p, m->mode)) < 0)
        r = fail(e, path);
    return r;
}

/* Makes room for a new file: what is there goes, unless it is a directory. */
static int clear_way(const struct put *p, const char *path, struct err *e)
{
    struct stat st;
    int r = make_parent(p, path, e);
    if (r < 0 || lstat(path, &st) < 0)
        return r;
    if (S_ISDIR(st.st_mode))
        return err_set(e, EINVAL, "cannot replace the directory %.300s by a file", path);
    return unlink(path) < 0 ? fail(e, path) : 0;
}

int put_file(const struct put *p, const char *path, struct err *e)
{
    int r = clear_way(p, path, e);
    if (r < 0)
        return r;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? fail(e, path) : fd;
}

int put_file_end(const struct put *p, int fd, const char *path, const struct put_meta *m,
                 struct err *e)
{
    const struct timespec times[2] = {m->mtime, m->mtime};
    int r = 0;
    if (fchown(fd, p->has_owner ? p->uid : m->uid, p->has_owner ? p->gid : m->gid) < 0 ||
        fchmod(fd, mode_for(p, m->mode)) < 0 || futimens(fd, times) < 0)
        r = fail(e, path);
    if (close(fd) < 0 && r == 0)
        r = fail(e, path);
    return r;
}

int put_link(const struct put *p, const char *path, const char *target, const struct put_meta *m,
             struct err *e)
{
    const struct timespec times[2] = {m->mtime, m->mtime};
    int r = clear_way(p, path, e);
    if (r < 0)
        return r;
    if (symlink(target, path) < 0 || utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(e, path);
    return own_path(p, path, m->uid, m->gid, e);
}

int put_hardlink(const struct put *p, const char *path, const char *existing, struct err *e)
{
    struct stat a, b;
    if (lstat(existing, &a) < 0)
        return fail(e, existing);
    if (lstat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev)
        return 0;
    int r = clear_way(p, path, e);
    if (r < 0)
        return r;
    return linkat(AT_FDCWD, existing, AT_FDCWD, path, 0) < 0 ? fail(e, path) : 0;
}

int put_node(const struct put *p, const char *path, mode_t type, dev_t dev,
             const struct put_meta *m, struct err *e)
{
    int r = clear_way(p, path, e);
    if (r < 0)
        return r;
    if (mknod(path, type | 0600, dev) < 0)
        return fail(e, path);
    r = own_path(p, path, m->uid, m->gid, e);
    if (r == 0 && chmod(path, mode_for(p, m->mode)) < 0)
        r = fail(e, path);
    return r;
}
