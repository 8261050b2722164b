/* SPDX-License-Identifier: Apache-2.0 */
/* build: directory -> ZIP -> bucket -> image (or its next version), with the build's log live. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "cli/artifact.h"
#include "cli/builds.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/wait.h"

#define BUCKET "tinderbox-artifacts"
#define NAME_MAX_LEN 64

struct options {
    const char *name, *description;
    long memory_mib, port, ready_timeout_s;
    struct option_list env, hooks;
    bool ready, validate, all_capabilities, no_follow, quiet;
};

static const struct option_row rows[] = {
    {"name", 'n', OPTION_TEXT, offsetof(struct options, name), 0, 0, "NAME",
     "of the image; default: the directory's"},
    {"memory", 'm', OPTION_NUMBER, offsetof(struct options, memory_mib), 512, 8192, "MIB",
     "512, 1024, 2048 (default), 4096 or 8192"},
    {"env", 'e', OPTION_LIST, offsetof(struct options, env), 0, 0, "KEY=VALUE",
     "an environment variable of the application"},
    {"description", 0, OPTION_TEXT, offsetof(struct options, description), 0, 0, "TEXT",
     "of the image"},
    {"ready", 0, OPTION_FLAG, offsetof(struct options, ready), 0, 0, NULL,
     "freeze when the application's ready hook says so (needs --port)"},
    {"validate", 0, OPTION_FLAG, offsetof(struct options, validate), 0, 0, NULL,
     "call the validate hook on a clone of the snapshot"},
    {"hook", 0, OPTION_LIST, offsetof(struct options, hooks), 0, 0, "NAME",
     "call this hook at run time: run, suspend, resume, terminate"},
    {"port", 'p', OPTION_NUMBER, offsetof(struct options, port), 1, 65535, "PORT",
     "where the application serves its hooks"},
    {"ready-timeout", 0, OPTION_NUMBER, offsetof(struct options, ready_timeout_s), 1, 3600, "S",
     "give the ready hook this long"},
    {"all-capabilities", 0, OPTION_FLAG, offsetof(struct options, all_capabilities), 0, 0, NULL,
     "the application may mount, trace, change networks"},
    {"no-follow", 0, OPTION_FLAG, offsetof(struct options, no_follow), 0, 0, NULL,
     "return when the build has begun"},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct options, quiet), 0, 0, NULL,
     "without the build's log"},
    {0},
};

/* The directory's own name with what an image's name cannot have turned into '-'. */
static int default_name(const char *dir, char out[NAME_MAX_LEN + 1], struct err *e)
{
    char real[PATH_MAX];
    if (!realpath(dir, real))
        return err_set_errno(e, errno, "cannot read the directory %s", dir);
    const char *base = strrchr(real, '/') + 1;
    size_t n = 0;
    for (; n < NAME_MAX_LEN && base[n]; n++) {
        bool ok = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
                         base[n]) != NULL;
        out[n] = ok ? base[n] : '-';
    }
    out[n] = '\0';
    return n ? 0 : err_set(e, EINVAL, "give the image a name: --name NAME");
}

static int add_env(json_t *body, const struct option_list *list, struct err *e)
{
    json_t *env = json_object();
    json_object_set_new(body, "environmentVariables", env);
    for (size_t i = 0; i < list->n; i++) {
        const char *eq = strchr(list->items[i], '=');
        if (!eq || eq == list->items[i])
            return err_set(e, EINVAL, "--env '%s' is not KEY=VALUE", list->items[i]);
        char key[257];
        snprintf(key, sizeof key, "%.*s", (int)(eq - list->items[i]), list->items[i]);
        json_object_set_new(env, key, json_string(eq + 1));
    }
    return 0;
}

