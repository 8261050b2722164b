/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/macros.h"

#define PATH_LEN_MAX 4096

static char chunk[65536];

static int failed(struct archive *a, const char *what, const char *path, struct err *e)
{
    int code = archive_errno(a);
    const char *why = archive_error_string(a);
    return err_set(e, code > 0 ? code : EIO, "cannot %s %.300s: %s", what, path,
                   why ? why : "unknown");
}

/* path with its first from_n bytes exchanged for name. */
static int renamed(char out[PATH_LEN_MAX], const char *path, size_t from_n, const char *name,
                   struct err *e)
{
    int n = snprintf(out, PATH_LEN_MAX, "%s%s", name, path + from_n);
    return n < 0 || n >= PATH_LEN_MAX ? err_set(e, EINVAL, "the path '%.64s...' is too long", path)
                                      : 0;
}

/* ---- making ---- */

struct maker {
    struct archive *disk, *out;               /* owned */
    struct archive_entry_linkresolver *links; /* owned */
    size_t src_n;                             /* length of the source's path */
    const char *name;
    bool archive;
};

static int put_data(struct maker *m, struct archive_entry *ent, struct err *e)
{
    const char *path = archive_entry_sourcepath(ent);
    if (archive_entry_size(ent) == 0 || archive_entry_filetype(ent) != AE_IFREG)
        return 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set_errno(e, errno, "%.300s", path);
    int64_t left = archive_entry_size(ent);
    int r = 0;
    while (left > 0 && r == 0) {
        size_t n = fread(chunk, 1, left < (int64_t)sizeof chunk ? (size_t)left : sizeof chunk, f);
        if (n == 0)
            r = err_set(e, EIO, "%.300s changed while it was read", path);
        else if (archive_write_data(m->out, chunk, n) != (la_ssize_t)n)
            r = failed(m->out, "archive", path, e);
        left -= (int64_t)n;
    }
    fclose(f);
    return r;
}

static int put_entry(struct maker *m, struct archive_entry *ent, struct err *e)
{
    char path[PATH_LEN_MAX];
    const char *source = archive_entry_sourcepath(ent);
    if (archive_entry_filetype(ent) == AE_IFSOCK)
        return 0;
    int r = renamed(path, source, m->src_n, m->name, e);
    if (r < 0)
        return r;
    archive_entry_set_pathname(ent, path);
    archive_entry_set_uname(ent, NULL);
    archive_entry_set_gname(ent, NULL);
    archive_entry_acl_clear(ent);
    archive_entry_xattr_clear(ent);
    archive_entry_set_fflags(ent, 0, 0);
    archive_entry_set_mtime(ent, archive_entry_mtime(ent), 0);
    archive_entry_unset_atime(ent);
    archive_entry_unset_ctime(ent);
    archive_entry_unset_birthtime(ent);
    if (!m->archive) {
        archive_entry_set_uid(ent, 0);
        archive_entry_set_gid(ent, 0);
    }
    struct archive_entry *none = NULL;
    archive_entry_linkify(m->links, &ent, &none); /* tar: the first name has the bytes */
    if (archive_write_header(m->out, ent) < ARCHIVE_WARN)
        return failed(m->out, "archive", source, e);
    return put_data(m, ent, e);
}

static int put_tree(struct maker *m, const char *src, struct err *e)
{
    struct archive_entry *ent = archive_entry_new();
    int r =
        archive_read_disk_open(m->disk, src) == ARCHIVE_OK ? 0 : failed(m->disk, "read", src, e);
    while (r == 0) {
        int got = archive_read_next_header2(m->disk, ent);
        if (got == ARCHIVE_EOF)
            break;
        if (got < ARCHIVE_WARN)
            r = failed(m->disk, "read", src, e);
        if (r == 0)
            r = put_entry(m, ent, e);
        if (r == 0)
            archive_read_disk_descend(m->disk);
    }
    archive_entry_free(ent);
    return r;
}

int tar_make(int fd, const char *src, const char *name, bool archive, struct err *e)
{
    char path[PATH_LEN_MAX];
    size_t n = strlen(src);
    if (n >= sizeof path)
        return err_set(e, EINVAL, "the path '%.64s...' is too long", src);
    strcpy(path, src);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    struct maker m = {.disk = archive_read_disk_new(),
                      .out = archive_write_new(),
                      .links = archive_entry_linkresolver_new(),
                      .src_n = n,
                      .name = name,
                      .archive = archive};
    if (!m.disk || !m.out || !m.links)
        abort();
    /* The command line's own link is followed when it ends in "/", as the kernel would. */
    if (n < strlen(src))
        archive_read_disk_set_symlink_hybrid(m.disk);
    else
        archive_read_disk_set_symlink_physical(m.disk);
    archive_entry_linkresolver_set_strategy(m.links, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
    int r = archive_write_set_format_pax_restricted(m.out) == ARCHIVE_OK &&
                    archive_write_open_fd(m.out, fd) == ARCHIVE_OK
                ? put_tree(&m, path, e)
                : failed(m.out, "archive", src, e);
    if (r == 0 && archive_write_close(m.out) != ARCHIVE_OK)
        r = failed(m.out, "archive", src, e);
    archive_write_free(m.out);
    archive_read_free(m.disk);
    archive_entry_linkresolver_free(m.links);
    return r;
}

/* ---- unpacking ---- */

static int open_tar(int fd, struct archive **ret, struct err *e)
{
    struct archive *a = archive_read_new();
    if (!a)
        abort();
    archive_read_support_format_tar(a);
    if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_open_fd(a, fd, sizeof chunk) != ARCHIVE_OK) {
        int r = failed(a, "read", "the answer", e);
        archive_read_free(a);
        return r;
    }
    *ret = a;
    return 0;
}

