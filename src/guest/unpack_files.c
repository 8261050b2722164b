/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the running application: LIST and READ. The process has changed its root to the
 * application's, whose every byte is hostile: the way to the path is resolved by the kernel without
 * /proc's magic links, every step below it goes through a descriptor and follows no link, and only
 * regular files are opened. File systems mounted below the path are shown as empty directories, so
 * that the root can be copied without /proc and /sys.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/unpack.h"
#include "proto/wire.h"

#define DEPTH_MAX 256

static char chunk[65536];

int files_open(const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

/* ---- LIST ---- */

static const char *type_name(mode_t mode)
{
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "dir" : S_ISLNK(mode) ? "link" : "other";
}

/* One record; a name or target that is no UTF-8 cannot be told in JSON and is left out (null). */
static void record(int dir, const char *name, const struct stat *st)
{
    char target[UNPACK_MAX_PATH];
    ssize_t n = S_ISLNK(st->st_mode) ? readlinkat(dir, name, target, sizeof target - 1) : -1;
    target[n < 0 ? 0 : n] = '\0';
    json_t *v = json_pack("{s:s?, s:s, s:i, s:I, s:I, s:I, s:I}", "name", NULL, "type",
                          type_name(st->st_mode), "mode", (int)(st->st_mode & 07777), "uid",
                          (json_int_t)st->st_uid, "gid", (json_int_t)st->st_gid, "size",
                          (json_int_t)st->st_size, "mtime", (json_int_t)st->st_mtime);
    json_t *text = json_string(name);
    if (text)
        json_object_set_new(v, "name", text);
    json_t *to = n < 0 ? NULL : json_string(target);
    if (to)
        json_object_set_new(v, "target", to);
    out_record(v);
}

int files_list(const char *path, struct err *e)
{
    struct stat st;
    int fd = files_open(path, O_PATH);
    if (fd < 0 || fstat(fd, &st) < 0) {
        int code = fd < 0 ? -fd : errno;
        if (fd >= 0)
            close(fd);
        return err_set_errno(e, code, "%.300s", path);
    }
    record(fd, "", &st);
    int again = S_ISDIR(st.st_mode) ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    close(fd);
    if (!S_ISDIR(st.st_mode))
        return 0;
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d)
        return err_set_errno(e, errno, "%.300s", path);
    unsigned count = 0;
    int r = 0;
    for (struct dirent *de; r == 0 && (de = readdir(d));) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
            fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue; /* or it has just been removed */
        if (++count > WIRE_FILES_MAX_LIST)
            r = err_set(e, EINVAL, "%.300s has more than %d entries", path, WIRE_FILES_MAX_LIST);
        else
            record(dirfd(d), de->d_name, &st);
    }
    closedir(d);
    return r;
}

/* ---- READ ---- */

struct reader {
    json_t *links; /* owned: object, "dev:inode" -> first path, of files with several names */
    dev_t dev;     /* of what was asked for */
    unsigned entries;
    struct err *e;
};

static char tar_type(mode_t mode)
{
    return S_ISDIR(mode)    ? '5'
           : S_ISLNK(mode)  ? '2'
           : S_ISCHR(mode)  ? '3'
           : S_ISBLK(mode)  ? '4'
           : S_ISFIFO(mode) ? '6'
                            : '0';
}

static int put_header(struct reader *r, int dir, const char *name, const char *path,
                      const struct stat *st, const char *hardlink)
{
    char target[UNPACK_MAX_PATH];
    struct tar_entry t = {
        .path = path, .link = hardlink, .type = hardlink ? '1' : tar_type(st->st_mode), .st = st};
    if (++r->entries > UNPACK_MAX_MEMBERS)
        return err_set(r->e, EINVAL, "more than %d files", UNPACK_MAX_MEMBERS);
    if (t.type == '2') {
        ssize_t n = readlinkat(dir, name, target, sizeof target - 1);
        if (n < 0)
            return err_set_errno(r->e, errno, "%.300s", path);
        target[n] = '\0';
        t.link = target;
    }
    return tar_put(&t, r->e);
}

/* The header has promised st_size bytes: more is left out, what is missing is filled with zeroes,
 * as tar does for files that change meanwhile. */