static int add_hooks(json_t *body, const struct options *o, struct err *e)
{
    if (!o->ready && !o->validate && !o->hooks.n)
        return 0;
    if (!o->port)
        return err_set(e, EINVAL, "hooks need --port PORT, where the application serves them");
    json_t *image = json_object(), *runtime = json_object();
    json_object_set_new(body, "hooks",
                        json_pack("{s:I,s:o,s:o}", "port", (json_int_t)o->port, "microvmImageHooks",
                                  image, "microvmHooks", runtime));
    json_object_set_new(image, "ready", json_string(o->ready ? "ENABLED" : "DISABLED"));
    if (o->ready_timeout_s)
        json_object_set_new(image, "readyTimeoutInSeconds", json_integer(o->ready_timeout_s));
    json_object_set_new(image, "validate", json_string(o->validate ? "ENABLED" : "DISABLED"));
    for (size_t i = 0; i < o->hooks.n; i++)
        json_object_set_new(runtime, o->hooks.items[i], json_string("ENABLED"));
    return 0;
}

/* Base images are managed by the service; there is one today. */
static int add_base(struct cli *c, json_t *body, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *items = NULL;
    int rc = client_list(c, "/2025-09-09/managed-microvm-images", &items, e);
    if (rc < 0)
        return rc;
    const char *arn = json_get_str(json_array_get(items, 0), "imageArn");
    if (!arn)
        return err_set(e, EPROTO, "the service has no managed base image");
    json_object_set_new(body, "baseImageArn", json_string(arn));
    json_object_set_new(body, "buildRoleArn",
                        json_sprintf("arn:aws:iam::%s:role/tinderbox-build", c->account));
    return 0;
}

static int make_body(struct cli *c, const struct options *o, const char *key, json_t **ret,
                     struct err *e)
{
    char token[UUID_LEN + 1];
    uuid_new(token);
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:s}", "clientToken", token);
    json_object_set_new(body, "codeArtifact",
                        json_pack("{s:o}", "uri", json_sprintf("s3://" BUCKET "/%s", key)));
    if (o->memory_mib)
        json_object_set_new(body, "resources",
                            json_pack("[{s:I}]", "minimumMemoryInMiB", (json_int_t)o->memory_mib));
    if (o->description)
        json_object_set_new(body, "description", json_string(o->description));
    if (o->all_capabilities)
        json_object_set_new(body, "additionalOsCapabilities", json_pack("[s]", "ALL"));
    int rc = add_hooks(body, o, e);
    if (rc == 0 && o->env.n)
        rc = add_env(body, &o->env, e);
    if (rc == 0)
        rc = add_base(c, body, e);
    if (rc == 0)
        *ret = TAKE(body);
    return rc;
}

/* The key names the contents: uploading the same directory again changes nothing. */
static int upload(struct cli *c, const char *dir, const char *name, char key[160], struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = -1;
    uint64_t files = 0;
    char sha256[SHA256_HEX_LEN + 1];
    struct stat st = {0};
    int rc = artifact_pack(dir, &fd, &files, e);
    if (rc == 0)
        rc = sha256_hex_fd(fd, sha256, e);
    if (rc == 0 && fstat(fd, &st) < 0)
        rc = err_set_errno(e, errno, "cannot read the archive");
    if (rc < 0)
        return rc;
    snprintf(key, 160, "%.64s/%.32s.zip", name, sha256);
    fprintf(stderr, "uploading %llu files, %.1f KiB\n", (unsigned long long)files,
            (double)st.st_size / 1024);
    rc = client_make_bucket(c, BUCKET, e);
    return rc < 0 ? rc : client_put_object(c, BUCKET, key, fd, e);
}

/* Creates the image or, when it exists, its next version. */
static int submit(struct cli *c, const char *name, const char *arn, json_t *body, json_t **ret,
                  struct err *e)
{
    char path[1400];
    int rc = client_path(path, sizeof path, "/2025-09-09/microvm-images/", arn, "", e);
    if (rc == 0)
        rc = client_call(c, "GET", path, NULL, NULL, e);
    if (rc == 0)
        return client_call(c, "PUT", path, body, ret, e);
    if (rc != -ENOENT)
        return rc;
    json_object_set_new(body, "name", json_string(name));
    return client_call(c, "POST", "/2025-09-09/microvm-images", body, ret, e);
}

