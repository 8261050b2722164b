/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A build, from the zip to an ACTIVE version, on a build thread:
 *   fetch     the zip is copied out of the artifact store
 *   scan      entries, Dockerfile, plan                                  (scan.c)
 *   steps     one build machine per step that is not cached              (steps.c)
 *   disk      the last layer becomes one raw disk
 *   start     the application boots on it and becomes ready (/ready, or quiet)
 *   snapshot  the machine is frozen
 *   validate  a throw-away clone answers /validate, when that is enabled
 * The result appears as <data>/images/<name>/<number> in one rename before the rows say SUCCESSFUL.
 * A build that the service interrupts by closing leaves its rows as they are and starts again.
 */
#include "microvm/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "image/config.h"
#include "proto/wire.h"

#define BOOT_TIMEOUT_MS 120000
#define SETTLE_TIMEOUT_MS 60000
#define DEFAULT_READY_S 60
#define DEFAULT_VALIDATE_S 30
#define HOOK_RETRY_MS 250
#define STORE_RETRY_MS 1000
#define DISK_FULL "DISK_STORAGE_FULL"

void build_phase(struct build *b, const char *name, int64_t since_mono_ms)
{
    log_file_printf(b->log, "== phase %s %lld ms", name,
                    (long long)(clock_mono_ms() - since_mono_ms));
}

/* ---- fetch ------------------------------------------------------------------------------------
 */

/* "s3://bucket/key", checked by the API. */
static int split_uri(const char *uri, char *bucket, size_t cap, const char **key)
{
    const char *p = uri && strncmp(uri, "s3://", 5) == 0 ? uri + 5 : NULL;
    const char *slash = p ? strchr(p, '/') : NULL;
    if (!slash || !slash[1] || (size_t)(slash - p) >= cap)
        return -EINVAL;
    memcpy(bucket, p, (size_t)(slash - p));
    bucket[slash - p] = '\0';
    *key = slash + 1;
    return 0;
}

static int fetch(struct build *b, struct err *e)
{
    char bucket[128], from[64];
    const char *key;
    int64_t start = clock_mono_ms();
    struct stat st;
    const char *uri = json_get_str(json_object_get(b->config, "codeArtifact"), "uri");
    if (split_uri(uri, bucket, sizeof bucket, &key) < 0)
        return err_set(e, EINVAL, "S3_INVALID_OBJECT: %s is not an S3 URI", uri ? uri : "(none)");
    CLEANUP(cleanup_close)
    int fd = b->service->open_artifact(b->service->artifacts, bucket, key, e);
    if (fd < 0)
        return fd;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    int r = fs_copy_file(from, b->zip, 0400, e);
    if (r == 0)
        r = sha256_hex_fd(fd, b->zip_sha256, e);
    if (r == 0 && fstat(fd, &st) < 0)
        r = err_set_errno(e, errno, "artifact");
    if (r < 0)
        return r;
    b->zip_size = (uint64_t)st.st_size;
    if (b->zip_size > DISK_BYTES)
        return err_set(e, EINVAL, "ARCHIVE_INVALID: the archive is larger than %llu bytes",
                       (unsigned long long)DISK_BYTES);
    log_file_printf(b->log, "%s: %llu bytes, sha256 %s", uri, (unsigned long long)b->zip_size,
                    b->zip_sha256);
    build_phase(b, "fetch", start);
    return 0;
}

/* ---- the application's machine ----------------------------------------------------------------
 */

struct app {
    struct build *build;
    struct builder machine; /* listed for builds_interrupt(); its directory is ours */
    char disk[1024];
    pthread_t follower;
    bool following;
    atomic_bool exited;
    int exit_code;
};

static int make_disk(struct build *b, const char *disk, struct err *e)
{
    int64_t start = clock_mono_ms();
    const struct stage_disk *last = &b->stages[b->plan->n_stages - 1];
    int r = last->format == ENGINE_DISK_RAW
                ? fs_copy_file(last->path, disk, 0600, e)
                : engine_disk_flatten(b->service->cfg.engine, last->path, disk, e);
    if (r == 0)
        build_phase(b, "disk", start);
    return r < 0 ? err_wrap(e, "root disk") : 0;
}