static int put_bytes(struct reader *r, int fd, const char *path, int64_t size)
{
    for (int64_t left = size; left > 0;) {
        size_t want = left < (int64_t)sizeof chunk ? (size_t)left : sizeof chunk;
        ssize_t n = read(fd, chunk, want);
        if (n < 0)
            return err_set_errno(r->e, errno, "%.300s", path);
        if (n == 0) {
            memset(chunk, 0, want);
            n = (ssize_t)want;
        }
        tar_put_data(chunk, (size_t)n);
        left -= n;
    }
    tar_put_padding((uint64_t)size);
    return 0;
}

static int read_file(struct reader *r, int dir, const char *name, const char *path)
{
    char key[64];
    struct stat st;
    CLEANUP(cleanup_close)
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(r->e, errno, "%.300s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(r->e, EINVAL, "%.300s changed while it was read", path);
    const char *first = NULL;
    if (st.st_nlink > 1) {
        snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)st.st_dev,
                 (unsigned long long)st.st_ino);
        first = json_string_value(json_object_get(r->links, key));
        if (!first) /* a path that is no UTF-8 is not remembered: each name gets the bytes */
            json_object_set_new(r->links, key, json_string(path));
    }
    int rc = put_header(r, dir, name, path, &st, first);
    return rc < 0 || first ? rc : put_bytes(r, fd, path, st.st_size);
}

static int read_child(struct reader *r, int dir, const char *name, const char *path,
                      unsigned depth);

/* A directory's header and what is in it; fd is borrowed. */
static int read_dir(struct reader *r, int fd, const char *path, unsigned depth)
{
    struct stat st;
    if (depth > DEPTH_MAX)
        return err_set(r->e, EINVAL, "'%.200s...' is nested too deeply", path);
    if (fstat(fd, &st) < 0)
        return err_set_errno(r->e, errno, "%.300s", path);
    int rc = put_header(r, fd, ".", path, &st, NULL);
    if (rc < 0 || st.st_dev != r->dev)
        return rc;
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d)
        return err_set_errno(r->e, errno, "%.300s", path);
    for (struct dirent *de; rc == 0 && (de = readdir(d));) {
        char below[UNPACK_MAX_PATH];
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        rc = copy_path(below, path, de->d_name, r->e);
        if (rc == 0)
            rc = read_child(r, dirfd(d), de->d_name, below, depth + 1);
    }
    closedir(d);
    return rc;
}

static int read_child(struct reader *r, int dir, const char *name, const char *path, unsigned depth)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT && depth ? 0 : err_set_errno(r->e, errno, "%.300s", path);
    if (S_ISSOCK(st.st_mode))
        return depth ? 0 : err_set(r->e, EINVAL, "%.300s is a socket", path);
    if (S_ISREG(st.st_mode))
        return read_file(r, dir, name, path);
    if (!S_ISDIR(st.st_mode))
        return put_header(r, dir, name, path, &st, NULL);
    CLEANUP(cleanup_close)
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(r->e, errno, "%.300s", path);
    if (depth == 0)
        r->dev = st.st_dev;
    return read_dir(r, fd, path, depth);
}

/* "/a/b" is b in /a, a link taken as such; "/a/b/", "/a/." and "/" are the directories behind. */
static int read_path(struct reader *r, const char *path)
{
    char parent[UNPACK_MAX_PATH], name[UNPACK_MAX_NAME + 1] = ".";
    size_t n = strlen(path), end = n;
    while (end && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && path[start - 1] != '/')
        start--;
    if (n >= sizeof parent || end - start >= sizeof name)
        return err_set(r->e, ENAMETOOLONG, "the path is too long");
    memcpy(parent, path, start);
    parent[start] = '\0';
    bool dots = end - start <= 2 && strspn(path + start, ".") >= end - start;
    if (!dots)
        snprintf(name, sizeof name, "%.*s", (int)(end - start), path + start);
    bool whole = dots || end < n;
    CLEANUP(cleanup_close)
    int fd = files_open(whole ? path : parent, whole ? O_RDONLY | O_DIRECTORY : O_PATH);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(r->e, fd < 0 ? -fd : errno, "%.300s", path);
    r->dev = st.st_dev;
    return whole ? read_dir(r, fd, name, 0) : read_child(r, fd, name, name, 0);
}

int files_read(const char *path, struct err *e)
{
    struct reader r = {.links = json_object(), .e = e};
    int rc = r.links ? read_path(&r, path) : err_set(e, ENOMEM, "out of memory");
    if (rc == 0)
        tar_put_end();
    json_decref(r.links);
    return rc;
}
