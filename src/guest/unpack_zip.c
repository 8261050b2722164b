/* SPDX-License-Identifier: Apache-2.0 */
/* Zip entries one after the other, each checked; bounded by count and by unpacked bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/unpack.h"

static la_ssize_t on_read(struct archive *a, void *ctx, const void **block)
{
    struct zip *z = ctx;
    uint64_t left = z->at < z->size ? z->size - z->at : 0;
    size_t want = left < sizeof z->block ? (size_t)left : sizeof z->block;
    ssize_t n = pread(z->fd, z->block, want, (off_t)z->at);
    if (n < 0) {
        archive_set_error(a, errno, "cannot read the archive");
        return ARCHIVE_FATAL;
    }
    z->at += (uint64_t)n;
    *block = z->block;
    return n;
}

static la_int64_t on_seek(struct archive *a UNUSED, void *ctx, la_int64_t offset, int whence)
{
    struct zip *z = ctx;
    int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (int64_t)z->at : (int64_t)z->size;
    int64_t to;
    if (ckd_add(&to, base, offset) || to < 0 || (uint64_t)to > z->size)
        return ARCHIVE_FATAL;
    z->at = (uint64_t)to;
    return to;
}

static int lib_error(const struct zip *z, const char *path, struct err *e)
{
    const char *why = archive_error_string(z->ar);
    return err_set(e, EBADMSG, "the entry '%.200s' cannot be read: %s", path,
                   why ? why : "damaged archive");
}

int zip_open(struct zip *z, int fd, uint64_t size, struct err *e)
{
    z->fd = fd;
    z->size = size;
    z->at = z->bytes = 0;
    z->entries = 0;
    z->ar = NULL;
    z->index = names_new();
    z->seen = names_new();
    int r = zip_read_index(z, e);
    if (r < 0)
        return r;
    z->ar = archive_read_new();
    if (!z->ar)
        return err_set(e, ENOMEM, "out of memory");
    archive_read_support_format_zip_seekable(z->ar);
    archive_read_set_read_callback(z->ar, on_read);
    archive_read_set_seek_callback(z->ar, on_seek);
    archive_read_set_callback_data(z->ar, z);
    if (archive_read_open1(z->ar) != ARCHIVE_OK)
        return err_set(e, EBADMSG, "the file is not a zip archive: %s",
                       archive_error_string(z->ar));
    return 0;
}

void zip_close(struct zip *z)
{
    if (z->ar)
        archive_read_free(z->ar);
    names_free(z->index);
    names_free(z->seen);
    z->ar = NULL;
    z->index = z->seen = NULL;
}

static int take_type(struct archive_entry *ent, struct zip_entry *x, struct err *e)
{
    if (archive_entry_hardlink(ent))
        return err_set(e, EBADMSG, "the entry '%.200s' is a hard link", x->path);
    switch (archive_entry_filetype(ent)) {
    case AE_IFREG:
        x->type = 'f';
        return 0;
    case AE_IFDIR:
        x->type = 'd';
        return 0;
    case AE_IFLNK:
        x->type = 'l';
        x->target = archive_entry_symlink_utf8(ent);
        if (!x->target || !x->target[0] || strlen(x->target) >= UNPACK_MAX_PATH)
            return err_set(e, EBADMSG, "the entry '%.200s' is a link with a bad target", x->path);
        return 0;
    default:
        return err_set(e, EBADMSG, "the entry '%.200s' is neither file, directory nor link",
                       x->path);
    }
}

static int take_header(struct zip *z, struct archive_entry *ent, struct zip_entry *x, struct err *e)
{
    const char *raw = archive_entry_pathname_utf8(ent);
    if (!raw)
        raw = archive_entry_pathname(ent);
    if (!raw)
        return err_set(e, EBADMSG, "an entry's name is not valid UTF-8");
    int r = name_clean(raw, x->path, e);
    if (r == 0)
        r = take_type(ent, x, e);
    if (r < 0)
        return r;
    int modes = names_get(z->index, x->path);
    if (modes < 0)
        return err_set(e, EBADMSG, "the entry '%.200s' is not listed in the archive's directory",
                       x->path);
    x->mode = modes ? archive_entry_perm(ent) : x->type == 'd' ? 0755 : 0644;
    x->mtime = archive_entry_mtime_is_set(ent) ? archive_entry_mtime(ent) : 0;
    r = names_add(z->seen, x->path, 0);
    if (r == 0 && x->path[0])
        return err_set(e, EBADMSG, "the entry '%.200s' is there twice", x->path);
    return r < 0 ? err_set(e, ENOMEM, "out of memory") : 1;
}

int zip_next(struct zip *z, struct zip_entry *ret, struct err *e)
{
    struct archive_entry *ent;
    int r = archive_read_next_header(z->ar, &ent);
    if (r == ARCHIVE_EOF)
        return 0;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return err_set(e, EBADMSG, "the archive is damaged: %s", archive_error_string(z->ar));
    if (++z->entries > UNPACK_MAX_ENTRIES)
        return err_set(e, EBADMSG, "the archive has more than %d entries", UNPACK_MAX_ENTRIES);
    ret->target = NULL;
    return take_header(z, ent, ret, e);
}

ssize_t zip_read(struct zip *z, void *p, size_t n, struct err *e)
{
    la_ssize_t r = archive_read_data(z->ar, p, n);
    if (r < 0)
        return lib_error(z, "current", e);
    z->bytes += (uint64_t)r;
    if (z->bytes > UNPACK_MAX_BYTES)
        return err_set(e, EBADMSG, "the archive unpacks to more than %llu GiB",
                       UNPACK_MAX_BYTES >> 30);
    return r;
}
