/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One microVM: its settings, its state, what is wanted of it.
 *
 * Theory of operation: callers never operate on a VM, they *want* something (start, suspend,
 * resume, terminate). One operation thread at a time works a VM's wants off (operate.c), terminate
 * first. State changes are durable before they are visible: the store is written, then the member,
 * then waiters are told. Those who wait for a VM to run (the proxy) queue as waiters.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "microvm/internal.h"

static struct hook_config read_hook(const json_t *hooks, const char *name)
{
    const json_t *set = json_object_get(hooks, "microvmHooks");
    char key[64];
    const char *state = json_get_str(set, name);
    snprintf(key, sizeof key, "%sTimeoutInSeconds", name);
    return (struct hook_config){
        .enabled = state && strcmp(state, "ENABLED") == 0,
        .timeout_ms = (int)json_get_int(set, key, 1) * 1000,
    };
}

/* HTTP reaches the application with HTTP_INGRESS or ALL_INGRESS; no list means HTTP_INGRESS. */
static bool allows_http(const json_t *connectors)
{
    if (!json_is_array(connectors) || json_array_size(connectors) == 0)
        return true;
    size_t i;
    const json_t *v;
    json_array_foreach (connectors, i, v) {
        const char *arn = json_string_value(v);
        const char *name = arn ? strrchr(arn, ':') : NULL;
        if (name && (strcmp(name, ":HTTP_INGRESS") == 0 || strcmp(name, ":ALL_INGRESS") == 0))
            return true;
    }
    return false;
}

static void read_settings(struct vm_settings *set, const struct store_microvm *row,
                          const json_t *run, const json_t *version)
{
    const json_t *hooks = json_object_get(version, "hooks");
    const json_t *idle = json_object_get(run, "idlePolicy");
    const json_t *policy = json_object_get(run, "egressPolicy");
    set->image = strdup(row->image);
    set->version = row->version;
    set->memory_mib = row->memory_mib;
    set->started_at = row->started_at;
    set->max_duration_s = row->max_duration_s;
    set->has_idle_policy = json_is_object(idle);
    set->max_idle_s = json_get_int(idle, "maxIdleDurationSeconds", 0);
    set->max_suspended_s = json_get_int(idle, "suspendedDurationSeconds", 0);
    set->auto_resume = json_get_bool(idle, "autoResumeEnabled", true);
    set->http_ingress = allows_http(json_object_get(run, "ingressNetworkConnectors"));
    set->hook_port = (uint16_t)json_get_int(hooks, "port", 0);
    set->run = read_hook(hooks, "run");
    set->resume = read_hook(hooks, "resume");
    set->suspend = read_hook(hooks, "suspend");
    set->terminate = read_hook(hooks, "terminate");
    net_policy_default(&set->policy);
    if (policy && net_policy_from_json(policy, &set->policy, NULL) < 0) {
        log_error("microvm", "%s: its stored egress policy is unreadable: nothing may leave",
                  row->id);
        net_policy_none(&set->policy);
    }
}

struct microvm *vm_new(struct microvm_service *s, const struct store_microvm *row,
                       const json_t *version_config)
{
    struct microvm *vm = calloc(1, sizeof *vm);
    CLEANUP(cleanup_json)
    json_t *run = NULL;
    if (!vm)
        return NULL;
    if (row->config && json_parse(row->config, strlen(row->config), 1 << 20, &run, NULL) < 0)
        run = NULL;
    vm->service = s;
    atomic_init(&vm->refs, 1);
    snprintf(vm->id, sizeof vm->id, "%s", row->id);
    snprintf(vm->label, sizeof vm->label, "%s", row->endpoint);
    snprintf(vm->dir, sizeof vm->dir, "%s/vms/%s", s->cfg.data_dir, row->id);
    read_settings(&vm->set, row, run, version_config);
    vm->state = row->state;
    vm->suspended_at = row->suspended_at;
    atomic_init(&vm->last_activity_ms, clock_mono_ms());
    pthread_mutex_init(&vm->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->changed, &attr);
    pthread_condattr_destroy(&attr);
    return vm;
}