int tar_is_dir(int fd, bool *ret, struct err *e)
{
    struct archive *a;
    struct archive_entry *ent;
    int r = open_tar(fd, &a, e);
    if (r < 0)
        return r;
    if (archive_read_next_header(a, &ent) < ARCHIVE_WARN)
        r = failed(a, "read", "the answer", e);
    else
        *ret = archive_entry_filetype(ent) == AE_IFDIR;
    archive_read_free(a);
    return r;
}

struct unpacker {
    struct archive *in, *disk; /* owned */
    char top[PATH_LEN_MAX];    /* the first member's name: all others are below */
    const char *name;
    bool archive;
};

/* The new name of a member or of what it is a hard link to. */
static int place(const struct unpacker *u, const char *path, char out[PATH_LEN_MAX], struct err *e)
{
    size_t n = strlen(u->top);
    if (!path || strncmp(path, u->top, n) != 0 || (path[n] && path[n] != '/'))
        return err_set(e, EBADMSG, "the answer has a member that was not asked for");
    return renamed(out, path, n, u->name, e);
}

static int adapt(const struct unpacker *u, struct archive_entry *ent, struct err *e)
{
    char path[PATH_LEN_MAX];
    int r = place(u, archive_entry_pathname(ent), path, e);
    if (r < 0)
        return r;
    archive_entry_set_pathname(ent, path);
    if (archive_entry_hardlink(ent)) {
        r = place(u, archive_entry_hardlink(ent), path, e);
        archive_entry_set_hardlink(ent, path);
    }
    if (!u->archive)
        archive_entry_set_perm(ent, archive_entry_perm(ent) & 0777);
    return r;
}

static int copy_data(struct unpacker *u, const char *path, struct err *e)
{
    const void *p;
    size_t n;
    la_int64_t at;
    int got;
    while ((got = archive_read_data_block(u->in, &p, &n, &at)) == ARCHIVE_OK)
        if (archive_write_data_block(u->disk, p, n, at) < ARCHIVE_WARN)
            return failed(u->disk, "write", path, e);
    return got == ARCHIVE_EOF ? 0 : failed(u->in, "read", path, e);
}

static int unpack_one(struct unpacker *u, struct archive_entry *ent, struct err *e)
{
    mode_t type = archive_entry_filetype(ent);
    int r = adapt(u, ent, e);
    if (r < 0)
        return r;
    const char *path = archive_entry_pathname(ent);
    if (strcmp(path, ".") == 0) /* the directory that is there keeps its mode */
        return 0;
    if (!u->archive && (type == AE_IFCHR || type == AE_IFBLK)) {
        fprintf(stderr, "tinderbox: %s is a device and is left out\n", path);
        return 0;
    }
    if (archive_write_header(u->disk, ent) != ARCHIVE_OK)
        return failed(u->disk, "write", path, e);
    if (archive_entry_size(ent) > 0)
        r = copy_data(u, path, e);
    if (r == 0 && archive_write_finish_entry(u->disk) < ARCHIVE_WARN)
        r = failed(u->disk, "write", path, e);
    return r;
}

static int unpack_all(struct unpacker *u, struct err *e)
{
    struct archive_entry *ent;
    int got, r = 0;
    while (r == 0 && (got = archive_read_next_header(u->in, &ent)) != ARCHIVE_EOF) {
        if (got < ARCHIVE_WARN)
            return failed(u->in, "read", "the answer", e);
        const char *path = archive_entry_pathname(ent);
        if (!u->top[0])
            snprintf(u->top, sizeof u->top, "%s", path ? path : "");
        r = unpack_one(u, ent, e);
    }
    return r;
}

int tar_unpack(int fd, const char *dir, const char *name, bool archive, struct err *e)
{
    struct unpacker u = {.name = name, .archive = archive};
    int r = open_tar(fd, &u.in, e);
    if (r < 0)
        return r;
    u.disk = archive_write_disk_new();
    if (!u.disk)
        abort();
    int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;
    archive_write_disk_set_options(u.disk, flags | (archive ? ARCHIVE_EXTRACT_OWNER : 0));
    r = chdir(dir) < 0 ? err_set_errno(e, errno, "%.300s", dir) : unpack_all(&u, e);
    if (archive_write_close(u.disk) != ARCHIVE_OK && r == 0)
        r = failed(u.disk, "write", dir, e);
    archive_write_free(u.disk);
    archive_read_free(u.in);
    return r;
}
