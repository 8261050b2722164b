/* SPDX-License-Identifier: Apache-2.0 */
#include "api/s3_blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/fs.h"
#include "base/log.h"

static int blob_path(const struct s3 *s, const char *name, char out[4096], struct err *e)
{
    return path_join(out, 4096, s->dir, name, e);
}

int s3_blob_create(struct s3 *s, struct s3_blob *ret, struct err *e)
{
    char path[4096];
    struct s3_blob b = {.s3 = s, .fd = -1};
    uuid_new(b.name);
    int r = blob_path(s, b.name, path, e);
    if (r < 0)
        return r;
    b.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (b.fd < 0)
        return err_set_errno(e, errno == ENOENT ? EIO : errno, "create %s", path);
    s3_checksum_begin(&b.md5, &S3_MD5);
    *ret = b;
    return 0;
}

int s3_blob_add(struct s3_blob *b, const char *p, size_t n, struct err *e)
{
    int r = fs_write_all(b->fd, p, n);
    if (r < 0)
        return err_set_errno(e, -r, "write the object's contents");
    s3_checksum_add(&b->md5, p, n);
    b->size += n;
    return 0;
}

int s3_blob_sync(struct s3_blob *b, struct err *e)
{
    if (fsync(b->fd) < 0)
        return err_set_errno(e, errno, "write the object's contents");
    return fs_fsync_dir(b->s3->dir, e);
}

void s3_blob_done(struct s3_blob *b)
{
    if (!b->s3)
        return;
    if (b->fd >= 0)
        close(b->fd);
    s3_checksum_done(&b->md5);
    if (!b->kept)
        s3_blob_remove(b->s3, b->name);
    *b = (struct s3_blob){.fd = -1};
}

int s3_blob_open(const struct s3 *s, const char *name, struct err *e)
{
    char path[4096];
    int r = blob_path(s, name, path, e);
    if (r < 0)
        return r;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? err_set_errno(e, errno == ENOENT ? EIO : errno, "open %s", path) : fd;
}

void s3_blob_remove(const struct s3 *s, const char *name)
{
    char path[4096];
    if (blob_path(s, name, path, NULL) == 0 && unlink(path) < 0 && errno != ENOENT)
        log_warn("s3", "cannot remove %s: %m", path);
}