void microvm_ref(struct microvm *vm)
{
    atomic_fetch_add(&vm->refs, 1);
}

void microvm_unref(struct microvm *vm)
{
    if (!vm || atomic_fetch_sub(&vm->refs, 1) != 1)
        return;
    free(vm->set.image);
    free(vm->set.run_payload);
    log_file_close(vm->log);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

const char *microvm_id(const struct microvm *vm)
{
    return vm->id;
}

bool microvm_allows_http(const struct microvm *vm)
{
    return vm->set.http_ingress;
}

void microvm_activity(struct microvm *vm)
{
    atomic_store_explicit(&vm->last_activity_ms, clock_mono_ms(), memory_order_relaxed);
}

/* ---- wants ------------------------------------------------------------------------------------
 */

/* Start, resume and suspend may be waiting for a guest; terminating does not wait with them. */
static void interrupt(struct microvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    struct engine_machine *m = vm->operating && vm->state != MICROVM_RUNNING ? vm->machine : NULL;
    if (m)
        vm->holders++; /* keeps the machine from being freed */
    pthread_mutex_unlock(&vm->lock);
    if (!m)
        return;
    engine_machine_kill(m);
    pthread_mutex_lock(&vm->lock);
    vm->holders--;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

/* Both carried out, one after the other, would only leave the VM as it was. */
static unsigned with_want(unsigned wants, unsigned want)
{
    if (want & WANT_SUSPEND)
        wants &= ~(unsigned)WANT_RESUME;
    if (want & WANT_RESUME)
        wants &= ~(unsigned)WANT_SUSPEND;
    return wants | want;
}

void vm_want(struct microvm *vm, unsigned want)
{
    pthread_mutex_lock(&vm->lock);
    vm->wants = with_want(vm->wants, want);
    bool submit = !vm->operating && vm->wants && (vm->state != MICROVM_TERMINATED || vm->unstored);
    if (submit) {
        vm->operating = true;
        microvm_ref(vm);
    }
    pthread_mutex_unlock(&vm->lock);
    if (!submit || workers_submit(vm->service->operations, vm_operate, vm) == 0)
        return;
    /* No thread to be had: the wants stay and the timer tries again. */
    log_warn("microvm", "%s: too many operations at once, will be retried", vm->id);
    pthread_mutex_lock(&vm->lock);
    vm->operating = false;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    microvm_unref(vm);
}

void reason_clean(char *text)
{
    json_t *valid = json_string(text); /* NULL unless UTF-8 */
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < ' ' || *c == 0x7f)
            *c = ' ';
        else if (*c >= 0x80 && !valid)
            *c = '?';
    }
    json_decref(valid);
}

void vm_want_terminate(struct microvm *vm, const char *reason, bool gone)
{
    pthread_mutex_lock(&vm->lock);
    if (!vm->reason[0]) {
        snprintf(vm->reason, sizeof vm->reason, "%s", reason);
        reason_clean(vm->reason);
    }
    vm->gone |= gone;
    pthread_mutex_unlock(&vm->lock);
    vm_want(vm, WANT_TERMINATE);
    if (!gone && !loop_is_current(vm->service->cfg.loop)) /* killing blocks */
        interrupt(vm);
}

/* ---- state ------------------------------------------------------------------------------------
 */

void vm_store_state(struct microvm *vm)
{
    struct err e = {0};
    char reason[sizeof vm->reason];
    pthread_mutex_lock(&vm->lock);
    bool behind = vm->unstored;
    enum microvm_state state = vm->state;
    snprintf(reason, sizeof reason, "%s", vm->reason);
    pthread_mutex_unlock(&vm->lock);
    if (!behind)
        return;
    const char *why = state == MICROVM_TERMINATED && reason[0] ? reason : NULL;
    int r = store_microvm_set_state(vm->service->cfg.store, vm->id, state, why, &e);
    if (r < 0 && r != -EBUSY) /* busy: it is there already */
        return;
    log_info("microvm", "%s: %s is stored at last", vm->id, microvm_state_name(state));
    pthread_mutex_lock(&vm->lock);
    vm->unstored = false;
    pthread_mutex_unlock(&vm->lock);
}