static void fill_spec(struct app *app, const struct net_policy *policy, struct engine_spec *spec)
{
    struct build *b = app->build;
    *spec = (struct engine_spec){
        .id = b->row.id,
        .dir = app->machine.dir,
        .memory_mib = (unsigned)b->version.memory_mib,
        .vcpus = service_vcpus(b->service, b->version.memory_mib),
        .disks = {{.path = app->disk, .format = ENGINE_DISK_RAW}},
        .n_disks = 1,
        .network = true,
        .policy = policy,
        .end_when_full = true,
    };
}

static void add_env(json_t *env, const char *key, const char *value)
{
    struct buf b = BUF_INIT(0);
    if (buf_addf(&b, "%s=%s", key, value) == 0)
        json_array_append_new(env, json_string(b.data));
    buf_done(&b);
}

/* Image ENV, then environmentVariables, then the platform's own: a later one wins. */
static json_t *app_environment(const struct build *b, const json_t *config)
{
    char arn[256], number[16];
    const char *key;
    json_t *v;
    const struct microvm_config *c = &b->service->cfg;
    json_t *env = json_deep_copy(json_object_get(config, "Env"));
    if (!env)
        env = json_array();
    json_object_foreach (json_object_get(b->config, "environmentVariables"), key, v)
        if (json_is_string(v))
            add_env(env, key, json_string_value(v));
    snprintf(arn, sizeof arn, "arn:aws:lambda:%s:%s:microvm-image:%s", c->region, c->account,
             b->version.image);
    snprintf(number, sizeof number, "%d.0", b->version.number);
    add_env(env, "AWS_LAMBDA_MICROVM_IMAGE_ARN", arn);
    add_env(env, "AWS_LAMBDA_MICROVM_IMAGE_NAME", b->version.image);
    add_env(env, "AWS_LAMBDA_MICROVM_IMAGE_VERSION", number);
    add_env(env, "AWS_REGION", c->region);
    return env;
}

static int start_container(struct app *app, struct err *e)
{
    struct build *b = app->build;
    const json_t *config = plan_target(b->plan)->config;
    const json_t *caps = json_object_get(b->config, "additionalOsCapabilities");
    json_t *argv = NULL;
    int r = config_argv(config, &argv, e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_json)
    json_t *boot = json_pack("{s:i,s:s,s:o}", "rootDisk", 0, "hostname", "localhost", "network",
                             guest_network());
    CLEANUP(cleanup_json)
    json_t *start =
        json_pack("{s:o,s:o,s:s,s:s,s:s}", "args", argv, "env", app_environment(b, config), "cwd",
                  config_workdir(config), "user", config_user(config), "capabilities",
                  json_array_size(caps) ? "all" : "default");
    r = agent_call(app->machine.agent, "POST", WIRE_BOOT, boot, 60000, NULL, e);
    if (r == 0)
        r = agent_call(app->machine.agent, "POST", WIRE_START, start, 60000, NULL, e);
    return r < 0 ? err_wrap(e, "start the application") : 0;
}

static void *follow_main(void *arg)
{
    struct app *app = arg;
    int code = 0;
    if (guest_follow(app->machine.agent, app->build->log, &code) == 1) {
        app->exit_code = code;
        atomic_store(&app->exited, true);
    }
    return NULL;
}

static int boot_app(struct app *app, struct err *e)
{
    struct build *b = app->build;
    struct engine_spec spec;
    int64_t start = clock_mono_ms();
    fill_spec(app, NULL, &spec);
    int r = engine_boot(b->service->cfg.engine, &spec, &app->machine.machine, e);
    if (r == 0)
        r = builder_enlist(&app->machine, e);
    if (r == 0)
        r = guest_connect(b->service, app->machine.machine, BOOT_TIMEOUT_MS, &app->machine.agent,
                          e);
    if (r < 0)
        return err_wrap(e, "boot");
    build_phase(b, "boot", start);
    r = start_container(app, e);
    if (r < 0)
        return r;
    r = pthread_create(&app->follower, NULL, follow_main, app);
    if (r != 0)
        return err_set_errno(e, r, "log thread");
    app->following = true;
    return 0;
}

/* ---- hooks ------------------------------------------------------------------------------------
 */

struct image_hook {
    const char *name, *title;
    int default_s;
};

static const struct image_hook READY = {"ready", "Ready", DEFAULT_READY_S};
static const struct image_hook VALIDATE = {"validate", "Validate", DEFAULT_VALIDATE_S};

