/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/frozen.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/fs.h"
#include "engine/sparse.h"

enum { CACHE_ENTRIES = 512 };

struct seen {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
    char digest[SHA256_HEX_LEN + 1];
};

struct frozen_cache {
    pthread_mutex_t lock; /* guards entry and next */
    pthread_mutex_t
        hasher; /* one full check at a time: ten clones at once hash once, not ten times */
    struct seen
        entry[CACHE_ENTRIES]; /* a ring: the oldest is forgotten and would be hashed again */
    size_t next;
};

struct frozen_cache *frozen_cache_new(void)
{
    struct frozen_cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->hasher, NULL);
    return c;
}

void frozen_cache_free(struct frozen_cache *c)
{
    if (!c)
        return;
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->hasher);
    free(c);
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool cache_has(struct frozen_cache *c, const struct stat *st, const char *digest)
{
    bool found = false;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < CACHE_ENTRIES && !found; i++) {
        const struct seen *s = &c->entry[i];
        found = s->digest[0] && s->dev == st->st_dev && s->ino == st->st_ino &&
                s->size == st->st_size && same_time(s->mtime, st->st_mtim) &&
                strcmp(s->digest, digest) == 0;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void cache_add(struct frozen_cache *c, const struct stat *st, const char *digest)
{
    pthread_mutex_lock(&c->lock);
    struct seen *s = NULL;
    for (size_t i = 0; i < CACHE_ENTRIES && !s; i++)
        if (c->entry[i].dev == st->st_dev && c->entry[i].ino == st->st_ino)
            s = &c->entry[i];
    if (!s)
        s = &c->entry[c->next++ % CACHE_ENTRIES];
    *s = (struct seen){st->st_dev, st->st_ino, st->st_size, st->st_mtim, ""};
    memcpy(s->digest, digest, SHA256_HEX_LEN + 1);
    pthread_mutex_unlock(&c->lock);
}

/* Of the size that was looked at: a monitor that lives on may still write to what it saved. */
static int digest_fd(int fd, off_t size, enum manifest_digest how, bool punch,
                     char out[SHA256_HEX_LEN + 1], struct err *e)
{
    if (how == MANIFEST_PLAIN)
        return sha256_hex_fd_start(fd, (uint64_t)size, out, e);
    struct sparse_result s;
    int r = sparse_digest_start(fd, (uint64_t)size, punch, &s, e);
    if (r == 0)
        memcpy(out, s.digest, sizeof s.digest);
    return r;
}

int frozen_begin(struct frozen *f, const char *final, struct err *e)
{
    unsigned char raw[6];
    char nonce[13];
    *f = (struct frozen){0};
    random_bytes(raw, sizeof raw);
    hex_encode(nonce, raw, sizeof raw);
    if (snprintf(f->final, sizeof f->final, "%s", final) >= (int)sizeof f->final ||
        snprintf(f->part, sizeof f->part, "%s.%s.part", final, nonce) >= (int)sizeof f->part)
        return err_set(e, ENAMETOOLONG, "path too long: %.200s", final);
    if (fs_exists(final))
        return err_set(e, EEXIST, "%s exists already", final);
    if (mkdir(f->part, 0700) < 0)
        return err_set_errno(e, errno, "create directory %s", f->part);
    f->open = true;
    return 0;
}

int frozen_create(struct frozen *f, const char *name, struct err *e)
{
    char path[4200];
    int r = path_join(path, sizeof path, f->part, name, e);
    if (r < 0)
        return r;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_set_errno(e, errno, "create %s", path) : fd;
}

void frozen_start_writeback(int fd)
{
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* only a hint */
}

int frozen_move_in(struct frozen *f, const char *path, const char *name, struct err *e)
{
    char to[4200];
    int r = path_join(to, sizeof to, f->part, name, e);
    if (r < 0)
        return r;
    if (rename(path, to) == 0)
        return 0;
    if (errno != EXDEV)
        return err_set_errno(e, errno, "move %s to %s", path, to);
    r = fs_copy_file(path, to, 0600, e);
    if (r == 0)
        unlink(path);
    return r;
}

int frozen_link_in(struct frozen *f, int fd, const char *name, struct err *e)
{
    char from[64], to[4200];
    int r = path_join(to, sizeof to, f->part, name, e);
    if (r < 0)
        return r;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) < 0)
        return err_set_errno(e, errno, "link %s", to);
    return 0;
}

void frozen_discard(struct frozen *f, const char *name)
{
    char path[4200];
    if (path_join(path, sizeof path, f->part, name, NULL) == 0)
        unlink(path);
}

int frozen_add_digest(struct frozen *f, struct manifest *m, const char *name, uint64_t max,
                      enum manifest_digest how, struct err *e)
{
    char path[4200];
    struct stat st;
    int r = path_join(path, sizeof path, f->part, name, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "open %s", path);
    if ((uint64_t)st.st_size > max)
        return err_set(e, EBADMSG, "%s has %lld bytes, more than it can need", path,
                       (long long)st.st_size);
    char digest[SHA256_HEX_LEN + 1];
    r = digest_fd(fd, st.st_size, how, true, digest, e);
    return r < 0 ? r : manifest_add_file(m, name, (uint64_t)st.st_size, how, digest, e);
}

