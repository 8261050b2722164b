/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service as a whole: opening with recovery, closing, and the calls that run, suspend, resume
 * and terminate a microVM.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"

#define MAX_OPERATIONS 32
#define MAX_QUEUED 1024

unsigned service_vcpus(const struct microvm_service *s, int memory_mib)
{
    unsigned n = (unsigned)memory_mib / 512;
    return n > s->cfg.max_vcpus ? s->cfg.max_vcpus : n ? n : 1;
}

static char *copy(const char *s)
{
    return s ? strdup(s) : NULL;
}

static int make_directories(struct microvm_service *s, struct err *e)
{
    static const char *const subs[] = {"vms",   "images", "layers",     "builder",
                                       "scans", "tmp",    "logs/build", "logs/microvm"};
    char path[1024];
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(subs); i++) {
        snprintf(path, sizeof path, "%s/%s", s->cfg.data_dir, subs[i]);
        r = fs_mkdir_p(path, 0700, e);
    }
    return r;
}

/* ---- open and close ---------------------------------------------------------------------------
 */

static void free_service(struct microvm_service *s)
{
    workers_free(s->operations);
    workers_free(s->builds);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->builder_lock);
    pthread_rwlock_destroy(&s->layers_lock);
    free((char *)(uintptr_t)s->cfg.data_dir);
    free((char *)(uintptr_t)s->cfg.guest_dir);
    free((char *)(uintptr_t)s->cfg.region);
    free((char *)(uintptr_t)s->cfg.account);
    free((char *)(uintptr_t)s->cfg.ca_bundle);
    free(s);
}

int microvm_service_open(const struct microvm_config *c, struct microvm_service **ret,
                         struct err *e)
{
    struct microvm_service *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    s->cfg = *c;
    s->cfg.data_dir = copy(c->data_dir);
    s->cfg.guest_dir = copy(c->guest_dir);
    s->cfg.region = copy(c->region);
    s->cfg.account = copy(c->account);
    s->cfg.ca_bundle = copy(c->ca_bundle);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->builder_lock, NULL);
    pthread_rwlock_init(&s->layers_lock, NULL);
    int r = make_directories(s, e);
    if (r == 0)
        r = workers_new("operation", MAX_OPERATIONS, MAX_QUEUED, &s->operations, e);
    if (r == 0)
        r = workers_new("build", c->max_builds, MAX_QUEUED, &s->builds, e);
    if (r == 0)
        r = recover_vms(s, e);
    if (r < 0) {
        free_service(s);
        return r;
    }
    recover_files(s);
    *ret = s;
    return 0;
}

void microvm_service_set_artifacts(struct microvm_service *s, microvm_artifact_open fn, void *arg)
{
    s->open_artifact = fn;
    s->artifacts = arg;
}

int microvm_service_start(struct microvm_service *s, struct err *e)
{
    images_finish_changes(s);
    housekeeping_submit(s);
    int r = timers_start(s, e);
    return r < 0 ? r : recover_builds(s, e);
}

static void suspend_running(struct microvm *vm, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&vm->lock);
    /* Also one that is about to run: being started, or resumed (then its state is SUSPENDED). */
    bool running = vm->operating || vm->wants || vm->state == MICROVM_RUNNING;
    pthread_mutex_unlock(&vm->lock);
    if (running)
        vm_want(vm, WANT_SUSPEND);
}

static void settle_vm(struct microvm *vm, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&vm->lock);
    while (vm->operating)
        pthread_cond_wait(&vm->changed, &vm->lock);
    struct engine_machine *m = TAKE(vm->machine);
    struct agent *a = TAKE(vm->agent);
    pthread_mutex_unlock(&vm->lock);
    if (a) { /* could not be suspended: it is found lost at the next start */
        agent_close(a);
        agent_unref(a);
    }
    pthread_mutex_lock(&vm->lock);
    while (vm->watching || vm->holders)
        pthread_cond_wait(&vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
    engine_machine_free(m);
    registry_remove(vm->service, vm);
}

void microvm_service_close(struct microvm_service *s)
{
    if (!s)
        return;
    atomic_store(&s->closing, true);
    timers_stop(s);
    builds_interrupt(s);
    registry_each(s, suspend_running, NULL);
    registry_each(s, settle_vm, NULL);
    free_service(s);
}

/* ---- calls ------------------------------------------------------------------------------------
 */

static int no_active(const struct microvm_service *s, const char *image, int version, struct err *e)
{
    if (version)
        return err_set(e, ENOENT,
                       "No active version found for MicroVM image "
                       "arn:aws:lambda:%s:%s:microvm-image:%s and version %d.0",
                       s->cfg.region, s->cfg.account, image, version);
    return err_set(e, ENOENT,
                   "No active version found for MicroVM image "
                   "arn:aws:lambda:%s:%s:microvm-image:%s",
                   s->cfg.region, s->cfg.account, image);
}