static bool hook_enabled(const struct build *b, const struct image_hook *h, int *timeout_s)
{
    const json_t *set = json_object_get(json_object_get(b->config, "hooks"), "microvmImageHooks");
    const char *state = json_get_str(set, h->name);
    char key[64];
    snprintf(key, sizeof key, "%sTimeoutInSeconds", h->name);
    *timeout_s = (int)json_get_int(set, key, h->default_s);
    return state && strcmp(state, "ENABLED") == 0;
}

static int hook_verdict(const struct image_hook *h, int status, struct err *e)
{
    if (status >= 400 && status < 500)
        return err_set(e, EIO,
                       "%s hook check failed: the application returned a client error (HTTP %d) "
                       "response",
                       h->title, status);
    return err_set(e, EIO,
                   "%s hook check failed: the application returned a server error (HTTP %d) "
                   "response",
                   h->title, status);
}

/* 200 ends it well; 503 and a refused connection are tried again until the timeout. */
static int call_until_ready(struct build *b, struct agent *a, const struct image_hook *h,
                            int timeout_s, const atomic_bool *exited, struct err *e)
{
    int port = (int)json_get_int(json_object_get(b->config, "hooks"), "port", 8080);
    int64_t deadline = clock_mono_ms() + timeout_s * 1000LL;
    struct hook_result res = {0};
    for (int64_t left; (left = deadline - clock_mono_ms()) > 0;) {
        if (exited && atomic_load(exited))
            return err_set(e, EIO, "%s hook check failed: the container has exited", h->title);
        int r = guest_hook(a, (uint16_t)port, h->name, NULL, (int)left, &res, e);
        if (r < 0)
            return r;
        if (res.status == 200)
            return 0;
        if (res.status && res.status != 503)
            return hook_verdict(h, res.status, e);
        usleep(HOOK_RETRY_MS * 1000); /* the application offers no event to wait for */
    }
    return err_set(e, ETIMEDOUT, "%s hook invocation timed out after PT%dS (port %d, %s)", h->title,
                   timeout_s, port,
                   res.refused         ? "connection refused"
                   : res.status == 503 ? "HTTP 503"
                                       : "no answer");
}

static int wait_ready(struct app *app, struct err *e)
{
    int timeout_s, r;
    int64_t start = clock_mono_ms();
    struct build *b = app->build;
    if (hook_enabled(b, &READY, &timeout_s)) {
        r = call_until_ready(b, app->machine.agent, &READY, timeout_s, &app->exited, e);
    } else {
        CLEANUP(cleanup_json)
        json_t *answer = NULL;
        CLEANUP(cleanup_json)
        json_t *body = json_pack("{s:i}", "timeoutMs", SETTLE_TIMEOUT_MS);
        r = agent_call(app->machine.agent, "POST", WIRE_SETTLE, body, SETTLE_TIMEOUT_MS + 30000,
                       &answer, e);
        if (r == 0 && !json_get_bool(answer, "settled", false))
            log_file_printf(b->log, "The application was still busy after %d s: frozen as it is",
                            SETTLE_TIMEOUT_MS / 1000);
    }
    if (r == 0 && atomic_load(&app->exited))
        r = err_set(e, EIO, "the application has ended");
    if (r == 0)
        build_phase(b, "ready", start);
    return r;
}

/* ---- snapshot ---------------------------------------------------------------------------------
 */

static void stop_following(struct app *app)
{
    if (app->machine.agent)
        agent_close(app->machine.agent); /* ends the follower's stream */
    if (app->following)
        pthread_join(app->follower, NULL);
    app->following = false;
}

static int freeze_app(struct app *app, const char *snapshot, struct err *e)
{
    int64_t start = clock_mono_ms();
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:b}", "dropCaches", 0);
    int r = agent_call(app->machine.agent, "POST", WIRE_PREPARE, body, 60000, NULL, e);
    stop_following(app);
    if (r == 0)
        r = engine_snapshot(app->machine.machine, snapshot, e);
    if (r == 0 && chmod(app->disk, 0400) < 0)
        r = err_set_errno(e, errno, "root disk");
    if (r == 0)
        build_phase(app->build, "snapshot", start);
    return r < 0 ? err_wrap(e, "snapshot") : 0;
}

