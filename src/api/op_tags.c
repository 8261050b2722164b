/* SPDX-License-Identifier: Apache-2.0 */
/* Tags, and the connector API's place holder. Only images carry tags. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api/body.h"

#define TAGS_MAX 50

/* Merging is read, change, write: one at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int find_resource(struct op_call *c, struct store_image *ret, struct err *e)
{
    const char *text = json_get_str(c->in, "Resource");
    struct arn a;
    int r = arn_parse(text, &a);
    if (r == 0 && strcmp(a.account, c->api->account) != 0)
        return err_set(e, EACCES, "Not authorized to access %s: this account is %s", text,
                       c->api->account);
    if (r == 0)
        r = strcmp(a.type, "microvm-image") == 0
                ? store_image_get(c->api->store, a.resource, ret, e)
                : -ENOENT;
    if (r == -ENOENT || r == -EINVAL)
        return err_set(e, ENOENT, "Resource not found: %s", text);
    return r;
}

int op_list_tags(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_image img = {0};
    int r = find_resource(c, &img, e);
    if (r == 0)
        *ret = json_pack("{s:o}", "Tags", body_config(img.tags));
    store_image_done(&img);
    return r;
}

static int change_tags(struct op_call *c, int (*fn)(struct op_call *c, json_t *tags, struct err *e),
                       struct err *e)
{
    struct store_image img = {0};
    pthread_mutex_lock(&lock);
    int r = find_resource(c, &img, e);
    CLEANUP(cleanup_json)
    json_t *tags = body_config(img.tags);
    if (r == 0)
        r = fn(c, tags, e);
    if (r == 0) {
        CLEANUP(cleanup_free)
        char *text = json_text(tags);
        r = store_image_set_tags(c->api->store, img.name, text, e);
    }
    pthread_mutex_unlock(&lock);
    store_image_done(&img);
    return r;
}

static int merge(struct op_call *c, json_t *tags, struct err *e)
{
    json_object_update(tags, json_object_get(c->in, "Tags"));
    if (json_object_size(tags) <= TAGS_MAX)
        return 0;
    c->exception = EX_INVALID_PARAMETER;
    return err_set(e, EINVAL, "A resource has at most %d tags", TAGS_MAX);
}

static int drop(struct op_call *c, json_t *tags, struct err *e)
{
    (void)e;
    size_t i;
    json_t *key;
    json_array_foreach (json_object_get(c->in, "tagKeys"), i, key)
        json_object_del(tags, json_string_value(key));
    return 0;
}

int op_tag_resource(struct op_call *c, json_t **ret, struct err *e)
{
    (void)ret; /* 204 has no body */
    return change_tags(c, merge, e);
}

int op_untag_resource(struct op_call *c, json_t **ret, struct err *e)
{
    (void)ret;
    return change_tags(c, drop, e);
}

/* There are no customer connectors: lists are empty, nothing is found, nothing can be made. */
int op_connectors(struct op_call *c, json_t **ret, struct err *e)
{
    if (strcmp(c->op->name, "ListNetworkConnectors") == 0) {
        *ret = json_pack("{s:[]}", "NetworkConnectors");
        return 0;
    }
    if (strcmp(c->op->name, "CreateNetworkConnector") != 0)
        return err_set(e, ENOENT, "Network connector not found");
    c->exception = EX_INVALID_PARAMETER;
    return err_set(e, EINVAL,
                   "This service has no VPC network connectors: use the managed "
                   "INTERNET_EGRESS connector, or an egressPolicy on RunMicrovm");
}
