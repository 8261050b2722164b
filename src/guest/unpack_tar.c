/* SPDX-License-Identifier: Apache-2.0 */
/* Tar into a directory: ADD of an archive, plain or compressed, and FILES from a pipe. */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/unpack.h"

static char chunk[65536];

static struct archive *open_tar(int fd)
{
    struct archive *a = archive_read_new();
    if (!a)
        return NULL;
    archive_read_support_format_tar(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    if (lseek(fd, 0, SEEK_SET) != 0 || archive_read_open_fd(a, fd, 65536) != ARCHIVE_OK) {
        archive_read_free(a);
        return NULL;
    }
    return a;
}

/* Tar members may start with "/" or "./" by custom; ".." is refused as anywhere. */
static int member_path(const struct copy *c, const char *raw, char out[UNPACK_MAX_PATH],
                       struct err *e)
{
    char name[UNPACK_MAX_PATH];
    if (!raw)
        return err_set(e, EBADMSG, "a member's name is not valid UTF-8");
    while (*raw == '/')
        raw++;
    int r = name_clean(raw, name, e);
    return r < 0 ? r : copy_path(out, c->dest, name, e);
}

static uint64_t unpacked; /* bytes; one archive or a few of the same build step per process */

static int put_chunk(const struct copy *c, int fd, size_t n, const char *path, struct err *e)
{
    unpacked += n;
    if (c->max_bytes && unpacked > c->max_bytes)
        return err_set(e, EBADMSG, "the archive unpacks to more than %llu bytes",
                       (unsigned long long)c->max_bytes);
    int r = fs_write_all(fd, chunk, n);
    return r < 0 ? err_set_errno(e, -r, "%.300s", path) : 0;
}

static int put_data(const struct copy *c, struct archive *a, const char *path,
                    const struct put_meta *m, struct archive_entry *ent, struct err *e)
{
    int fd = put_file(&c->put, path, e);
    if (fd < 0)
        return fd;
    la_ssize_t n;
    while ((n = archive_read_data(a, chunk, sizeof chunk)) > 0) {
        int r = put_chunk(c, fd, (size_t)n, path, e);
        if (r < 0) {
            close(fd);
            return r;
        }
    }
    if (n < 0) {
        close(fd);
        return err_set(e, EBADMSG, "the archive is damaged at '%.200s': %s", path,
                       archive_error_string(a));
    }
    const char *name;
    const void *value;
    size_t size;
    int r = put_file_end(&c->put, fd, path, m, e);
    archive_entry_xattr_reset(ent);
    while (r == 0 && archive_entry_xattr_next(ent, &name, &value, &size) == ARCHIVE_OK)
        if (strcmp(name, "security.capability") == 0 || strncmp(name, "user.", 5) == 0)
            (void)lsetxattr(path, name, value, size, 0); /* as tar does: best effort */
    return r;
}

static int put_member(const struct copy *c, struct archive *a, struct archive_entry *ent,
                      struct err *e)
{
    char path[UNPACK_MAX_PATH], existing[UNPACK_MAX_PATH];
    const struct put_meta m = {.mode = archive_entry_perm(ent),
                               .uid = (uid_t)archive_entry_uid(ent),
                               .gid = (gid_t)archive_entry_gid(ent),
                               .mtime = {.tv_sec = archive_entry_mtime(ent)}};
    int r = member_path(c, archive_entry_pathname(ent), path, e);
    if (r < 0)
        return r;
    if (archive_entry_hardlink(ent)) {
        r = member_path(c, archive_entry_hardlink(ent), existing, e);
        return r < 0 ? r : put_hardlink(&c->put, path, existing, e);
    }
    switch (archive_entry_filetype(ent)) {
    case AE_IFREG:
        return put_data(c, a, path, &m, ent, e);
    case AE_IFDIR:
        return put_dir(&c->put, path, &m, e);
    case AE_IFLNK:
        return put_link(&c->put, path, archive_entry_symlink(ent), &m, e);
    case AE_IFIFO:
    case AE_IFCHR:
    case AE_IFBLK:
        return put_node(&c->put, path, archive_entry_filetype(ent), archive_entry_rdev(ent), &m, e);
    default:
        return 0; /* sockets are not kept in archives */
    }
}

/* The members from the one that got tells of (the result of reading its header) to the end. */
static int put_members(const struct copy *c, struct archive *a, struct archive_entry *ent, int got,
                       struct err *e)
{
    unsigned n = 0;
    int r = 0;
    while (r == 0 && (got == ARCHIVE_OK || got == ARCHIVE_WARN)) {
        r = ++n > UNPACK_MAX_MEMBERS
                ? err_set(e, EBADMSG, "more than %d members", UNPACK_MAX_MEMBERS)
                : put_member(c, a, ent, e);
        if (r == 0)
            got = archive_read_next_header(a, &ent);
    }
    if (r == 0 && got != ARCHIVE_EOF) {
        const char *why = archive_error_string(a);
        r = err_set(e, EBADMSG, "damaged: %s", why ? why : "not a tar archive");
    }
    return r;
}

int tar_stream(const struct copy *c, int fd, struct err *e)
{
    struct archive *a = archive_read_new();
    struct archive_entry *ent = NULL;
    if (!a)
        return err_set(e, ENOMEM, "out of memory");
    archive_read_support_format_tar(a);
    int got = archive_read_open_fd(a, fd, sizeof chunk);
    if (got == ARCHIVE_OK)
        got = archive_read_next_header(a, &ent);
    int r = put_members(c, a, ent, got, e);
    archive_read_free(a);
    return r;
}

int tar_try(const struct copy *c, int fd, const char *name, struct err *e)
{
    struct archive *a = open_tar(fd);
    struct archive_entry *ent;
    if (!a)
        return 0;
    int got = archive_read_next_header(a, &ent);
    if (got != ARCHIVE_OK && got != ARCHIVE_WARN) {
        archive_read_free(a); /* not an archive of a kind that ADD unpacks */
        return 0;
    }
    int r = put_mkdir_p(&c->put, c->dest, e);
    if (r == 0)
        r = put_members(c, a, ent, got, e);
    archive_read_free(a);
    return r < 0 ? err_wrap(e, "%.200s", name) : 1;
}
