/* SPDX-License-Identifier: Apache-2.0 */
/* Creating, updating and deleting images and versions: the rows, the files, the refusals. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"

#define DEFAULT_MEMORY_MIB 2048

int version_dir(const struct microvm_service *s, const char *image, int number, char *out,
                size_t cap, struct err *e)
{
    int n = snprintf(out, cap, "%s/images/%s/%d", s->cfg.data_dir, image, number);
    return n < 0 || (size_t)n >= cap ? err_set(e, ENAMETOOLONG, "image path too long") : 0;
}

static int memory_of(const json_t *input)
{
    const json_t *first = json_array_get(json_object_get(input, "resources"), 0);
    return (int)json_get_int(first, "minimumMemoryInMiB", DEFAULT_MEMORY_MIB);
}

/* What a version remembers of its input: everything but what belongs to the image or the call. */
static char *version_config(const json_t *input)
{
    static const char *const not_ours[] = {"name", "tags", "clientToken", "imageIdentifier"};
    CLEANUP(cleanup_json)
    json_t *config = json_copy((json_t *)(uintptr_t)input);
    for (size_t i = 0; i < ARRAY_LEN(not_ours); i++)
        json_object_del(config, not_ours[i]);
    return json_text(config);
}

static int refuse_closing(struct microvm_service *s, struct err *e)
{
    return atomic_load(&s->closing) ? err_set(e, ENOSPC, "The service is shutting down") : 0;
}

int image_create(struct microvm_service *s, const json_t *input, struct store_image *img,
                 struct store_version *ver, struct err *e)
{
    const char *name = json_get_str(input, "name");
    json_t *tags = json_object_get(input, "tags");
    CLEANUP(cleanup_free)
    char *config = version_config(input);
    CLEANUP(cleanup_free)
    char *tag_text = json_is_object(tags) ? json_text(tags) : strdup("{}");
    struct store_build build = {0};
    int r = refuse_closing(s, e);
    if (r == 0)
        r = store_image_create(s->cfg.store, name, tag_text, config, memory_of(input), img, ver,
                               &build, e);
    if (r == -EEXIST)
        return err_set(e, EEXIST,
                       "A MicroVM image with the name '%s' already exists in this account", name);
    if (r == 0)
        r = build_submit(s, build.id, e);
    store_build_done(&build);
    return r;
}

int image_update(struct microvm_service *s, const char *name, const json_t *input,
                 struct store_image *img, struct store_version *ver, struct err *e)
{
    CLEANUP(cleanup_free)
    char *config = version_config(input);
    struct store_build build = {0};
    int r = refuse_closing(s, e);
    if (r == 0)
        r = store_version_create(s->cfg.store, name, config, memory_of(input), img, ver, &build, e);
    if (r == -EBUSY) {
        struct store_image now = {0};
        r = store_image_get(s->cfg.store, name, &now, e);
        if (r == 0)
            r = err_set(e, EBUSY, "MicroVM Image is already in state: %s",
                        image_state_name(now.state));
        store_image_done(&now);
        return r;
    }
    if (r == 0)
        r = build_submit(s, build.id, e);
    store_build_done(&build);
    return r;
}

/* ---- deletion ---------------------------------------------------------------------------------
 */

struct deletion {
    struct microvm_service *service;
    char name[65];
};

static int forget_log(const struct store_build *b, void *arg)
{
    log_file_remove(arg, "build", b->id);
    return 0;
}

static int forget_version_logs(const struct store_version *v, void *arg)
{
    struct deletion *d = arg;
    struct store_page all = {.limit = 1000};
    return store_build_list(d->service->cfg.store, v->image, v->number, &all, forget_log,
                            d->service, NULL);
}

static void delete_image(void *arg)
{
    struct deletion *d = arg;
    struct microvm_service *s = d->service;
    struct err e = {0};
    char dir[1024];
    snprintf(dir, sizeof dir, "%s/images/%s", s->cfg.data_dir, d->name);
    if (store_version_list(s->cfg.store, d->name, 0, 1000, forget_version_logs, d, &e) < 0)
        log_warn("image", "%s: logs: %s", d->name, e.text);
    int r = fs_remove_tree(dir, &e);
    if (r == 0)
        r = store_image_delete(s->cfg.store, d->name, &e);
    if (r < 0) {
        log_error("image", "%s: deletion: %s", d->name, e.text);
        if (store_image_set_state(s->cfg.store, d->name, IMAGE_DELETING, IMAGE_DELETE_FAILED, &e) <
            0)
            log_error("image", "%s: %s", d->name, e.text);
    } else {
        log_info("image", "%s: deleted", d->name);
    }
    free(d);
}

static int submit_deletion(struct microvm_service *s, const char *name, struct err *e)
{
    struct deletion *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ENOMEM, "out of memory");
    d->service = s;
    snprintf(d->name, sizeof d->name, "%s", name);
    int r = workers_submit(s->operations, delete_image, d);
    if (r < 0) {
        free(d);
        return err_set(e, EAGAIN, "Rate exceeded");
    }
    return 0;
}