static int resolve_version(struct microvm_service *s, const struct microvm_run_request *q,
                           struct store_version *ver, struct err *e)
{
    struct store_image img = {0};
    int r = store_image_get(s->cfg.store, q->image, &img, e);
    int number = r == 0 && !q->version ? img.latest_active : q->version;
    bool deleting = r == 0 && (img.state == IMAGE_DELETING || img.state == IMAGE_DELETED);
    store_image_done(&img);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r < 0 || deleting || !number)
        return no_active(s, q->image, q->version, e);
    r = store_version_get(s->cfg.store, q->image, number, ver, e);
    if (r == -ENOENT)
        return no_active(s, q->image, q->version, e);
    if (r == 0 && (ver->state != VERSION_SUCCESSFUL || ver->status != VERSION_ACTIVE)) {
        store_version_done(ver);
        return no_active(s, q->image, q->version, e);
    }
    return r;
}

/* A deletion looks for rows after it has made itself known, we look for it after our row is there:
 * one of the two sees the other. */
static int still_there(struct microvm_service *s, const struct store_microvm *row, struct err *e)
{
    const struct microvm_run_request q = {.image = row->image, .version = row->version};
    struct store_version ver = {0};
    int r = resolve_version(s, &q, &ver, e);
    store_version_done(&ver);
    return r;
}

static int enlist(struct microvm_service *s, struct store_microvm *row, const char *payload,
                  const json_t *config, struct err *e)
{
    struct microvm *vm = vm_new(s, row, config);
    if (!vm)
        return err_set(e, ENOMEM, "out of memory");
    if (payload && !vm->set.run.enabled) {
        microvm_unref(vm);
        return err_set(e, EINVAL,
                       "The run hook must be enabled in the MicroVM image to pass the "
                       "run hook payload");
    }
    vm->set.run_payload = copy(payload);
    int r = store_microvm_create(s->cfg.store, row, s->cfg.max_memory_mib, e);
    if (r < 0) {
        microvm_unref(vm);
        return r == -EDQUOT ? err_set(e, EDQUOT,
                                      "The base maximum allocated memory limit has been reached "
                                      "for this account.")
                            : r;
    }
    r = still_there(s, row, e);
    if (r == 0 && registry_add(s, vm) < 0)
        r = err_set(e, ENOMEM, "out of memory");
    if (r < 0) {
        if (store_microvm_set_state(s->cfg.store, row->id, MICROVM_TERMINATED, e->text, NULL) < 0)
            log_warn("microvm", "%s: never started, found terminated at the next start", row->id);
        microvm_unref(vm);
        return r;
    }
    vm_want(vm, WANT_START);
    return 0;
}

int microvm_run(struct microvm_service *s, const struct microvm_run_request *q,
                struct store_microvm *ret, struct err *e)
{
    struct store_version ver = {0};
    CLEANUP(cleanup_json)
    json_t *config = NULL;
    char uuid[UUID_LEN + 1], label[UUID_LEN + 1], id[64];
    if (atomic_load(&s->closing))
        return err_set(e, ENOSPC, "The service is shutting down");
    int r = resolve_version(s, q, &ver, e);
    if (r < 0)
        return r;
    r = json_parse(ver.config, strlen(ver.config), 1 << 20, &config, e);
    uuid_new(uuid);
    uuid_new(label);
    snprintf(id, sizeof id, "microvm-%s", uuid);
    struct store_microvm row = {
        .id = id,
        .endpoint = label,
        .image = ver.image,
        .version = ver.number,
        .state = MICROVM_PENDING,
        .config = (char *)(uintptr_t)(q->config ? q->config : "{}"),
        .max_duration_s = q->max_duration_s,
        .started_at = clock_real_ms(),
        .memory_mib = ver.memory_mib,
    };
    if (r == 0)
        r = enlist(s, &row, q->run_hook_payload, config, e);
    if (r == 0)
        row_copy(&row, ret);
    store_version_done(&ver);
    return r;
}

static int find_live(struct microvm_service *s, const char *id, struct microvm **ret, struct err *e)
{
    *ret = registry_find_id(s, id);
    if (*ret)
        return 0;
    struct store_microvm row = {0};
    int r = store_microvm_get(s->cfg.store, id, &row, NULL);
    store_microvm_done(&row);
    if (r == 0)
        return 1; /* terminated long ago */
    return err_set(e, ENOENT, "MicroVM not found: %s", id);
}

static int refuse_terminated(const char *id, struct err *e)
{
    return err_set(e, EINVAL, "The MicroVM %s has been terminated and its state cannot be changed.",
                   id);
}

static bool has_left(const struct microvm *vm, enum microvm_state from)
{
    return vm->state != from;
}

static bool is_serving(const struct microvm *vm, enum microvm_state unused)
{
    (void)unused;
    return vm->state == MICROVM_RUNNING && vm->agent && !(vm->wants & WANT_SUSPEND);
}

