/* SPDX-License-Identifier: Apache-2.0 */
/* Image operations. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "api/replay.h"
#include "api/rules.h"

/* Result of a create or update in the token table: "<name>:<version>". */
static void settle_version(struct op_call *c, const struct store_version *ver)
{
    char resource[IMAGE_NAME_MAX + 16];
    snprintf(resource, sizeof resource, "%.*s:%d", IMAGE_NAME_MAX, ver->image, ver->number);
    replay_settle(c, resource);
}

static int replay_version(struct op_call *c, char *resource, json_t **ret, struct err *e)
{
    struct store_image img = {0};
    struct store_version ver = {0};
    char *colon = strrchr(resource, ':');
    int number = colon ? version_parse(colon + 1) : -EINVAL;
    if (number < 0)
        return err_set(e, EIO, "bad result '%s' in the client token table", resource);
    *colon = '\0';
    int r = store_image_get(c->api->store, resource, &img, e);
    if (r == 0)
        r = store_version_get(c->api->store, resource, number, &ver, e);
    if (r == 0)
        *ret = body_image_created(c, &img, &ver);
    store_image_done(&img);
    store_version_done(&ver);
    return r;
}

static int create(struct op_call *c, const json_t *config, json_t **ret, struct err *e)
{
    struct store_image img = {0};
    struct store_version ver = {0};
    int r = image_create(c->api->microvms, config, &img, &ver, e);
    if (r == -EEXIST)
        err_set(e, EEXIST, "A MicroVM image with the name '%s' already exists in this account",
                json_get_str(c->in, "name"));
    if (r < 0) {
        replay_settle(c, NULL);
    } else {
        settle_version(c, &ver);
        *ret = body_image_created(c, &img, &ver);
    }
    store_image_done(&img);
    store_version_done(&ver);
    return r;
}

int op_create_image(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *config = NULL;
    CLEANUP(cleanup_free)
    char *resource = NULL;
    int r = rules_image_input(c->in, c->region, &config, e);
    if (r == 0)
        r = replay_claim(c, &resource, e);
    if (r < 0)
        return r;
    return r == 1 ? create(c, config, ret, e) : replay_version(c, resource, ret, e);
}

int op_get_image(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_image img = {0};
    int r = body_find_image(c, &img, e);
    if (r == 0)
        *ret = body_image(c, &img, false);
    store_image_done(&img);
    return r;
}

struct image_walk {
    struct op_call *c;
    struct body_list *list;
    const char *filter;
    struct page_cursor at; /* last row seen, kept or not */
    int rows;
};

static int on_image(const struct store_image *r, void *arg)
{
    struct image_walk *w = arg;
    w->rows++;
    w->at.created = r->created_at;
    snprintf(w->at.key, sizeof w->at.key, "%s", r->name);
    if (w->filter && !strstr(r->name, w->filter))
        return 0;
    return !body_list_add(w->list, body_image(w->c, r, true), r->created_at, r->name);
}

/* Filtered rows do not count: pages are filled as long as there are rows. */
int op_list_images(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(body_list_done)
    struct body_list list = {0};
    struct image_walk w = {.c = c, .list = &list, .filter = json_get_str(c->in, "nameFilter")};
    int r = body_list_begin(c, w.filter ? w.filter : "", &list, &w.at, e);
    if (r < 0)
        return r;
    struct store_page page = {.limit = PAGE_SIZE_DEFAULT + 1};
    do {
        struct page_cursor from = w.at;
        page.before_created = from.created;
        page.before_key = from.created ? from.key : NULL;
        w.rows = 0;
        r = store_image_list(c->api->store, &page, on_image, &w, e);
    } while (r == 0 && w.rows == page.limit);
    return r < 0 ? r : body_list_end(c, &list, ret, e);
}

static int refuse_busy(struct op_call *c, const char *name, struct err *e)
{
    struct store_image img = {0};
    int r = store_image_get(c->api->store, name, &img, e);
    if (r == 0)
        r = err_set(e, EBUSY, "MicroVM Image is already in state: %s", image_state_name(img.state));
    store_image_done(&img);
    return r;
}

static int update(struct op_call *c, const char *name, const json_t *config, json_t **ret,
                  struct err *e)
{
    struct store_image img = {0};
    struct store_version ver = {0};
    int r = image_update(c->api->microvms, name, config, &img, &ver, e);
    if (r == -EBUSY)
        r = refuse_busy(c, name, e);
    if (r < 0) {
        replay_settle(c, NULL);
    } else {
        settle_version(c, &ver);
        *ret = body_image_created(c, &img, &ver);
        json_object_del(*ret, "tags");
    }
    store_image_done(&img);
    store_version_done(&ver);
    return r;
}

int op_update_image(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *config = NULL;
    CLEANUP(cleanup_free)
    char *resource = NULL;
    char name[IMAGE_NAME_MAX + 1];
    struct store_image img = {0};
    int r = body_find_image(c, &img, e);
    snprintf(name, sizeof name, "%s", r == 0 ? img.name : "");
    store_image_done(&img);
    if (r == 0)
        r = rules_image_input(c->in, c->region, &config, e);
    if (r == 0)
        r = replay_claim(c, &resource, e);
    if (r < 0)
        return r;
    if (r == 1)
        return update(c, name, config, ret, e);
    r = replay_version(c, resource, ret, e);
    if (r == 0)
        json_object_del(*ret, "tags");
    return r;
}

int op_delete_image(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_image img = {0};
    int r = body_find_image(c, &img, e);
    if (r == 0 && img.state != IMAGE_DELETING)
        r = image_delete(c->api->microvms, img.name, e);
    if (r == 0) {
        char arn[ARN_MAX];
        arn_format_image(arn, c->region, c->api->account, img.name);
        *ret = json_pack("{s:s, s:s}", "imageIdentifier", arn, "state", "DELETING");
    }
    store_image_done(&img);
    return r;
}