static int sync_files(const struct frozen *f, const struct manifest *m, struct err *e)
{
    for (unsigned i = 0; i < m->n_files; i++) {
        char path[4200];
        int r = path_join(path, sizeof path, f->part, m->files[i].name, e);
        if (r < 0)
            return r;
        CLEANUP(cleanup_close)
        int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fdatasync(fd) < 0)
            return err_set_errno(e, errno, "sync %s", path);
    }
    return 0;
}

static void remember(const char *dir, const struct manifest *m, struct frozen_cache *c)
{
    for (unsigned i = 0; i < m->n_files; i++) {
        char path[4200];
        struct stat st;
        if (path_join(path, sizeof path, dir, m->files[i].name, NULL) == 0 &&
            lstat(path, &st) == 0 && S_ISREG(st.st_mode))
            cache_add(c, &st, m->files[i].digest);
    }
}

int frozen_commit(struct frozen *f, const struct manifest *m, struct frozen_cache *c, struct err *e)
{
    char path[4200], parent[4096];
    struct buf text = BUF_INIT(MANIFEST_MAX);
    int r = sync_files(f, m, e);
    if (r == 0)
        r = manifest_encode(m, &text, e);
    if (r == 0)
        r = path_join(path, sizeof path, f->part, MANIFEST_NAME, e);
    if (r == 0)
        r = fs_write_file(path, text.data, text.len, 0600, e);
    buf_done(&text);
    if (r < 0)
        return r;
    /* NOREPLACE: two freezes to one name must not mix. */
    if (renameat2(AT_FDCWD, f->part, AT_FDCWD, f->final, RENAME_NOREPLACE) < 0)
        return err_set_errno(e, errno, "rename %s to %s", f->part, f->final);
    f->open = false;
    remember(f->final, m, c);
    strcpy(parent, f->final);
    char *slash = strrchr(parent, '/');
    if (slash && slash != parent)
        *slash = '\0';
    return fs_fsync_dir(slash ? parent : ".", e);
}

void frozen_abandon(struct frozen *f)
{
    struct err ignored; /* a left-over .part directory is removed by the next start */
    if (f->open && fs_remove_tree(f->part, &ignored) < 0)
        return;
    f->open = false;
}

int frozen_read_manifest(const char *dir, struct manifest *ret, struct err *e)
{
    char path[4200];
    struct buf text = BUF_INIT(MANIFEST_MAX);
    int r = path_join(path, sizeof path, dir, MANIFEST_NAME, e);
    if (r == 0)
        r = fs_read_file(path, &text, e);
    if (r == 0 && (r = manifest_decode(text.data ? text.data : "", text.len, ret, e)) < 0)
        r = err_wrap(e, "%s", path);
    buf_done(&text);
    return r;
}

static int check_digest(int fd, const struct stat *st, const struct manifest_file *f,
                        struct frozen_cache *c, const char *path, struct err *e)
{
    char digest[SHA256_HEX_LEN + 1];
    if (cache_has(c, st, f->digest))
        return 0;
    pthread_mutex_lock(&c->hasher);
    int r = cache_has(c, st, f->digest) ? 0 : digest_fd(fd, st->st_size, f->how, false, digest, e);
    if (r == 0 && !cache_has(c, st, f->digest)) {
        if (strcmp(digest, f->digest) == 0)
            cache_add(c, st, f->digest);
        else
            r = err_set(e, EBADMSG,
                        "%s is damaged: its contents do not match the digest in the "
                        "manifest",
                        path);
    }
    pthread_mutex_unlock(&c->hasher);
    return r;
}

static int verify_file(const char *dir, const struct manifest_file *f, struct frozen_cache *c,
                       struct err *e)
{
    char path[4200];
    struct stat st;
    int r = path_join(path, sizeof path, dir, f->name, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, EBADMSG, "%s is missing", path);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, EBADMSG, "%s is not a regular file", path);
    if ((uint64_t)st.st_size != f->bytes)
        return err_set(e, EBADMSG, "%s has %lld bytes, the manifest says %llu", path,
                       (long long)st.st_size, (unsigned long long)f->bytes);
    return check_digest(fd, &st, f, c, path, e);
}

int frozen_verify(const char *dir, const struct manifest *m, struct frozen_cache *c, struct err *e)
{
    for (unsigned i = 0; i < m->n_files; i++) {
        int r = verify_file(dir, &m->files[i], c, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int frozen_check(const char *dir, enum manifest_kind kind, const struct manifest *need,
                 struct frozen_cache *c, struct manifest *ret, struct err *e)
{
    int r = frozen_read_manifest(dir, ret, e);
    if (r < 0)
        return r;
    if (ret->kind != kind)
        return err_set(e, EBADMSG, "%s holds a %s", dir,
                       kind == MANIFEST_SNAPSHOT ? "suspended machine, not a snapshot"
                                                 : "snapshot, not a suspended machine");
    if (!manifest_find(ret, "state"))
        return err_set(e, EBADMSG, "%s: the manifest lists no state file", dir);
    if (manifest_find(ret, "pages") && !manifest_find(ret, "memory"))
        return err_set(e, EBADMSG, "%s: pages without the memory they belong to", dir);
    if (manifest_compare(ret, need, e) < 0)
        return err_wrap(e, "%s cannot be used", dir);
    return frozen_verify(dir, ret, c, e);
}

int frozen_open(const char *dir, const char *name, struct err *e)
{
    char path[4200];
    int r = path_join(path, sizeof path, dir, name, e);
    if (r < 0)
        return r;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_set_errno(e, errno, "open %s", path) : fd;
}