/* Waits for the end of the build; its description. */
static int wait_build(struct cli *c, const char *arn, const char *version, json_t **ret,
                      struct err *e)
{
    for (;;) {
        CLEANUP(cleanup_json)
        json_t *build = NULL;
        int rc = build_of_version(c, arn, version, &build, e);
        if (rc < 0)
            return rc;
        const char *state = json_get_str(build, "buildState");
        if (state && (strcmp(state, "SUCCESSFUL") == 0 || strcmp(state, "FAILED") == 0)) {
            *ret = TAKE(build);
            return 0;
        }
        wait_ms(100);
    }
}

static int follow(struct cli *c, const struct options *o, const char *arn, const char *version,
                  struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *begun = NULL;
    CLEANUP(cleanup_json)
    json_t *ended = NULL;
    const struct log_view view = {.follow = true, .one_stream = true, .missing_ok = true};
    int64_t start = clock_mono_ms();
    int rc = build_of_version(c, arn, version, &begun, e);
    if (rc == 0 && !o->quiet)
        rc = log_print(c, "build", json_get_str(begun, "buildId"), &view, e);
    if (rc == 0 || rc == -ENOENT) /* a build can fail before it writes a line */
        rc = wait_build(c, arn, version, &ended, e);
    if (rc < 0)
        return rc;
    const char *state = json_get_str(ended, "buildState");
    const char *reason = json_get_str(ended, "stateReason");
    if (strcmp(state, "SUCCESSFUL") != 0)
        return err_set(e, EIO, "the build of %s %s failed: %s", arn_name(arn), version,
                       reason ? reason : "no reason given");
    fprintf(stderr, "built in %.1f s\n", (double)(clock_mono_ms() - start) / 1000);
    return 0;
}

static int build(struct cli *c, const struct options *o, const char *dir, const char *name,
                 struct err *e)
{
    char key[160], arn[ID_TEXT_MAX];
    CLEANUP(cleanup_json)
    json_t *body = NULL;
    CLEANUP(cleanup_json)
    json_t *image = NULL;
    int rc = upload(c, dir, name, key, e);
    if (rc == 0)
        rc = make_body(c, o, key, &body, e);
    if (rc == 0)
        rc = resolve_image(c, name, arn, e);
    if (rc == 0)
        rc = submit(c, name, arn, body, &image, e);
    if (rc < 0)
        return rc;
    const char *version = json_get_str(image, "imageVersion");
    if (!version)
        return err_set(e, EPROTO, "the service's answer has no version");
    if (!o->no_follow)
        rc = follow(c, o, arn, version, e);
    if (rc == 0)
        printf("%s %s\n", name, version);
    return rc;
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    const struct options *o = options;
    struct err e = {0};
    char name[NAME_MAX_LEN + 1];
    int rc = cli_connect(c, &e);
    if (rc == 0 && o->name && strlen(o->name) > NAME_MAX_LEN)
        rc = err_set(&e, EINVAL, "the image's name is longer than %d characters", NAME_MAX_LEN);
    if (rc == 0 && o->name)
        snprintf(name, sizeof name, "%s", o->name);
    else if (rc == 0)
        rc = default_name(args->items[0], name, &e);
    if (rc == 0)
        rc = build(c, o, args->items[0], name, &e);
    return rc < 0 ? cli_fail(&e) : EXIT_OK;
}

const struct verb verb_build = {
    .name = "build",
    .help = "build an image from a directory with a Dockerfile",
    .usage = "[-n NAME] [-m MIB] [-e KEY=VALUE]... [--ready -p PORT] [--no-follow] DIR",
    .options = rows,
    .size = sizeof(struct options),
    .min = 1,
    .max = 1,
    .run = run,
};
