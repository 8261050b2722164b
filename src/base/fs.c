/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"

int path_join(char *out, size_t cap, const char *a, const char *b, struct err *e)
{
    int n = snprintf(out, cap, "%s/%s", a, b);
    if (n < 0 || (size_t)n >= cap)
        return err_set(e, ENAMETOOLONG, "path too long: %.200s/%.200s", a, b);
    return 0;
}

int fs_mkdir_p(const char *path, mode_t mode, struct err *e)
{
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return err_set(e, ENAMETOOLONG, "path too long: %.200s", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return err_set_errno(e, errno, "create directory %s", part);
    }
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return err_set(e, ENOTDIR, "%s is not a directory", path);
    return 0;
}

static int remove_at(int parent, const char *name, unsigned depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    if (depth > 64)
        return -ELOOP;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    DIR *d = fdopendir(fd);
    if (!d) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = 0;
    for (struct dirent *ent; r == 0 && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            r = remove_at(fd, ent->d_name, depth + 1);
    closedir(d);
    if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        r = -errno;
    return r;
}

int fs_remove_tree(const char *path, struct err *e)
{
    int r = remove_at(AT_FDCWD, path, 0);
    return r < 0 ? err_set_errno(e, -r, "remove %s", path) : 0;
}

int fs_read_file(const char *path, struct buf *out, struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, "open %s", path);
    for (;;) {
        char chunk[16384];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(e, errno, "read %s", path);
        if (n == 0)
            return 0;
        int r = buf_add(out, chunk, (size_t)n);
        if (r < 0)
            return err_set_errno(e, -r, "read %s", path);
    }
}

int fs_write_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t k = write(fd, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        at += k;
        n -= (size_t)k;
    }
    return 0;
}

int fs_read_at(int fd, void *p, size_t n, uint64_t offset)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = pread(fd, (char *)p + at, n - at, (off_t)(offset + at));
        if (k == 0)
            return -EBADMSG;
        if (k < 0 && errno != EINTR)
            return -errno;
        at += k > 0 ? (size_t)k : 0;
    }
    return 0;
}

int fs_write_at(int fd, const void *p, size_t n, uint64_t offset)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = pwrite(fd, (const char *)p + at, n - at, (off_t)(offset + at));
        if (k < 0 && errno != EINTR)
            return -errno;
        at += k > 0 ? (size_t)k : 0;
    }
    return 0;
}

int fs_fsync_dir(const char *path, struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_set_errno(e, errno, "sync directory %s", path);
    return 0;
}

static int sync_parent(const char *path, struct err *e)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir)
        return err_set(e, ENAMETOOLONG, "path too long");
    memcpy(dir, path, n);
    dir[n] = '\0';
    return fs_fsync_dir(n ? dir : slash ? "/" : ".", e);
}

int fs_write_file(const char *path, const void *p, size_t n, mode_t mode, struct err *e)
{
    char tmp[4096], nonce[17];
    unsigned char raw[8];
    random_bytes(raw, sizeof raw);
    hex_encode(nonce, raw, sizeof raw);
    if (snprintf(tmp, sizeof tmp, "%s.%s.tmp", path, nonce) >= (int)sizeof tmp)
        return err_set(e, ENAMETOOLONG, "path too long: %.200s", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_set_errno(e, errno, "create %s", tmp);
    int r = fs_write_all(fd, p, n);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && rename(tmp, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(tmp);
        return err_set_errno(e, -r, "write %s", path);
    }
    return sync_parent(path, e);
}

/* For file systems between which the kernel does not copy by itself. */
static ssize_t copy_by_hand(int in, off_t *from, int out, off_t *to, size_t n)
{
    char chunk[65536];
    ssize_t k = pread(in, chunk, n < sizeof chunk ? n : sizeof chunk, *from);
    for (ssize_t at = 0; at < k;) {
        ssize_t w = pwrite(out, chunk + at, (size_t)(k - at), *to);
        if (w < 0)
            return -1;
        at += w;
        *to += w;
    }
    *from += k > 0 ? k : 0;
    return k;
}

static ssize_t copy_some(int in, off_t *from, int out, off_t *to, size_t n)
{
    ssize_t k = copy_file_range(in, from, out, to, n, 0);
    bool unable =
        k < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS);
    return unable ? copy_by_hand(in, from, out, to, n) : k;
}

static int copy_ranges(int in, int out, off_t size)
{
    off_t at = 0;
    while (at < size) {
        off_t data = lseek(in, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break; /* only a hole is left */
        if (data < 0)
            return -errno;
        off_t end = lseek(in, data, SEEK_HOLE);
        if (end < 0)
            return -errno;
        off_t to = data;
        while (data < end) {
            ssize_t n = copy_some(in, &data, out, &to, (size_t)(end - data));
            if (n < 0)
                return -errno;
            if (n == 0)
                return -EIO; /* the source shrank under us */
        }
        at = end;
    }
    return ftruncate(out, size) < 0 ? -errno : 0;
}

int fs_copy_file(const char *src, const char *dst, mode_t mode, struct err *e)
{
    CLEANUP(cleanup_close)
    int in = open(src, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return err_set_errno(e, errno, "open %s", src);
    CLEANUP(cleanup_close)
    int out = open(dst, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (out < 0)
        return err_set_errno(e, errno, "create %s", dst);
    struct stat st;
    int r = fstat(in, &st) < 0 ? -errno : 0;
    if (r == 0 && ioctl(out, FICLONE, in) < 0)
        r = copy_ranges(in, out, st.st_size);
    if (r < 0) {
        unlink(dst);
        return err_set_errno(e, -r, "copy %s to %s", src, dst);
    }
    return 0;
}

bool fs_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static uint64_t tree_bytes_at(int parent, const char *name, unsigned depth)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    uint64_t sum = (uint64_t)st.st_blocks * 512;
    if (!S_ISDIR(st.st_mode) || depth > 64)
        return sum;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return sum;
    }
    for (struct dirent *ent; (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            sum += tree_bytes_at(fd, ent->d_name, depth + 1);
    closedir(d);
    return sum;
}

uint64_t fs_tree_bytes(const char *path)
{
    return tree_bytes_at(AT_FDCWD, path, 0);
}

int fs_free_bytes(const char *path, uint64_t *ret, struct err *e)
{
    struct statvfs v;
    if (statvfs(path, &v) < 0)
        return err_set_errno(e, errno, "statvfs %s", path);
    *ret = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}
