/* SPDX-License-Identifier: Apache-2.0 */
/* MicroVM operations. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/body.h"
#include "api/replay.h"
#include "api/rules.h"
#include "net/policy.h"

#define MAX_DURATION_S 28800

/* What a run resolves to before the machine is asked for. */
struct run_plan {
    char image[IMAGE_NAME_MAX + 1];
    int version;
    json_t *config; /* owned */
};

static int no_active_version(struct op_call *c, struct err *e)
{
    const char *version = json_get_str(c->in, "imageVersion");
    return err_set(e, ENOENT, "No active version found for MicroVM image %s%s%s",
                   json_get_str(c->in, "imageIdentifier"), version ? " and version " : "",
                   version ? version : "");
}

static int check_run_arns(struct op_call *c, struct run_plan *p, struct err *e)
{
    const char *id = json_get_str(c->in, "imageIdentifier");
    if (strncmp(id, "arn:", 4) != 0)
        return err_set(e, EINVAL, "Malformed ARN - doesn't start with 'arn:'");
    int r = arn_image(id, c->api->account, p->image, e);
    if (r == 0)
        r = rules_connectors(json_object_get(c->in, "ingressNetworkConnectors"), true, e);
    if (r == 0)
        r = rules_connectors(json_object_get(c->in, "egressNetworkConnectors"), false, e);
    return r;
}

static int check_egress_policy(const json_t *policy, struct err *e)
{
    if (!policy)
        return 0;
    struct net_policy *parsed = malloc(sizeof *parsed);
    if (!parsed)
        return err_set(e, ENOMEM, "out of memory");
    int r = net_policy_from_json(policy, parsed, e);
    free(parsed);
    return r < 0 ? err_wrap(e, "egressPolicy") : 0;
}

/* The version to run: the one asked for, or the latest active one. */
static int resolve_version(struct op_call *c, struct run_plan *p, struct store_version *ver,
                           struct err *e)
{
    struct store_image img = {0};
    const char *version = json_get_str(c->in, "imageVersion");
    int r = store_image_get(c->api->store, p->image, &img, e);
    if (r == 0)
        p->version = version ? version_parse(version) : img.latest_active;
    bool gone = r == 0 && img.state == IMAGE_DELETING;
    store_image_done(&img);
    if (r == -ENOENT || (r == 0 && (p->version <= 0 || gone)))
        return no_active_version(c, e);
    if (r == 0)
        r = store_version_get(c->api->store, p->image, p->version, ver, e);
    if (r == -ENOENT ||
        (r == 0 && (ver->state != VERSION_SUCCESSFUL || ver->status != VERSION_ACTIVE)))
        return no_active_version(c, e);
    return r;
}

static int check_payload(struct op_call *c, const json_t *version_config, struct err *e)
{
    const char *payload = json_get_str(c->in, "runHookPayload");
    const json_t *hooks = json_object_get(version_config, "hooks");
    const char *run = json_get_str(json_object_get(hooks, "microvmHooks"), "run");
    if (payload && *payload && (!run || strcmp(run, "ENABLED") != 0))
        return err_set(e, EINVAL,
                       "The run hook must be enabled in the MicroVM image to pass the "
                       "run hook payload");
    return 0;
}

static json_t *run_config(struct op_call *c, const json_t *version_config)
{
    static const char *const MEMBERS[] = {"executionRoleArn", "idlePolicy", "logging",
                                          "egressPolicy"};
    static const char IN[] = "ingressNetworkConnectors", OUT[] = "egressNetworkConnectors";
    json_t *o = json_object();
    for (size_t i = 0; i < ARRAY_LEN(MEMBERS); i++) {
        json_t *v = json_object_get(c->in, MEMBERS[i]);
        if (v)
            json_object_set(o, MEMBERS[i], v);
    }
    json_t *in = json_object_get(c->in, IN), *out = json_object_get(c->in, OUT);
    if (!json_array_size(out))
        out = json_object_get(version_config, OUT);
    json_object_set_new(o, IN,
                        json_array_size(in)
                            ? json_incref(in)
                            : rules_default_connectors(c->region, CONNECTOR_HTTP_INGRESS));
    json_object_set_new(o, OUT,
                        json_array_size(out)
                            ? json_incref(out)
                            : rules_default_connectors(c->region, CONNECTOR_INTERNET_EGRESS));
    return o;
}

static int run(struct op_call *c, const struct run_plan *p, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_free)
    char *config = json_text(p->config);
    const struct microvm_run_request request = {
        .image = p->image,
        .version = p->version,
        .config = config,
        .run_hook_payload = json_get_str(c->in, "runHookPayload"),
        .max_duration_s = json_get_int(c->in, "maximumDurationInSeconds", MAX_DURATION_S),
    };
    struct store_microvm vm = {0};
    int r = microvm_run(c->api->microvms, &request, &vm, e);
    if (r == -ENOENT)
        r = no_active_version(c, e);
    if (r == -EDQUOT)
        err_set(e, EDQUOT,
                "The base maximum allocated memory limit has been reached for this "
                "account.");
    replay_settle(c, r < 0 ? NULL : vm.id);
    if (r == 0)
        *ret = body_microvm(c, &vm);
    store_microvm_done(&vm);
    return r;
}

