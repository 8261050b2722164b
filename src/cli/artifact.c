/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/artifact.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

#define PATH_LEN_MAX 4095
#define DEPTH_MAX 64

struct writer {
    struct archive *a; /* owned */
    uint64_t files;
    struct err *e;
};

static int failed(struct writer *w, const char *path)
{
    int code = archive_errno(w->a);
    return err_set(w->e, code > 0 ? code : EIO, "cannot archive %s: %s", path,
                   archive_error_string(w->a));
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int keep(const struct dirent *d)
{
    return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

/* Exactly st_size bytes: a file that grows or shrinks meanwhile is an error, not a torn copy. */
static int copy_data(struct writer *w, int fd, const char *path, int64_t size)
{
    static char chunk[1 << 16];
    while (size > 0) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0)
            return err_set_errno(w->e, errno, "cannot read %s", path);
        if (n == 0 || n > size)
            return err_set(w->e, EIO, "%s changed while it was read", path);
        if (archive_write_data(w->a, chunk, (size_t)n) != n)
            return failed(w, path);
        size -= n;
    }
    return 0;
}

static int write_entry(struct writer *w, int dirfd_, const char *name, const char *path,
                       const struct stat *st)
{
    char target[PATH_LEN_MAX + 1];
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_mode(entry, st->st_mode);
    archive_entry_set_mtime(entry, st->st_mtime, 0);
    archive_entry_set_size(entry, S_ISREG(st->st_mode) ? st->st_size : 0);
    int rc = 0;
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(dirfd_, name, target, PATH_LEN_MAX);
        target[n < 0 ? 0 : n] = '\0';
        archive_entry_set_symlink(entry, target);
        if (n < 0)
            rc = err_set_errno(w->e, errno, "cannot read the link %s", path);
    }
    if (rc == 0 && archive_write_header(w->a, entry) != ARCHIVE_OK)
        rc = failed(w, path);
    archive_entry_free(entry);
    w->files++;
    return rc;
}

static int add_file(struct writer *w, int dirfd_, const char *name, const char *path)
{
    struct stat st;
    CLEANUP(cleanup_close)
    int fd = openat(dirfd_, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(w->e, errno, "cannot read %s", path);
    int rc = write_entry(w, dirfd_, name, path, &st);
    return rc < 0 ? rc : copy_data(w, fd, path, st.st_size);
}

static int add_tree(struct writer *w, int fd, const char *path, unsigned depth);

static int add_subdir(struct writer *w, int dirfd_, const char *name, const char *path,
                      const struct stat *st, unsigned depth)
{
    char slashed[PATH_LEN_MAX + 2];
    snprintf(slashed, sizeof slashed, "%s/", path);
    int rc = write_entry(w, dirfd_, name, slashed, st);
    if (rc < 0)
        return rc;
    int fd = openat(dirfd_, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set_errno(w->e, errno, "cannot read %s", path);
    rc = add_tree(w, fd, path, depth + 1);
    close(fd);
    return rc;
}

static int add_one(struct writer *w, int fd, const char *above, const char *name, unsigned depth)
{
    char path[PATH_LEN_MAX + 1];
    struct stat st;
    if (depth == 0 && strcmp(name, ".git") == 0)
        return 0;
    int n = snprintf(path, sizeof path, "%s%s%s", above, *above ? "/" : "", name);
    if (n < 0 || (size_t)n >= sizeof path || depth > DEPTH_MAX)
        return err_set(w->e, ENAMETOOLONG, "%s: the path is too long or too deep", above);
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set_errno(w->e, errno, "cannot read %s", path);
    if (S_ISDIR(st.st_mode))
        return add_subdir(w, fd, name, path, &st, depth);
    if (S_ISREG(st.st_mode))
        return add_file(w, fd, name, path);
    if (S_ISLNK(st.st_mode))
        return write_entry(w, fd, name, path, &st);
    return err_set(w->e, EINVAL, "%s is neither a file, a directory nor a link", path);
}

static int add_tree(struct writer *w, int fd, const char *path, unsigned depth)
{
    struct dirent **names = NULL;
    int n = scandirat(fd, ".", &names, keep, by_bytes), rc = 0;
    if (n < 0)
        return err_set_errno(w->e, errno, "cannot read %s", *path ? path : "the directory");
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = add_one(w, fd, path, names[i]->d_name, depth);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* Fast compression: the archive travels over loopback and is read once. */
static int open_writer(struct writer *w, int fd)
{
    w->a = archive_write_new();
    if (!w->a)
        return err_set(w->e, ENOMEM, "out of memory");
    if (archive_write_set_format_zip(w->a) != ARCHIVE_OK ||
        archive_write_set_options(w->a, "zip:compression-level=1,zip:hdrcharset=UTF-8") !=
            ARCHIVE_OK ||
        archive_write_open_fd(w->a, fd) != ARCHIVE_OK)
        return failed(w, "the directory");
    return 0;
}

static int temporary_file(struct err *e)
{
    const char *dir = getenv("TMPDIR");
    dir = dir && *dir ? dir : "/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char path[PATH_LEN_MAX + 1];
    snprintf(path, sizeof path, "%s/tinderbox-XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a temporary file in %s", dir);
    unlink(path);
    return fd;
}

int artifact_pack(const char *dir, int *ret, uint64_t *files, struct err *e)
{
    struct stat st;
    CLEANUP(cleanup_close)
    int source = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source < 0)
        return err_set_errno(e, errno, "cannot read the directory %s", dir);
    if (fstatat(source, "Dockerfile", &st, 0) < 0)
        return err_set(e, ENOENT, "%s has no Dockerfile", dir);
    int out = temporary_file(e);
    if (out < 0)
        return out;
    struct writer w = {.e = e};
    int rc = open_writer(&w, out);
    if (rc == 0)
        rc = add_tree(&w, source, "", 0);
    if (rc == 0 && archive_write_close(w.a) != ARCHIVE_OK)
        rc = failed(&w, dir);
    archive_write_free(w.a);
    if (rc < 0) {
        close(out);
        return rc;
    }
    *files = w.files;
    *ret = out;
    return 0;
}
