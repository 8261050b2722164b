/* SPDX-License-Identifier: Apache-2.0 */
#include "api/body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

json_t *body_time(int64_t ms)
{
    return ms ? json_real((double)ms / 1000.0) : json_null();
}

json_t *body_text(const char *s)
{
    json_t *v = s ? json_string(s) : NULL;
    return v ? v : json_null();
}

json_t *body_config(const char *column)
{
    json_t *v = NULL;
    if (column && json_parse(column, strlen(column), SIZE_MAX, &v, NULL) == 0 && json_is_object(v))
        return v;
    json_decref(v);
    return json_object();
}

static json_t *body_version_number(int number)
{
    char text[16];
    version_format(text, number);
    return number ? json_string(text) : json_null();
}

static json_t *body_image_arn(const struct op_call *c, const char *name)
{
    char arn[ARN_MAX];
    arn_format_image(arn, c->region, c->api->account, name);
    return json_string(arn);
}

/* Copies the named members; absent ones become null, as the service sends them. */
static void copy_members(json_t *out, const json_t *from, const char *const *names)
{
    for (; *names; names++) {
        json_t *v = json_object_get(from, *names);
        json_object_set_new(out, *names, v ? json_incref(v) : json_null());
    }
}

static const char *const VERSION_MEMBERS[] = {
    "additionalOsCapabilities",
    "baseImageArn",
    "baseImageVersion",
    "buildRoleArn",
    "codeArtifact",
    "cpuConfigurations",
    "description",
    "egressNetworkConnectors",
    "environmentVariables",
    "hooks",
    "logging",
    "resources",
    NULL,
};

json_t *body_image(const struct op_call *c, const struct store_image *r, bool summary)
{
    json_t *o = json_pack(
        "{s:o, s:s, s:s, s:s, s:o, s:o, s:o}", "imageArn", body_image_arn(c, r->name), "name",
        r->name, "id", r->id, "state", image_state_name(r->state), "latestActiveImageVersion",
        body_version_number(r->latest_active), "latestFailedImageVersion",
        body_version_number(r->latest_failed), "createdAt", body_time(r->created_at));
    if (!summary) {
        json_object_set_new(o, "updatedAt", body_time(r->updated_at));
        json_object_set_new(o, "tags", body_config(r->tags));
    }
    return o;
}

json_t *body_image_created(const struct op_call *c, const struct store_image *img,
                           const struct store_version *ver)
{
    json_t *o = body_image(c, img, false);
    CLEANUP(cleanup_json)
    json_t *config = body_config(ver->config);
    copy_members(o, config, VERSION_MEMBERS);
    json_object_set_new(o, "imageVersion", body_version_number(ver->number));
    json_object_set_new(o, "buildPhaseOverrides", json_null());
    json_object_set_new(o, "roleConfiguration", json_null());
    if (json_object_size(json_object_get(o, "tags")) == 0)
        json_object_set_new(o, "tags", json_null());
    return o;
}

json_t *body_version(const struct op_call *c, const struct store_version *r)
{
    json_t *o = json_pack(
        "{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:n}", "imageArn", body_image_arn(c, r->image),
        "imageVersion", body_version_number(r->number), "state", version_state_name(r->state),
        "status", version_status_name(r->status), "createdAt", body_time(r->created_at),
        "updatedAt", body_time(r->updated_at), "stateReason", body_text(r->state_reason), "tags");
    CLEANUP(cleanup_json)
    json_t *config = body_config(r->config);
    copy_members(o, config, VERSION_MEMBERS);
    return o;
}

static json_t *body_snapshot(const struct store_build *r)
{
    if (!r->memory_bytes && !r->code_bytes && !r->disk_bytes)
        return json_null();
    json_t *o = json_object();
    if (r->memory_bytes)
        json_object_set_new(o, "memorySnapshotSizeInBytes", json_integer(r->memory_bytes));
    if (r->code_bytes)
        json_object_set_new(o, "codeInstallSizeInBytes", json_integer(r->code_bytes));
    if (r->disk_bytes)
        json_object_set_new(o, "diskSnapshotSizeInBytes", json_integer(r->disk_bytes));
    return o;
}

json_t *body_build(const struct op_call *c, const struct store_build *r, bool detail)
{
    json_t *o = json_pack(
        "{s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:n}", "imageArn",
        body_image_arn(c, r->image), "imageVersion", body_version_number(r->version), "buildId",
        r->id, "buildState", build_state_name(r->state), "architecture", "X86_64", "chipset",
        "GENERIC", "chipsetGeneration", "1", "stateReason", body_text(r->state_reason), "createdAt",
        body_time(r->created_at), "terminationReasonCode");
    if (detail)
        json_object_set_new(o, "snapshotBuild", body_snapshot(r));
    return o;
}

static json_t *body_endpoint(const struct op_call *c, const char *label)
{
    char text[400];
    uint16_t port = c->api->endpoint_port;
    int n = snprintf(text, sizeof text, "%s.%s", label, c->api->domain);
    if (port && port != 443 && n > 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ":%u", port);
    return json_string(text);
}