static int replay_run(struct op_call *c, const char *id, json_t **ret, struct err *e)
{
    struct store_microvm vm = {0};
    int r = store_microvm_get(c->api->store, id, &vm, e);
    if (r == -ENOENT)
        err_set(e, ENOENT, "MicroVM not found: %s", id);
    if (r == 0)
        *ret = body_microvm(c, &vm);
    store_microvm_done(&vm);
    return r;
}

/* A replay is answered before the image is looked at: it must work after the image changed. */
int op_run_microvm(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_free)
    char *resource = NULL;
    struct run_plan plan = {0};
    int r = check_run_arns(c, &plan, e);
    if (r == 0)
        r = check_egress_policy(json_object_get(c->in, "egressPolicy"), e);
    if (r == 0)
        r = replay_claim(c, &resource, e);
    if (r < 0)
        return r;
    if (r == 0)
        return replay_run(c, resource, ret, e);
    struct store_version ver = {0};
    r = resolve_version(c, &plan, &ver, e);
    CLEANUP(cleanup_json)
    json_t *version_config = body_config(ver.config);
    store_version_done(&ver);
    if (r == 0)
        r = check_payload(c, version_config, e);
    if (r < 0) {
        replay_settle(c, NULL);
        return r;
    }
    plan.config = run_config(c, version_config);
    r = run(c, &plan, ret, e);
    json_decref(plan.config);
    return r;
}

int op_get_microvm(struct op_call *c, json_t **ret, struct err *e)
{
    struct store_microvm vm = {0};
    int r = body_find_microvm(c, &vm, e);
    if (r == 0)
        *ret = body_microvm(c, &vm);
    store_microvm_done(&vm);
    return r;
}

struct vm_walk {
    struct op_call *c;
    struct body_list *list;
};

static int on_microvm(const struct store_microvm *r, void *arg)
{
    struct vm_walk *w = arg;
    return !body_list_add(w->list, body_microvm_item(w->c, r), r->started_at, r->id);
}

/* The filters a list request names; image "" = any, version 0 = any. */
static int list_filters(struct op_call *c, char image[IMAGE_NAME_MAX + 1], int *version,
                        struct err *e)
{
    const char *id = json_get_str(c->in, "imageIdentifier");
    const char *number = json_get_str(c->in, "imageVersion");
    *version = number ? version_parse(number) : 0;
    image[0] = '\0';
    if (*version < 0)
        return err_set(e, EINVAL, "Invalid image version: %s", number);
    if (number && !id)
        return err_set(e, EINVAL, "imageVersion needs imageIdentifier");
    return id ? arn_image(id, c->api->account, image, e) : 0;
}

int op_list_microvms(struct op_call *c, json_t **ret, struct err *e)
{
    CLEANUP(body_list_done)
    struct body_list list = {0};
    struct page_cursor from;
    char image[IMAGE_NAME_MAX + 1], scope[IMAGE_NAME_MAX + 16];
    int version;
    int r = list_filters(c, image, &version, e);
    if (r < 0)
        return r;
    snprintf(scope, sizeof scope, "%s:%d", image, version);
    r = body_list_begin(c, scope, &list, &from, e);
    if (r < 0)
        return r;
    struct vm_walk w = {c, &list};
    const struct store_page page = {.before_created = from.created,
                                    .before_key = from.created ? from.key : NULL,
                                    .limit = (int)list.max + 1};
    r = store_microvm_list(c->api->store, *image ? image : NULL, version, &page, on_microvm, &w, e);
    return r < 0 ? r : body_list_end(c, &list, ret, e);
}

/* ---- transitions -------------------------------------------------------------------------------
 */

static int change(struct op_call *c,
                  int (*fn)(struct microvm_service *s, const char *id, struct err *e),
                  bool ended_is_error, json_t **ret, struct err *e)
{
    struct store_microvm vm = {0};
    int r = body_find_microvm(c, &vm, e);
    bool ended = r == 0 && vm.state == MICROVM_TERMINATED;
    if (ended && ended_is_error)
        r = err_set(e, EINVAL,
                    "The MicroVM %s has been terminated and its state cannot be changed.", vm.id);
    else if (r == 0 && !ended)
        r = fn(c->api->microvms, vm.id, e);
    if (r >= 0)
        *ret = json_object();
    store_microvm_done(&vm);
    return r;
}

int op_suspend_microvm(struct op_call *c, json_t **ret, struct err *e)
{
    return change(c, microvm_suspend, true, ret, e);
}

int op_resume_microvm(struct op_call *c, json_t **ret, struct err *e)
{
    return change(c, microvm_resume, true, ret, e);
}

int op_terminate_microvm(struct op_call *c, json_t **ret, struct err *e)
{
    return change(c, microvm_terminate, false, ret, e);
}
