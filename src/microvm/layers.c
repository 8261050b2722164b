/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The step cache: <data>/layers/<engine and key, hashed>/disk.overlay, one copy-on-write disk per
 * finished step over the disk of the step before. A key names everything that led to the result
 * (image/plan.h), so a layer never changes; a directory appears under its key in one rename,
 * complete.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"

/* The engine's name is part of it: a disk of one engine is of no use to another. */
static void layer_dir(const struct microvm_service *s, const char *key, char *out, size_t cap)
{
    char text[2 * SHA256_HEX_LEN], name[SHA256_HEX_LEN + 1];
    int n = snprintf(text, sizeof text, "%s %s", engine_name(s->cfg.engine), key);
    sha256_hex_of(text, (size_t)n, name);
    snprintf(out, cap, "%s/layers/%s", s->cfg.data_dir, name);
}

bool layer_find(struct microvm_service *s, const char *key, char *disk, size_t cap)
{
    char dir[1024];
    layer_dir(s, key, dir, sizeof dir);
    return snprintf(disk, cap, "%s/disk.overlay", dir) < (int)cap && fs_exists(disk);
}

/* The machine that wrote it flushed nothing: a layer is used for years, a power cut may be tonight.
 */
static int sync_file(const char *path, struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 || fdatasync(fd) < 0 ? err_set_errno(e, errno, "sync %s", path) : 0;
}

int layer_commit(struct microvm_service *s, const char *key, const char *overlay, char *disk,
                 size_t cap, struct err *e)
{
    char dir[1024], uuid[UUID_LEN + 1], tmp[1024], file[1100];
    uuid_new(uuid);
    layer_dir(s, key, dir, sizeof dir);
    snprintf(tmp, sizeof tmp, "%s/tmp/layer-%s", s->cfg.data_dir, uuid);
    snprintf(file, sizeof file, "%s/disk.overlay", tmp);
    int r = sync_file(overlay, e);
    if (r == 0)
        r = fs_mkdir_p(tmp, 0700, e);
    if (r < 0)
        return r;
    if (rename(overlay, file) < 0 || chmod(file, 0400) < 0)
        r = err_set_errno(e, errno, "keep a step's disk");
    if (r == 0)
        r = fs_fsync_dir(tmp, e);
    if (r == 0 && rename(tmp, dir) < 0 && errno != EEXIST && errno != ENOTEMPTY)
        r = err_set_errno(e, errno, "keep a step's disk");
    /* Another build may have been first with the same step: theirs is as good as ours. */
    if (fs_remove_tree(tmp, NULL) < 0 && r == 0)
        r = err_set(e, EIO, "cannot remove %s", tmp);
    if (r == 0 && !layer_find(s, key, disk, cap))
        r = err_set(e, EIO, "a step's disk vanished");
    return r;
}

void layers_touch(struct microvm_service *s, const char *const *keys, size_t n)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < n; i++) {
        char dir[1024];
        struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {now.tv_sec - (time_t)i, now.tv_nsec}};
        layer_dir(s, keys[i], dir, sizeof dir);
        if (utimensat(AT_FDCWD, dir, t, AT_SYMLINK_NOFOLLOW) < 0)
            log_debug("build", "layer %s: %s", keys[i], strerror(errno));
    }
}

/* ---- keeping it small -------------------------------------------------------------------------
 */

struct layer {
    char name[SHA256_HEX_LEN + 1];
    int64_t used_ns;
    int64_t bytes;
};

static int by_use(const void *a, const void *b)
{
    const struct layer *x = a, *y = b;
    return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

static struct layer *list_layers(const char *root, size_t *n, int64_t *total)
{
    struct layer *v = NULL;
    DIR *d = opendir(root);
    *n = 0;
    *total = 0;
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char path[1400];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", root, ent->d_name);
        if (strlen(ent->d_name) != SHA256_HEX_LEN || lstat(path, &st) < 0)
            continue;
        struct layer *more = realloc(v, (*n + 1) * sizeof *v);
        if (!more)
            break;
        v = more;
        snprintf(v[*n].name, sizeof v[*n].name, "%s", ent->d_name);
        v[*n].used_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        v[*n].bytes = (int64_t)fs_tree_bytes(path);
        *total += v[(*n)++].bytes;
    }
    if (d)
        closedir(d);
    return v;
}

void layers_shrink(struct microvm_service *s)
{
    char root[600], path[700];
    size_t n;
    int64_t total;
    if (pthread_rwlock_trywrlock(&s->layers_lock) != 0)
        return; /* a build runs: the next round will do it */
    snprintf(root, sizeof root, "%.500s/layers", s->cfg.data_dir);
    struct layer *v = list_layers(root, &n, &total);
    if (n)
        qsort(v, n, sizeof *v, by_use);
    for (size_t i = 0; i < n && total > s->cfg.max_layers_bytes; i++) {
        struct err e = {0};
        snprintf(path, sizeof path, "%s/%s", root, v[i].name);
        if (fs_remove_tree(path, &e) < 0)
            log_warn("build", "step cache: %s", e.text);
        else
            log_info("build", "step cache over its limit: dropped %s", v[i].name);
        total -= v[i].bytes;
    }
    free(v);
    pthread_rwlock_unlock(&s->layers_lock);
}