json_t *body_microvm(const struct op_call *c, const struct store_microvm *r)
{
    static const char *const MEMBERS[] = {"executionRoleArn", "idlePolicy",
                                          "ingressNetworkConnectors", "egressNetworkConnectors",
                                          NULL};
    json_t *o = body_microvm_item(c, r);
    json_object_set_new(o, "endpoint", body_endpoint(c, r->endpoint));
    json_object_set_new(o, "maximumDurationInSeconds", json_integer(r->max_duration_s));
    json_object_set_new(o, "terminatedAt", body_time(r->terminated_at));
    json_object_set_new(o, "stateReason", body_text(r->state_reason));
    json_object_set_new(o, "terminationReasonCode", json_null());
    CLEANUP(cleanup_json)
    json_t *config = body_config(r->config);
    copy_members(o, config, MEMBERS);
    return o;
}

json_t *body_microvm_item(const struct op_call *c, const struct store_microvm *r)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "microvmId", r->id, "state",
                     microvm_state_name(r->state), "imageArn", body_image_arn(c, r->image),
                     "imageVersion", body_version_number(r->version), "startedAt",
                     body_time(r->started_at));
}

/* ---- lookups -----------------------------------------------------------------------------------
 */

int body_find_image(struct op_call *c, struct store_image *ret, struct err *e)
{
    const char *id = json_get_str(c->in, "imageIdentifier");
    char name[IMAGE_NAME_MAX + 1];
    int r = arn_image(id, c->api->account, name, e);
    if (r < 0)
        return r;
    r = store_image_get(c->api->store, name, ret, e);
    if (r == -ENOENT)
        return err_set(e, ENOENT, "MicroVMImage not found for MicroVMImageID: %s", id);
    return r;
}

int body_find_version(struct op_call *c, struct store_version *ret, struct err *e)
{
    const char *id = json_get_str(c->in, "imageIdentifier");
    const char *version = json_get_str(c->in, "imageVersion");
    char name[IMAGE_NAME_MAX + 1];
    int r = arn_image(id, c->api->account, name, e);
    if (r < 0)
        return r;
    int number = version_parse(version);
    r = number < 0 ? -ENOENT : store_version_get(c->api->store, name, number, ret, e);
    if (r == -ENOENT)
        return err_set(e, ENOENT, "MicroVMImage not found for MicroVMImage: %s, Version: %s", id,
                       version);
    return r;
}

int body_find_microvm(struct op_call *c, struct store_microvm *ret, struct err *e)
{
    const char *id = json_get_str(c->in, "microvmIdentifier");
    struct arn a;
    if (strncmp(id, "arn:", 4) == 0) {
        if (arn_parse(id, &a) < 0 || strcmp(a.type, "microvm") != 0)
            return err_set(e, EINVAL, "Invalid ARN format: %s", id);
        if (strcmp(a.account, c->api->account) != 0)
            return err_set(e, EACCES, "Not authorized to access %s: this account is %s", id,
                           c->api->account);
        id = a.resource;
    }
    int r = store_microvm_get(c->api->store, id, ret, e);
    if (r == -ENOENT)
        return err_set(e, ENOENT, "MicroVM not found: %s", id);
    return r;
}

/* ---- pages -------------------------------------------------------------------------------------
 */

int body_list_begin(struct op_call *c, const char *filters, struct body_list *l,
                    struct page_cursor *from, struct err *e)
{
    *l = (struct body_list){.max = (size_t)json_get_int(c->in, "maxResults", PAGE_SIZE_DEFAULT)};
    *from = (struct page_cursor){0};
    const char *token = json_get_str(c->in, "nextToken");
    char digest[SHA256_HEX_LEN + 1]; /* of whatever length the filters are */
    sha256_hex_of(filters, strlen(filters), digest);
    snprintf(l->scope, sizeof l->scope, "%s %s", c->op->name, digest);
    if (token) {
        int r = page_token_open(c->api->page_key, l->scope, token, from, e);
        if (r < 0)
            return r;
    }
    l->items = json_array();
    return 0;
}

bool body_list_add(struct body_list *l, json_t *item, int64_t created, const char *key)
{
    if (json_array_size(l->items) >= l->max) {
        json_decref(item);
        l->more = true;
        return false;
    }
    json_array_append_new(l->items, item);
    l->last.created = created;
    snprintf(l->last.key, sizeof l->last.key, "%s", key);
    return true;
}

void body_list_done(struct body_list *l)
{
    json_decref(TAKE(l->items));
}

int body_list_end(struct op_call *c, struct body_list *l, json_t **ret, struct err *e)
{
    CLEANUP(buf_done)
    struct buf token = BUF_INIT(0);
    if (l->more && page_token_make(c->api->page_key, l->scope, &l->last, &token) < 0)
        return err_set(e, ENOMEM, "out of memory");
    *ret = json_pack("{s:o, s:o}", "items", TAKE(l->items), "nextToken",
                     l->more ? json_string(token.data) : json_null());
    return 0;
}
