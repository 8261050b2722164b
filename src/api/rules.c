/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rules.h"

#include <errno.h>
#include <string.h>

#define MEMORY_DEFAULT 2048

static const int MEMORY_SIZES[] = {512, 1024, 2048, 4096, 8192};

/* Set by the platform inside every microVM, or credentials that must come from nowhere else. */
static const char *const RESERVED_ENV[] = {
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_MICROVM_IMAGE_ARN",
    "AWS_LAMBDA_MICROVM_IMAGE_NAME",
    "AWS_LAMBDA_MICROVM_IMAGE_VERSION",
};

int rules_artifact(const char *uri, struct err *e)
{
    static const char SCHEME[] = "s3://";
    const char *bucket = uri + sizeof SCHEME - 1;
    const char *slash = strncmp(uri, SCHEME, sizeof SCHEME - 1) == 0 ? strchr(bucket, '/') : NULL;
    size_t n = slash ? (size_t)(slash - bucket) : 0;
    if (n < 3 || n > 63 || strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") != n ||
        !slash[1] || strlen(slash + 1) > 1024)
        return err_set(e, EINVAL,
                       "CodeArtifact URI must be a valid S3 URI in the format: "
                       "s3://<bucket>/<key>");
    return 0;
}

static bool any_enabled(const json_t *hooks, const char *const *names)
{
    for (; *names; names++) {
        const char *state = json_get_str(hooks, *names);
        if (state && strcmp(state, "ENABLED") == 0)
            return true;
    }
    return false;
}

int rules_hooks(const json_t *hooks, struct err *e)
{
    static const char *const RUNTIME[] = {"run", "resume", "suspend", "terminate", NULL};
    static const char *const READY[] = {"ready", NULL};
    static const char *const BUILD[] = {"ready", "validate", NULL};
    const json_t *vm = json_object_get(hooks, "microvmHooks");
    const json_t *image = json_object_get(hooks, "microvmImageHooks");
    bool runtime = any_enabled(vm, RUNTIME);
    if (runtime && !any_enabled(image, READY))
        return err_set(e, EINVAL,
                       "The ready (/ready) MicroVM image hook must be enabled when any MicroVM "
                       "lifecycle hook (run, resume, suspend, or terminate) is enabled. The ready "
                       "hook signals when the application has finished initializing so the "
                       "snapshot is taken in a ready state.");
    if ((runtime || any_enabled(image, BUILD)) && !json_object_get(hooks, "port"))
        return err_set(e, EINVAL, "The hooks port must be specified when any hook is enabled.");
    return 0;
}

int rules_connectors(const json_t *list, bool ingress, struct err *e)
{
    bool alone = false;
    const char *alone_name = NULL;
    size_t i;
    json_t *v;
    json_array_foreach (list, i, v) {
        enum connector c;
        int r = arn_connector(json_string_value(v), ingress, &c, e);
        if (r < 0)
            return r;
        if (c == CONNECTOR_ALL_INGRESS || c == CONNECTOR_NO_INGRESS) {
            alone = true;
            alone_name = connector_name(c);
        }
    }
    if (alone && json_array_size(list) > 1)
        return err_set(e, EINVAL,
                       "%s cannot be combined with other ingress network connectors; use "
                       "HTTP_INGRESS and/or SHELL_INGRESS instead",
                       alone_name);
    return 0;
}

json_t *rules_default_connectors(const char *region, enum connector c)
{
    char arn[ARN_MAX];
    arn_format_connector(arn, region, c);
    return json_pack("[s]", arn);
}

bool rules_has_connector(const json_t *list, enum connector c)
{
    size_t i;
    json_t *v;
    json_array_foreach (list, i, v) {
        const char *colon = strrchr(json_string_value(v), ':');
        if (colon && strcmp(colon + 1, connector_name(c)) == 0)
            return true;
    }
    return false;
}

static int check_environment(const json_t *env, struct err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)env, key, v) {
        for (size_t i = 0; i < ARRAY_LEN(RESERVED_ENV); i++)
            if (strcmp(key, RESERVED_ENV[i]) == 0)
                return err_set(e, EINVAL, "Environment variable key '%s' is reserved", key);
        if (strchr(key, '='))
            return err_set(e, EINVAL, "Environment variable key '%s' contains '='", key);
    }
    return 0;
}

static int check_memory(const json_t *in, struct err *e)
{
    const json_t *first = json_array_get(json_object_get(in, "resources"), 0);
    int64_t mib = json_get_int(first, "minimumMemoryInMiB", MEMORY_DEFAULT);
    for (size_t i = 0; i < ARRAY_LEN(MEMORY_SIZES); i++)
        if (MEMORY_SIZES[i] == mib)
            return 0;
    return err_set(e, EINVAL,
                   "The requested memory size of %lld MiB is not supported by base MicroVM image "
                   "%s. Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192].",
                   (long long)mib, json_get_str(in, "baseImageArn"));
}

static int check_base(const json_t *in, struct err *e)
{
    const char *arn = json_get_str(in, "baseImageArn");
    const char *version = json_get_str(in, "baseImageVersion");
    char name[IMAGE_NAME_MAX + 1];
    int r = arn_managed_image(arn, name, e);
    if (r < 0)
        return r;
    bool known = strcmp(name, MANAGED_IMAGE) == 0 || strcmp(name, MANAGED_IMAGE_ALIAS) == 0;
    if (known && (!version || version_parse(version) == 1))
        return 0;
    return err_set(e, EINVAL, "No managed MicroVM Image with arn %s and version %s is available",
                   arn, version ? version : "1");
}

static void fill_defaults(json_t *config, const char *region)
{
    json_object_set_new(config, "baseImageVersion", json_string("1.0"));
    if (json_array_size(json_object_get(config, "egressNetworkConnectors")) == 0)
        json_object_set_new(config, "egressNetworkConnectors",
                            rules_default_connectors(region, CONNECTOR_INTERNET_EGRESS));
    if (json_array_size(json_object_get(config, "resources")) == 0)
        json_object_set_new(config, "resources",
                            json_pack("[{s:i}]", "minimumMemoryInMiB", MEMORY_DEFAULT));
}

int rules_image_input(const json_t *in, const char *region, json_t **ret, struct err *e)
{
    int r = rules_artifact(json_get_str(json_object_get(in, "codeArtifact"), "uri"), e);
    if (r == 0)
        r = check_base(in, e);
    if (r == 0)
        r = check_memory(in, e);
    if (r == 0)
        r = rules_hooks(json_object_get(in, "hooks"), e);
    if (r == 0)
        r = rules_connectors(json_object_get(in, "egressNetworkConnectors"), false, e);
    if (r == 0)
        r = check_environment(json_object_get(in, "environmentVariables"), e);
    if (r < 0)
        return r;
    json_t *config = json_deep_copy(in);
    json_object_del(config, "clientToken");
    json_object_del(config, "imageIdentifier");
    fill_defaults(config, region);
    *ret = config;
    return 0;
}
