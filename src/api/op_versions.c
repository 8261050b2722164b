/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on versions and builds of an image, and on the managed images. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/body.h"
#include "api/rules.h"

struct version_walk {
    struct op_call *c;
    struct body_list *list;
};

static int on_version(const struct store_version *r, void *arg)
{
    struct version_walk *w = arg;
    return !body_list_add(w->list, body_version(w->c, r), r->number, "");
}

int op_list_versions(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(body_list_done)
    struct body_list list = {0};
    struct page_cursor from;
    struct store_image img = {0};
    int r = body_find_image(c, &img, e);
    if (r == 0)
        r = body_list_begin(c, img.name, &list, &from, e);
    if (r == 0) {
        struct version_walk w = {c, &list};
        r = store_version_list(c->api->store, img.name, (int)from.created, (int)list.max + 1,
                               on_version, &w, e);
    }
    store_image_done(&img);
    return r < 0 ? r : body_list_end(c, &list, ret, e);
}

int op_get_version(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_version ver = {0};
    int r = body_find_version(c, &ver, e);
    if (r == 0)
        *ret = body_version(c, &ver);
    store_version_done(&ver);
    return r;
}

/* Versions change only while the image is settled. */
static int check_settled(struct op_call *c, const char *name, struct err *e)
{
    struct store_image img = {0};
    int r = store_image_get(c->api->store, name, &img, e);
    if (r == 0 &&
        (img.state == IMAGE_CREATING || img.state == IMAGE_UPDATING || img.state == IMAGE_DELETING))
        r = err_set(e, EBUSY, "MicroVM Image is already in state: %s", image_state_name(img.state));
    store_image_done(&img);
    return r;
}

int op_update_version(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_version ver = {0}, now = {0};
    int status = version_status_parse(json_get_str(c->in, "status"));
    int r = body_find_version(c, &ver, e);
    if (r == 0)
        r = check_settled(c, ver.image, e);
    if (r == 0 && status == VERSION_ACTIVE && ver.state != VERSION_SUCCESSFUL)
        r = err_set(e, EINVAL, "Version %d.0 cannot become ACTIVE in state %s", ver.number,
                    version_state_name(ver.state));
    if (r == 0)
        r = store_version_set_status(c->api->store, ver.image, ver.number,
                                     (enum version_status)status, &now, e);
    if (r == 0)
        *ret = body_version(c, &now);
    store_version_done(&ver);
    store_version_done(&now);
    return r;
}

int op_delete_version(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_version ver = {0};
    int r = body_find_version(c, &ver, e);
    if (r == 0)
        r = check_settled(c, ver.image, e);
    if (r == 0)
        r = image_version_delete(c->api->microvms, ver.image, ver.number, e);
    if (r == 0) {
        char arn[ARN_MAX], number[16];
        arn_format_image(arn, c->region, c->api->account, ver.image);
        version_format(number, ver.number);
        *ret = json_pack("{s:s, s:s, s:s}", "imageIdentifier", arn, "imageVersion", number, "state",
                         "DELETING");
    }
    store_version_done(&ver);
    return r;
}

/* ---- builds ------------------------------------------------------------------------------------
 */

static int on_build(const struct store_build *r, void *arg)
{
    struct version_walk *w = arg;
    static const char *const FILTERS[] = {"architecture", "chipset", "chipsetGeneration"};
    json_t *item = body_build(w->c, r, false);
    for (size_t i = 0; i < ARRAY_LEN(FILTERS); i++) {
        const char *want = json_get_str(w->c->in, FILTERS[i]);
        if (want && strcmp(want, json_get_str(item, FILTERS[i])) != 0) {
            json_decref(item);
            return 0;
        }
    }
    return !body_list_add(w->list, item, r->created_at, r->id);
}

/* A version has one build here; the walk does not rely on it. */
int op_list_builds(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(body_list_done)
    struct body_list list = {0};
    struct page_cursor from;
    struct store_version ver = {0};
    char scope[IMAGE_NAME_MAX + 16];
    int r = body_find_version(c, &ver, e);
    if (r == 0) {
        snprintf(scope, sizeof scope, "%.*s:%d", IMAGE_NAME_MAX, ver.image, ver.number);
        r = body_list_begin(c, scope, &list, &from, e);
    }
    if (r == 0) {
        struct version_walk w = {c, &list};
        const struct store_page page = {.before_created = from.created,
                                        .before_key = from.created ? from.key : NULL,
                                        .limit = (int)list.max + 1};
        r = store_build_list(c->api->store, ver.image, ver.number, &page, on_build, &w, e);
    }
    store_version_done(&ver);
    return r < 0 ? r : body_list_end(c, &list, ret, e);
}

int op_get_build(struct op_call *c, json_t **ret, struct err *e)
{
    const char *id = json_get_str(c->in, "buildId");
    struct store_version ver = {0};
    struct store_build build = {0};
    int r = body_find_version(c, &ver, e);
    if (r == 0)
        r = store_build_get(c->api->store, id, &build, e);
    if (r == 0 && (strcmp(build.image, ver.image) != 0 || build.version != ver.number))
        r = -ENOENT;
    if (r == -ENOENT && ver.image)
        err_set(e, ENOENT,
                "MicroVMImage build not found for MicroVMImage: %s, Version: %d.0, "
                "Build: %s",
                json_get_str(c->in, "imageIdentifier"), ver.number, id);
    if (r == 0)
        *ret = body_build(c, &build, true);
    store_version_done(&ver);
    store_build_done(&build);
    return r;
}

/* ---- managed images ----------------------------------------------------------------------------
 */

int op_list_managed(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(body_list_done)
    struct body_list list = {0};
    struct page_cursor from;
    int r = body_list_begin(c, "", &list, &from, e);
    if (r < 0)
        return r;
    char arn[ARN_MAX];
    arn_format_image(arn, c->region, "aws", MANAGED_IMAGE);
    body_list_add(&list,
                  json_pack("{s:s, s:o, s:o}", "imageArn", arn, "createdAt",
                            body_time(c->api->managed_ms), "updatedAt",
                            body_time(c->api->managed_ms)),
                  c->api->managed_ms, MANAGED_IMAGE);
    return body_list_end(c, &list, ret, e);
}

int op_list_managed_versions(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(body_list_done)
    struct body_list list = {0};
    struct page_cursor from;
    char name[IMAGE_NAME_MAX + 1], arn[ARN_MAX];
    const char *id = json_get_str(c->in, "imageIdentifier");
    int r = arn_managed_image(id, name, e);
    if (r == 0 && strcmp(name, MANAGED_IMAGE) != 0 && strcmp(name, MANAGED_IMAGE_ALIAS) != 0)
        r = err_set(e, ENOENT, "MicroVMImage not found for MicroVMImageID: %s", id);
    if (r == 0)
        r = body_list_begin(c, name, &list, &from, e);
    if (r < 0)
        return r;
    arn_format_image(arn, c->region, "aws", name);
    body_list_add(&list,
                  json_pack("{s:s, s:s, s:s, s:o, s:o}", "imageArn", arn, "imageVersion", "1",
                            "status", "AVAILABLE", "createdAt", body_time(c->api->managed_ms),
                            "updatedAt", body_time(c->api->managed_ms)),
                  c->api->managed_ms, "1");
    return body_list_end(c, &list, ret, e);
}
