/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What start-up does about a crash. The store says what was, the files say what survived. A VM is
 * kept when its checkpoint directory is complete (the engine makes it appear in one rename) and the
 * guest has not run since (operate.c renames it first). Everything else that was alive has lost its
 * machine, which dies with the daemon. Directories nobody claims are removed. Unfinished builds
 * start again: their finished steps are in the cache.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"

static const char LOST[] = "The service was stopped while the MicroVM was running.";

static int load_version_config(struct microvm_service *s, const char *image, int number,
                               json_t **ret, struct err *e)
{
    struct store_version v = {0};
    int r = store_version_get(s->cfg.store, image, number, &v, e);
    if (r == 0)
        r = json_parse(v.config ? v.config : "{}", v.config ? strlen(v.config) : 2, 1 << 20, ret,
                       e);
    store_version_done(&v);
    return r;
}

static int adopt(struct microvm_service *s, const struct store_microvm *row, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *config = NULL;
    int r = load_version_config(s, row->image, row->version, &config, e);
    if (r < 0)
        return r;
    struct microvm *vm = vm_new(s, row, config);
    if (!vm || registry_add(s, vm) < 0)
        return err_set(e, ENOMEM, "out of memory");
    return 0;
}

static int recover_vm(struct microvm_service *s, struct store_microvm *row, struct err *e)
{
    char dir[1024];
    struct err why = {0};
    snprintf(dir, sizeof dir, "%s/vms/%s/suspend/manifest.json", s->cfg.data_dir, row->id);
    bool frozen =
        (row->state == MICROVM_SUSPENDED || row->state == MICROVM_SUSPENDING) && fs_exists(dir);
    int r = 0;
    if (frozen && row->state == MICROVM_SUSPENDING)
        r = store_microvm_set_state(s->cfg.store, row->id, MICROVM_SUSPENDED, NULL, &why);
    if (frozen && r == 0) {
        row->state = MICROVM_SUSPENDED;
        r = adopt(s, row, &why);
    }
    if (frozen && r == 0) {
        log_info("microvm", "%s: kept, suspended", row->id);
        return 0;
    }
    if (r < 0)
        log_warn("microvm", "%s: cannot be kept: %s", row->id, why.text);
    r = store_microvm_set_state(s->cfg.store, row->id, MICROVM_TERMINATED, LOST, e);
    if (r < 0) /* a row that says RUNNING for ever would be worse than no service */
        return err_wrap(e, "%s", row->id);
    log_info("microvm", "%s: terminated: %s", row->id, LOST);
    return 0;
}

/* Rows are collected first: the store must not be written while it is being walked. */
struct rows {
    struct store_microvm *v;
    size_t n;
};

static char *copy(const char *s)
{
    return s ? strdup(s) : NULL;
}

void row_copy(const struct store_microvm *r, struct store_microvm *ret)
{
    *ret = *r;
    ret->id = copy(r->id);
    ret->endpoint = copy(r->endpoint);
    ret->image = copy(r->image);
    ret->state_reason = copy(r->state_reason);
    ret->config = copy(r->config);
}

static int keep_row(const struct store_microvm *r, void *arg)
{
    struct rows *rows = arg;
    struct store_microvm *v = realloc(rows->v, (rows->n + 1) * sizeof *v);
    if (!v)
        return -ENOMEM;
    rows->v = v;
    row_copy(r, &v[rows->n++]);
    return 0;
}

int recover_vms(struct microvm_service *s, struct err *e)
{
    struct rows rows = {0};
    int r = store_microvm_live(s->cfg.store, keep_row, &rows, e);
    for (size_t i = 0; i < rows.n; i++) {
        if (r == 0)
            r = recover_vm(s, &rows.v[i], e);
        store_microvm_done(&rows.v[i]);
    }
    free(rows.v);
    return r;
}

static bool keep_vm(struct microvm_service *s, const char *name)
{
    struct microvm *vm = registry_find_id(s, name);
    microvm_unref(vm);
    return vm != NULL;
}

static bool keep_image(struct microvm_service *s, const char *name)
{
    struct store_image img = {0};
    int r = store_image_get(s->cfg.store, name, &img, NULL);
    store_image_done(&img);
    return r != -ENOENT;
}

/* name: "<image>/<number>" */
static bool keep_version(struct microvm_service *s, const char *name)
{
    char image[65];
    struct store_version ver = {0};
    const char *slash = strchr(name, '/');
    if (!slash || (size_t)(slash - name) >= sizeof image)
        return true;
    snprintf(image, sizeof image, "%.*s", (int)(slash - name), name);
    int r = store_version_get(s->cfg.store, image, atoi(slash + 1), &ver, NULL);
    store_version_done(&ver);
    return r != -ENOENT;
}

/* Removes every entry of <data>/<sub> that keep() does not claim; it gets the name below sub, with
 * depth 2 that of the entries' entries. */
static void sweep(struct microvm_service *s, const char *sub, int depth,
                  bool (*keep)(struct microvm_service *s, const char *name))
{
    char path[1024], dir[600];
    snprintf(dir, sizeof dir, "%s/%s", s->cfg.data_dir, sub);
    DIR *d = opendir(dir);
    if (!d)
        return;
    const char *below = strchr(sub, '/');
    for (struct dirent *ent; (ent = readdir(d));) {
        struct err e = {0};
        if (ent->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s%s%s", below ? below + 1 : "", below ? "/" : "",
                 ent->d_name);
        if (depth > 1) {
            char deeper[512];
            if (snprintf(deeper, sizeof deeper, "%s/%s", sub, ent->d_name) < (int)sizeof deeper)
                sweep(s, deeper, depth - 1, keep);
            continue;
        }
        if (keep && keep(s, path))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, ent->d_name);
        if (fs_remove_tree(path, &e) < 0)
            log_warn("microvm", "left behind: %s", e.text);
        else
            log_info("microvm", "removed what an earlier run left: %s/%s", sub, ent->d_name);
    }
    closedir(d);
}

struct ids {
    char (*v)[UUID_LEN + 1];
    size_t n;
};

static int keep_build(const struct store_build *b, void *arg)
{
    struct ids *ids = arg;
    char(*v)[UUID_LEN + 1] = realloc(ids->v, (ids->n + 1) * sizeof *v);
    if (!v)
        return -ENOMEM;
    ids->v = v;
    memcpy(v[ids->n++], b->id, sizeof *v);
    return 0;
}

int recover_builds(struct microvm_service *s, struct err *e)
{
    struct ids ids = {0};
    int r = store_build_unfinished(s->cfg.store, keep_build, &ids, e);
    for (size_t i = 0; r == 0 && i < ids.n; i++) {
        log_info("build", "%s: starting again after an interruption", ids.v[i]);
        r = build_submit(s, ids.v[i], e);
    }
    free(ids.v);
    return r;
}

void recover_files(struct microvm_service *s)
{
    sweep(s, "vms", 1, keep_vm);
    sweep(s, "images", 1, keep_image);
    sweep(s, "images", 2, keep_version);
    sweep(s, "tmp", 1, NULL);
    builders_sweep(s);
}
