/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The step cache: <data>/layers/<key>/disk.qcow2, one copy-on-write disk per finished step over the
 * disk of the step before. A key names everything that led to the result (image/plan.h), so a layer
 * never changes; a directory appears under its key in one rename, complete.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "microvm/internal.h"

static void layer_dir(const struct microvm_service *s, const char *key, char *out, size_t cap)
{
    snprintf(out, cap, "%s/layers/%s", s->cfg.data_dir, key);
}

bool layer_find(struct microvm_service *s, const char *key, char *disk, size_t cap)
{
    char dir[1024];
    layer_dir(s, key, dir, sizeof dir);
    return snprintf(disk, cap, "%s/disk.qcow2", dir) < (int)cap && fs_exists(disk);
}

int layer_commit(struct microvm_service *s, const char *key, const char *overlay, char *disk,
                 size_t cap, struct err *e)
{
    char dir[1024], uuid[UUID_LEN + 1], tmp[1024], file[1100];
    uuid_new(uuid);
    layer_dir(s, key, dir, sizeof dir);
    snprintf(tmp, sizeof tmp, "%s/tmp/layer-%s", s->cfg.data_dir, uuid);
    snprintf(file, sizeof file, "%s/disk.qcow2", tmp);
    int r = fs_mkdir_p(tmp, 0700, e);
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