int image_delete(struct microvm_service *s, const char *name, struct err *e)
{
    struct store_image img = {0};
    int n = 0;
    int r = store_image_get(s->cfg.store, name, &img, e);
    enum image_state st = img.state;
    store_image_done(&img);
    if (r < 0)
        return r;
    if (st == IMAGE_DELETING)
        return 0;
    if (st == IMAGE_CREATING || st == IMAGE_UPDATING)
        return err_set(e, EINVAL,
                       "Cannot delete MicroVM image in its current state: "
                       "arn:aws:lambda:%s:%s:microvm-image:%s",
                       s->cfg.region, s->cfg.account, name);
    r = store_microvm_count(s->cfg.store, name, 0, &n, e);
    if (r == 0 && n)
        return err_set(e, EINVAL, "Cannot delete microvm image with running microvms.");
    if (r == 0)
        r = store_image_set_state(s->cfg.store, name, (int)st, IMAGE_DELETING, e);
    if (r == 0)
        r = store_microvm_count(s->cfg.store, name, 0, &n, e); /* one may just have been run */
    if (r == 0 && n == 0)
        r = submit_deletion(s, name, e);
    else if (r == 0)
        r = err_set(e, EINVAL, "Cannot delete microvm image with running microvms.");
    else
        return r;
    if (r < 0 &&
        store_image_set_state(s->cfg.store, name, IMAGE_DELETING, IMAGE_DELETE_FAILED, NULL) < 0)
        log_warn("image", "%s: its deletion goes on with the next start", name);
    return r;
}

static int count_row(const struct store_version *v, void *arg)
{
    (void)v;
    ++*(int *)arg;
    return 0;
}

int image_version_delete(struct microvm_service *s, const char *name, int number, struct err *e)
{
    struct store_image img = {0};
    struct store_version ver = {0};
    char dir[1024];
    int n = 0, versions = 0;
    int r = store_image_get(s->cfg.store, name, &img, e);
    enum image_state st = img.state;
    store_image_done(&img);
    if (r == 0)
        r = store_version_get(s->cfg.store, name, number, &ver, e);
    store_version_done(&ver);
    if (r < 0)
        return r;
    if (st == IMAGE_CREATING || st == IMAGE_UPDATING || st == IMAGE_DELETING)
        return err_set(e, EBUSY, "MicroVM Image is already in state: %s", image_state_name(st));
    r = store_version_list(s->cfg.store, name, 0, 2, count_row, &versions, e);
    if (r == 0 && versions <= 1)
        return err_set(e, EINVAL, "This is the last version. Please delete the entire image");
    if (r == 0)
        r = store_microvm_count(s->cfg.store, name, number, &n, e);
    if (r == 0 && n)
        return err_set(e, EINVAL, "Cannot delete microvm image version with running microvms.");
    if (r == 0)
        r = store_image_set_state(s->cfg.store, name, (int)st, IMAGE_UPDATING, e);
    if (r < 0)
        return r;
    /* The row first: files without a row are removed at the next start, a row without files would
     * be a version that cannot run. */
    r = version_dir(s, name, number, dir, sizeof dir, e);
    if (r == 0)
        r = store_version_delete(s->cfg.store, name, number, e);
    if (r == 0 && fs_remove_tree(dir, NULL) < 0)
        log_warn("image", "%s: removed at the next start", dir);
    int back = store_image_set_state(s->cfg.store, name, IMAGE_UPDATING,
                                     r < 0 ? IMAGE_UPDATE_FAILED : IMAGE_UPDATED, r < 0 ? NULL : e);
    return r < 0 ? r : back;
}

/* ---- recovery ---------------------------------------------------------------------------------
 */

struct unfinished {
    struct {
        char name[65];
        enum image_state state;
    } * v;
    size_t n;
    int64_t created; /* of the last row seen: where the next page begins */
    char last[65];
    int rows;
};

static int keep_unfinished(const struct store_image *img, void *arg)
{
    struct unfinished *p = arg;
    p->rows++;
    p->created = img->created_at;
    snprintf(p->last, sizeof p->last, "%s", img->name);
    if (img->state != IMAGE_DELETING && img->state != IMAGE_UPDATING)
        return 0;
    void *v = realloc(p->v, (p->n + 1) * sizeof *p->v);
    if (!v)
        return -ENOMEM;
    p->v = v;
    snprintf(p->v[p->n].name, sizeof p->v->name, "%s", img->name);
    p->v[p->n++].state = img->state;
    return 0;
}

static int is_built(const struct store_build *b, void *arg)
{
    return strcmp(b->image, arg) == 0;
}

/* UPDATING without a build: a version was being deleted. What is left of it are files at most. */
static int settle_update(struct microvm_service *s, char *name, struct err *e)
{
    int r = store_build_unfinished(s->cfg.store, is_built, name, e);
    return r ? (r < 0 ? r : 0)
             : store_image_set_state(s->cfg.store, name, IMAGE_UPDATING, IMAGE_UPDATED, e);
}

void images_finish_changes(struct microvm_service *s)
{
    struct unfinished p = {0};
    struct err e = {0};
    struct store_page page = {.limit = 1000};
    do {
        p.rows = 0;
        if (store_image_list(s->cfg.store, &page, keep_unfinished, &p, &e) < 0)
            log_warn("image", "unfinished changes: %s", e.text);
        page.before_created = p.created;
        page.before_key = p.last;
    } while (p.rows == page.limit);
    for (size_t i = 0; i < p.n; i++) {
        int r = p.v[i].state == IMAGE_DELETING ? submit_deletion(s, p.v[i].name, &e)
                                               : settle_update(s, p.v[i].name, &e);
        if (r < 0)
            log_warn("image", "%s: %s", p.v[i].name, e.text);
    }
    free(p.v);
}