static int start_app(struct build *b, const char *disk, const char *snapshot, struct err *e)
{
    struct app app = {.build = b, .machine = {.service = b->service}};
    snprintf(app.disk, sizeof app.disk, "%s", disk);
    snprintf(app.machine.dir, sizeof app.machine.dir, "%s/app", b->dir);
    int r = fs_mkdir_p(app.machine.dir, 0700, e);
    if (r == 0)
        r = boot_app(&app, e);
    if (r == 0)
        r = wait_ready(&app, e);
    if (r == 0)
        r = freeze_app(&app, snapshot, e);
    stop_following(&app);
    if (r < 0 && atomic_load(&app.exited))
        r = err_set(e, EIO, "The application exited with code %d before it was ready",
                    app.exit_code);
    r = builder_explain(&app.machine, r, e);
    builder_stop(&app.machine);
    return r;
}

static int validate(struct build *b, const char *disk, const char *snapshot, struct err *e)
{
    int timeout_s;
    int64_t start = clock_mono_ms();
    if (!hook_enabled(b, &VALIDATE, &timeout_s))
        return 0;
    struct app app = {.build = b, .machine = {.service = b->service}};
    struct engine *en = b->service->cfg.engine;
    struct engine_spec spec;
    snprintf(app.machine.dir, sizeof app.machine.dir, "%s/validate", b->dir);
    snprintf(app.disk, sizeof app.disk, "%s/disk.overlay", app.machine.dir);
    fill_spec(&app, NULL, &spec);
    spec.disks[0].format = ENGINE_DISK_OVERLAY;
    int r = fs_mkdir_p(app.machine.dir, 0700, e);
    if (r == 0)
        r = engine_disk_overlay(en, app.disk, disk, ENGINE_DISK_RAW, 0, e);
    if (r == 0)
        r = engine_restore(en, &spec, snapshot, &app.machine.machine, e);
    if (r == 0)
        r = builder_enlist(&app.machine, e);
    if (r == 0)
        r = guest_connect(b->service, app.machine.machine, 20000, &app.machine.agent, e);
    if (r == 0)
        r = guest_resumed(app.machine.agent, b->row.id, GUEST_CLONED, e);
    if (r == 0)
        r = engine_machine_network(app.machine.machine, true, e);
    if (r == 0)
        r = call_until_ready(b, app.machine.agent, &VALIDATE, timeout_s, NULL, e);
    r = builder_explain(&app.machine, r, e);
    builder_stop(&app.machine);
    if (r == 0)
        build_phase(b, "validate", start);
    return r;
}

/* ---- the whole --------------------------------------------------------------------------------
 */

static int publish(struct build *b, const char *made, struct err *e)
{
    char final[1024], parent[1024];
    int r = version_dir(b->service, b->version.image, b->version.number, final, sizeof final, e);
    if (r < 0)
        return r;
    snprintf(parent, sizeof parent, "%s/images/%s", b->service->cfg.data_dir, b->version.image);
    r = fs_mkdir_p(parent, 0700, e);
    if (r == 0)
        r = fs_remove_tree(final,
                           e); /* of an attempt that a crash cut off before its row was kept */
    if (r == 0 && rename(made, final) < 0)
        r = err_set_errno(e, errno, "publish %s", final);
    return r < 0 ? r : fs_fsync_dir(parent, e);
}

static int build_image(struct build *b, struct err *e)
{
    char made[700], disk[1024], snapshot[1024], memory[1100];
    int64_t start = clock_mono_ms();
    snprintf(b->zip, sizeof b->zip, "%s/context.zip", b->dir);
    snprintf(made, sizeof made, "%s/version", b->dir);
    snprintf(disk, sizeof disk, "%s/disk.raw", made);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", made);
    int r = fs_remove_tree(b->dir, e);
    if (r == 0)
        r = fs_mkdir_p(made, 0700, e);
    if (r == 0)
        r = fetch(b, e);
    if (r == 0)
        r = build_scan(b, e);
    if (r == 0)
        r = build_steps(b, e);
    if (r == 0)
        r = make_disk(b, disk, e);
    if (r < 0)
        return r;
    b->row.code_bytes = (int64_t)fs_tree_bytes(disk);
    r = start_app(b, disk, snapshot, e);
    if (r == 0)
        r = validate(b, disk, snapshot, e);
    if (r < 0)
        return r;
    snprintf(memory, sizeof memory, "%s/memory", snapshot);
    b->row.memory_bytes = (int64_t)fs_tree_bytes(memory);
    b->row.disk_bytes = (int64_t)fs_tree_bytes(disk) - b->row.code_bytes;
    if (b->row.disk_bytes < 0)
        b->row.disk_bytes = 0;
    r = publish(b, made, e);
    if (r == 0)
        build_phase(b, "total", start);
    return r;
}