int vm_set_state(struct microvm *vm, enum microvm_state to, const char *reason, struct err *e)
{
    vm_store_state(vm); /* no gap in the row's history */
    int r = store_microvm_set_state(vm->service->cfg.store, vm->id, to, reason, e);
    if (r < 0) {
        log_error("microvm", "%s: state %s could not be stored: %s", vm->id, microvm_state_name(to),
                  e ? e->text : "");
        if (to == MICROVM_SUSPENDING)
            return r;
    }
    pthread_mutex_lock(&vm->lock);
    log_info("microvm", "%s: %s -> %s%s%s", vm->id, microvm_state_name(vm->state),
             microvm_state_name(to), reason ? ": " : "", reason ? reason : "");
    vm->state = to;
    vm->unstored = r < 0;
    if (to == MICROVM_SUSPENDED || to == MICROVM_TERMINATED)
        vm->suspended_at = clock_real_ms();
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

/* ---- waiters ----------------------------------------------------------------------------------
 */

enum place { SERVE_NOW, KEEP_WAITING, RESUME_FOR_IT };

/* Lock held. Whoever is told to wait is woken by the end of vm_operate(), which is sure to come
 * while an operation runs or is wanted. */
static enum place place_waiter(struct microvm *vm, struct waiter *w)
{
    bool busy = vm->operating || vm->wants;
    switch (vm->state) {
    case MICROVM_RUNNING:
        if (!busy || (vm->agent && !agent_is_dead(vm->agent) && !(vm->wants & WANT_SUSPEND)))
            return SERVE_NOW;
        break;
    case MICROVM_PENDING:
        return busy ? KEEP_WAITING : SERVE_NOW;
    case MICROVM_SUSPENDING:
    case MICROVM_SUSPENDED:
        break;
    case MICROVM_TERMINATING:
    case MICROVM_TERMINATED:
        return SERVE_NOW;
    }
    if (vm->set.auto_resume && !w->asked) {
        w->asked = true;
        return RESUME_FOR_IT;
    }
    return busy ? KEEP_WAITING : SERVE_NOW;
}

/* Loop thread: tells the waiter what became of the VM, or queues it. */
static void serve(struct microvm *vm, struct waiter *w)
{
    pthread_mutex_lock(&vm->lock);
    enum place place = place_waiter(vm, w);
    struct agent *a = vm->state == MICROVM_RUNNING && vm->agent ? agent_ref(vm->agent) : NULL;
    enum microvm_connect_status st =
        vm->state == MICROVM_SUSPENDED ? MICROVM_CONNECT_SUSPENDED : MICROVM_CONNECT_FAILED;
    if (place != SERVE_NOW) {
        w->next = vm->waiters;
        vm->waiters = w;
    }
    pthread_mutex_unlock(&vm->lock);
    if (place == SERVE_NOW) {
        w->fn(a ? MICROVM_CONNECT_OK : st, a, w->arg);
        free(w);
    } else if (place == RESUME_FOR_IT) {
        vm_want(vm, WANT_RESUME);
    }
    agent_unref(a);
}

static void serve_waiters(void *arg)
{
    struct microvm *vm = arg;
    pthread_mutex_lock(&vm->lock);
    struct waiter *list = vm->waiters;
    vm->waiters = NULL;
    pthread_mutex_unlock(&vm->lock);
    while (list) {
        struct waiter *w = list;
        list = w->next;
        serve(vm, w);
    }
    microvm_unref(vm);
}

void vm_wake_waiters(struct microvm *vm)
{
    microvm_ref(vm);
    loop_post(vm->service->cfg.loop, serve_waiters, vm);
}

void microvm_connect(struct microvm *vm,
                     void (*fn)(enum microvm_connect_status status, struct agent *a, void *arg),
                     void *arg)
{
    struct waiter *w = malloc(sizeof *w);
    if (!w) {
        fn(MICROVM_CONNECT_FAILED, NULL, arg);
        return;
    }
    *w = (struct waiter){.fn = fn, .arg = arg};
    serve(vm, w);
}