/* Wakes when the condition holds or the operations are over, at the latest after timeout_ms. */
static void wait_change(struct microvm *vm,
                        bool (*done)(const struct microvm *, enum microvm_state),
                        enum microvm_state from, int timeout_ms)
{
    int64_t until = clock_mono_ms() + timeout_ms;
    const struct timespec t = {.tv_sec = until / 1000, .tv_nsec = (long)(until % 1000) * 1000000};
    pthread_mutex_lock(&vm->lock);
    while (vm->operating && !done(vm, from) &&
           pthread_cond_timedwait(&vm->changed, &vm->lock, &t) == 0)
        ;
    pthread_mutex_unlock(&vm->lock);
}

static int change(struct microvm_service *s, const char *id, unsigned want, struct err *e)
{
    struct microvm *vm;
    int r = find_live(s, id, &vm, e);
    if (r < 0)
        return r;
    if (r == 1)
        return refuse_terminated(id, e);
    pthread_mutex_lock(&vm->lock);
    enum microvm_state st = vm->state;
    if (want == WANT_SUSPEND)
        vm->idle_suspended = false;
    pthread_mutex_unlock(&vm->lock);
    if (st == MICROVM_TERMINATED) {
        r = refuse_terminated(id, e);
    } else if (st == MICROVM_TERMINATING) {
        r = err_set(e, EBUSY, "The MicroVM %s is being terminated.", id);
    } else if (st == MICROVM_PENDING && want == WANT_SUSPEND) {
        r = err_set(e, EBUSY, "The MicroVM %s is not running yet.", id);
    } else {
        vm_want(vm, want); /* in a state it does not apply to, it is dropped: idempotent */
        wait_change(vm, has_left, st, 100);
    }
    microvm_unref(vm);
    return r;
}

int microvm_suspend(struct microvm_service *s, const char *id, struct err *e)
{
    return change(s, id, WANT_SUSPEND, e);
}

int microvm_resume(struct microvm_service *s, const char *id, struct err *e)
{
    return change(s, id, WANT_RESUME, e);
}

int microvm_terminate(struct microvm_service *s, const char *id, struct err *e)
{
    struct microvm *vm;
    int r = find_live(s, id, &vm, e);
    if (r != 0)
        return r < 0 ? r : 0;
    pthread_mutex_lock(&vm->lock);
    enum microvm_state st = vm->state;
    pthread_mutex_unlock(&vm->lock);
    if (st != MICROVM_TERMINATED && st != MICROVM_TERMINATING) {
        vm_want_terminate(vm, "Success.", false);
        wait_change(vm, has_left, st, 1000);
    }
    microvm_unref(vm);
    return 0;
}

int microvm_agent(struct microvm_service *s, const char *id, int timeout_ms, struct agent **ret,
                  struct err *e)
{
    struct microvm *vm;
    int r = find_live(s, id, &vm, e);
    if (r < 0)
        return r;
    if (r == 1)
        return refuse_terminated(id, e);
    vm_want(vm, WANT_RESUME);
    wait_change(vm, is_serving, MICROVM_RUNNING, timeout_ms);
    pthread_mutex_lock(&vm->lock);
    enum microvm_state st = vm->state;
    *ret = st == MICROVM_RUNNING && vm->agent ? agent_ref(vm->agent) : NULL;
    pthread_mutex_unlock(&vm->lock);
    if (*ret)
        microvm_activity(vm);
    microvm_unref(vm);
    return *ret ? 0 : err_set(e, EBUSY, "MicroVM %s is %s", id, microvm_state_name(st));
}

int microvm_stats(struct microvm_service *s, const char *id, json_t **ret, struct err *e)
{
    struct microvm *vm;
    struct engine_stats st;
    int r = find_live(s, id, &vm, e);
    if (r < 0)
        return r;
    if (r == 1)
        return refuse_terminated(id, e);
    pthread_mutex_lock(&vm->lock);
    struct engine_machine *m = vm->state == MICROVM_RUNNING ? vm->machine : NULL;
    if (m)
        vm->holders++;
    pthread_mutex_unlock(&vm->lock);
    r = m ? engine_machine_stats(m, &st, e) : err_set(e, EBUSY, "MicroVM %s is not running", id);
    pthread_mutex_lock(&vm->lock);
    if (m)
        vm->holders--;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    microvm_unref(vm);
    if (r < 0)
        return r;
    *ret = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "cpuMicroseconds", (json_int_t)st.cpu_us,
                     "memoryPrivateBytes", (json_int_t)st.memory_private_bytes, "memoryRssBytes",
                     (json_int_t)st.memory_rss_bytes, "diskWrittenBytes",
                     (json_int_t)st.disk_written_bytes, "networkReceivedBytes",
                     (json_int_t)st.net_rx_bytes, "networkSentBytes", (json_int_t)st.net_tx_bytes);
    return *ret ? 0 : err_set(e, ENOMEM, "out of memory");
}