static int open_build(struct build *b, const char *id, struct err *e)
{
    struct store *st = b->service->cfg.store;
    int r = store_build_get(st, id, &b->row, e);
    if (r == 0)
        r = store_version_get(st, b->row.image, b->row.version, &b->version, e);
    if (r == 0)
        r = json_parse(b->version.config, strlen(b->version.config), 1 << 20, &b->config, e);
    if (r == 0)
        r = log_file_open(b->service, "build", id, &b->log, e);
    if (r == 0)
        r = store_build_start(st, id, e);
    snprintf(b->dir, sizeof b->dir, "%s/tmp/build-%s", b->service->cfg.data_dir, id);
    return r;
}

static void close_build(struct build *b)
{
    if (b->dir[0] && fs_remove_tree(b->dir, NULL) < 0)
        log_warn("build", "cannot remove %s", b->dir);
    log_file_close(b->log);
    plan_free(b->plan);
    dockerfile_free(b->dockerfile);
    context_free(b->context);
    free(b->stages);
    json_decref(b->config);
    store_version_done(&b->version);
    store_build_done(&b->row);
}

/* The log's last line is written before the row ends: who sees the end has seen the whole log. */
static void end_build(struct build *b, int r, const struct err *failure)
{
    struct err e = {0};
    b->row.state = r < 0 ? BUILD_FAILED : BUILD_SUCCESSFUL;
    free(b->row.state_reason);
    b->row.state_reason = r < 0 ? strdup(failure->text) : NULL;
    if (b->row.state_reason)
        reason_clean(b->row.state_reason);
    if (r < 0)
        b->row.memory_bytes = b->row.disk_bytes = 0;
    if (b->log && r < 0)
        log_file_printf(b->log, "FAILED: %s", failure->text);
    else if (b->log)
        log_file_printf(b->log, "SUCCESSFUL: %s version %d.0", b->version.image, b->version.number);
    log_info("build", "%s: %s version %d.0 %s%s%s", b->row.id, b->row.image, b->row.version,
             build_state_name(b->row.state), r < 0 ? ": " : "", r < 0 ? failure->text : "");
    /* Nobody else will end this build: while the disk is full, its thread waits with it. */
    for (int k, tries = 0; (k = store_build_end(b->service->cfg.store, &b->row, &e)) < 0; tries++) {
        if (tries == 0 || k == -EBUSY)
            log_error("build", "%s: result could not be stored: %s", b->row.id, e.text);
        if (k == -EBUSY || k == -ENOENT || atomic_load(&b->service->closing))
            break;
        usleep(STORE_RETRY_MS * 1000);
    }
}

/* The first word of the reason is what programs look at; the host's disk counts like the guest's.
 */
static int explain_full(int r, struct err *e)
{
    return r == -ENOSPC && !strstr(e->text, DISK_FULL) ? err_wrap(e, DISK_FULL) : r;
}

void build_run(void *arg)
{
    struct build_job *job = arg;
    struct build b = {.service = job->service};
    struct err e = {0};
    pthread_rwlock_rdlock(&b.service->layers_lock);
    int r = open_build(&b, job->build_id, &e);
    if (r == 0)
        r = explain_full(build_image(&b, &e), &e);
    pthread_rwlock_unlock(&b.service->layers_lock);
    if (r < 0 && atomic_load(&job->service->closing))
        log_info("build", "%s: interrupted, starts again with the service", job->build_id);
    else if (b.row.image)
        end_build(&b, r, &e);
    else
        log_error("build", "%s: %s", job->build_id, e.text);
    close_build(&b);
    layers_shrink(job->service);
    free(job);
}

int build_submit(struct microvm_service *s, const char *build_id, struct err *e)
{
    struct build_job *job = calloc(1, sizeof *job);
    if (!job)
        return err_set(e, ENOMEM, "out of memory");
    job->service = s;
    snprintf(job->build_id, sizeof job->build_id, "%s", build_id);
    int r = workers_submit(s->builds, build_run, job);
    if (r == 0)
        return 0;
    free(job);
    return err_set(e, EAGAIN, "Rate exceeded");
}
