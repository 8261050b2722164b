/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations on one microVM: start, suspend, resume, terminate. Straight-line code on an
 * operation thread; vm_operate() works one VM's wants off until none is left, so two operations on
 * the same VM never overlap.
 *
 * What may fail and what it means: a start that fails terminates the VM with the reason; a suspend
 * that fails leaves it RUNNING (its state is worth more than the memory); a resume that fails
 * before the guest ran leaves it SUSPENDED with its checkpoint; later failures terminate it.
 *
 * A termination does not wait for a guest: vm_want_terminate() kills a machine that an operation is
 * busy with, and attach() and freeze() look for the want where no machine was there to be killed.
 *
 * vm->agent and vm->machine change on the operation thread only (and in microvm_service_close(),
 * after the last operation), so code on it reads them without the lock and writes them with it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"
#include "proto/wire.h"

#define CONNECT_TIMEOUT_MS 20000
#define HOOK_ATTEMPTS 4
#define HOOK_RETRY_MS 100
#define END_NOTICE_MS 2000

static const char LOST[] = "The connection to the microVM was lost";

/* ---- machine and session ----------------------------------------------------------------------
 */

static void on_machine_exit(void *arg, const struct engine_exit *x)
{
    struct microvm *vm = arg;
    char reason[256];
    if (x->expected)
        return;
    snprintf(reason, sizeof reason, "The microVM's machine ended unexpectedly: %s", x->text);
    vm_want_terminate(vm, reason, true);
}

static void fill_spec(const struct microvm *vm, const char *disk, struct engine_spec *spec)
{
    *spec = (struct engine_spec){
        .id = vm->id,
        .dir = vm->dir,
        .memory_mib = (unsigned)vm->set.memory_mib,
        .vcpus = service_vcpus(vm->service, vm->set.memory_mib),
        .disks = {{.path = disk, .format = ENGINE_DISK_OVERLAY}},
        .n_disks = 1,
        .network = true,
        .policy = &vm->set.policy,
        .on_exit = on_machine_exit,
        .on_exit_arg = (void *)(uintptr_t)vm,
    };
}

/* Whoever finds vm->agent different from the session it used knows that this was on purpose. */
static void drop_session(struct microvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    struct agent *a = TAKE(vm->agent);
    pthread_mutex_unlock(&vm->lock);
    if (a)
        agent_close(a);
    agent_unref(a);
}

static bool termination_wanted(struct microvm *vm)
{
    pthread_mutex_lock(&vm->lock);
    bool wanted = vm->wants & WANT_TERMINATE;
    pthread_mutex_unlock(&vm->lock);
    return wanted;
}

static int give_way(struct err *e)
{
    return err_set(e, ECANCELED, "the microVM is being terminated");
}

/* Frees the machine once nobody is killing it; drops the session first. */
static void detach(struct microvm *vm)
{
    drop_session(vm);
    pthread_mutex_lock(&vm->lock);
    while (vm->watching || vm->holders)
        pthread_cond_wait(&vm->changed, &vm->lock);
    struct engine_machine *m = TAKE(vm->machine);
    pthread_mutex_unlock(&vm->lock);
    engine_machine_free(m);
}

/* A session usually ends because the machine did: then the engine is about to say why, and that is
 * the better reason. Waits for it, as long as the session is the VM's. */
static void await_machine_end(struct microvm *vm, const struct agent *a)
{
    for (int waited = 0; waited < END_NOTICE_MS; waited += 20) {
        pthread_mutex_lock(&vm->lock);
        bool known = vm->agent != a || vm->gone || (vm->wants & WANT_TERMINATE);
        pthread_mutex_unlock(&vm->lock);
        if (known)
            return;
        usleep(20000);
    }
}

static void *watcher_main(void *arg)
{
    struct microvm *vm = arg;
    int code = 0;
    pthread_mutex_lock(&vm->lock);
    struct agent *a = vm->agent ? agent_ref(vm->agent) : NULL;
    struct log_file *log = vm->log;
    pthread_mutex_unlock(&vm->lock);
    int ended = a ? guest_follow(a, log, &code) : 0;
    if (ended) {
        char reason[128];
        snprintf(reason, sizeof reason, "Container Stopped with Exit Code: %d", code);
        vm_want_terminate(vm, reason, true);
    } else if (a) {
        await_machine_end(vm, a);
    }
    pthread_mutex_lock(&vm->lock);
    vm->watching = false;
    /* During an operation vm_operate() sees to it, when the operation is over. */
    bool lost = a && vm->agent == a && vm->state == MICROVM_RUNNING && !vm->operating;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    agent_unref(a);
    if (lost)
        vm_want_terminate(vm, LOST, true);
    microvm_unref(vm);
    return NULL;
}

static int start_watcher(struct microvm *vm, struct err *e)
{
    pthread_t t;
    pthread_attr_t attr;
    struct log_file *log = NULL;
    int r = vm->log ? 0 : log_file_open(vm->service, "microvm", vm->id, &log, e);
    if (r < 0)
        return r;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    microvm_ref(vm);
    pthread_mutex_lock(&vm->lock);
    vm->watching = true;
    if (log)
        vm->log = log;
    pthread_mutex_unlock(&vm->lock);
    r = pthread_create(&t, &attr, watcher_main, vm);
    pthread_attr_destroy(&attr);
    if (r == 0)
        return 0;
    pthread_mutex_lock(&vm->lock);
    vm->watching = false;
    pthread_mutex_unlock(&vm->lock);
    microvm_unref(vm);
    return err_set_errno(e, r, "watcher thread");
}

/* Makes the session with a machine that just began to run. */
static int attach(struct microvm *vm, struct engine_machine *m, enum guest_past past, struct err *e)
{
    struct agent *a = NULL;
    pthread_mutex_lock(&vm->lock);
    vm->machine = m;
    bool ending = vm->wants & WANT_TERMINATE; /* wanted before there was a machine to kill */
    pthread_mutex_unlock(&vm->lock);
    int r = ending ? give_way(e) : guest_connect(vm->service, m, CONNECT_TIMEOUT_MS, &a, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&vm->lock);
    vm->agent = a;
    pthread_mutex_unlock(&vm->lock);
    r = guest_resumed(a, vm->id, past, e);
    if (r == 0)
        r = engine_machine_network(m, true, e); /* held until the clone is itself */
    return r < 0 ? r : start_watcher(vm, e);
}

/* ---- hooks ------------------------------------------------------------------------------------
 */

static const char HOOK_HELP[] =
    "Please check your hook endpoint and application logs for more details.";

/* title: the hook's name as it begins a sentence. A refused connection is tried again for a while:
 * right after a restore an application may be re-opening its listener. */
static int call_hook(struct microvm *vm, const struct hook_config *h, const char *name,
                     const char *title, const json_t *body, struct err *e)
{
    struct hook_result res = {0};
    if (!h->enabled)
        return 0;
    for (int attempt = 0;; attempt++) {
        int r = guest_hook(vm->agent, vm->set.hook_port, name, body, h->timeout_ms, &res, e);
        if (r < 0)
            return r;
        if (!res.refused || attempt == HOOK_ATTEMPTS - 1)
            break;
        usleep(HOOK_RETRY_MS * 1000); /* the application offers no event to wait for */
    }
    if (res.status == 200)
        return 0;
    if (res.status)
        return err_set(e, EIO, "%s lifecycle hook returned HTTP status %d. %s", title, res.status,
                       HOOK_HELP);
    if (res.refused)
        return err_set(e, ECONNREFUSED, "%s lifecycle hook connection was refused. %s", title,
                       HOOK_HELP);
    return err_set(e, EIO, "%s lifecycle hook %s. %s", title,
                   res.timed_out ? "timed out" : "failed", HOOK_HELP);
}

static int call_run_hook(struct microvm *vm, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:s,s:s}", "microvmId", vm->id, "runHookPayload",
                             vm->set.run_payload ? vm->set.run_payload : "");
    int r = call_hook(vm, &vm->set.run, "run", "Run", body, e);
    free(vm->set.run_payload);
    vm->set.run_payload = NULL;
    return r;
}

/* ---- the operations ---------------------------------------------------------------------------
 */

static int start_machine(struct microvm *vm, struct err *e)
{
    char image[512], base[600], snapshot[600], disk[600];
    struct engine_spec spec;
    struct engine_machine *m = NULL;
    int r = version_dir(vm->service, vm->set.image, vm->set.version, image, sizeof image, e);
    if (r < 0)
        return r;
    snprintf(base, sizeof base, "%s/disk.raw", image);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", image);
    snprintf(disk, sizeof disk, "%s/disk.overlay", vm->dir);
    r = fs_mkdir_p(vm->dir, 0700, e);
    if (r == 0)
        r = engine_disk_overlay(vm->service->cfg.engine, disk, base, ENGINE_DISK_RAW, 0, e);
    if (r < 0)
        return r;
    fill_spec(vm, disk, &spec);
    r = engine_restore(vm->service->cfg.engine, &spec, snapshot, &m, e);
    if (r < 0)
        return r;
    r = attach(vm, m, GUEST_CLONED, e);
    return r < 0 ? r : call_run_hook(vm, e);
}

static void fail(struct microvm *vm, const char *what, const struct err *e)
{
    log_warn("microvm", "%s: %s failed: %s", vm->id, what, e->text);
    vm_want_terminate(vm, e->text, true);
}

static void op_start(struct microvm *vm)
{
    struct err e = {0};
    int r = start_machine(vm, &e);
    if (r == 0) {
        microvm_activity(vm);
        r = vm_set_state(vm, MICROVM_RUNNING, NULL, &e);
    }
    if (r < 0)
        fail(vm, "start", &e);
}

/* After a suspend that did not happen: the guest goes on as if nothing had been asked. */
static int carry_on(struct microvm *vm, struct err *e)
{
    if (vm->agent && !agent_is_dead(vm->agent))
        return 0;
    drop_session(vm);
    pthread_mutex_lock(&vm->lock);
    while (vm->watching) /* it would follow the new session, too */
        pthread_cond_wait(&vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
    if (!engine_machine_alive(vm->machine))
        return err_wrap(e, "the microVM ended while being suspended");
    return attach(vm, vm->machine, GUEST_STAYED, e);
}

/* *told: the application was told of a suspend that may yet fail. */
static int freeze(struct microvm *vm, bool *told, struct err *e)
{
    char dir[600];
    snprintf(dir, sizeof dir, "%s/suspend", vm->dir);
    int r = fs_remove_tree(dir, e);
    if (r == 0 && termination_wanted(vm))
        r = give_way(e);
    if (r == 0)
        r = call_hook(vm, &vm->set.suspend, "suspend", "Suspend", NULL, e);
    if (r < 0)
        return r;
    *told = vm->set.suspend.enabled;
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:b}", "dropCaches", 0);
    r = agent_call(vm->agent, "POST", WIRE_PREPARE, body, 60000, NULL, e);
    if (r < 0)
        return r;
    drop_session(vm);
    return engine_suspend(vm->machine, dir, e);
}

static void op_suspend(struct microvm *vm)
{
    struct err e = {0};
    bool told = false;
    if (vm_set_state(vm, MICROVM_SUSPENDING, NULL, &e) < 0) {
        microvm_activity(vm); /* an idle VM is not tried again at once */
        return;               /* said there */
    }
    if (freeze(vm, &told, &e) == 0) {
        detach(vm);
        if (vm_set_state(vm, MICROVM_SUSPENDED, NULL, &e) < 0)
            fail(vm, "suspend", &e);
        return;
    }
    log_warn("microvm", "%s: not suspended: %s", vm->id, e.text);
    struct err again = e;
    microvm_activity(vm);
    reason_clean(e.text);
    if (carry_on(vm, &again) < 0) {
        fail(vm, "suspend", &again);
        return;
    }
    if (told && call_hook(vm, &vm->set.resume, "resume", "Resume", NULL, &again) < 0)
        log_warn("microvm", "%s: after a suspend that failed: %s", vm->id, again.text);
    if (vm_set_state(vm, MICROVM_RUNNING, e.text, &again) < 0)
        fail(vm, "suspend", &again);
}

/* What tells whether a guest has run on a disk. */
static struct timespec written_at(const char *disk)
{
    struct stat st;
    return stat(disk, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

/* From the moment the guest runs again its disk moves on and the checkpoint is worthless; the
 * directory's name says so to whoever recovers from a crash. */
static int thaw(struct microvm *vm, bool *ran, struct err *e)
{
    char dir[600], used[600], disk[600];
    struct engine_spec spec;
    struct engine_machine *m = NULL;
    snprintf(dir, sizeof dir, "%s/suspend", vm->dir);
    snprintf(used, sizeof used, "%s/resuming", vm->dir);
    snprintf(disk, sizeof disk, "%s/disk.overlay", vm->dir);
    fill_spec(vm, disk, &spec);
    int r = fs_remove_tree(used, e); /* what the resume before could not remove */
    if (r < 0)
        return r;
    if (rename(dir, used) < 0)
        return err_set_errno(e, errno, "checkpoint of %s", vm->id);
    struct timespec before = written_at(disk);
    r = engine_resume(vm->service->cfg.engine, &spec, used, &m, e);
    if (r < 0) {
        struct timespec after = written_at(disk);
        *ran = before.tv_sec != after.tv_sec || before.tv_nsec != after.tv_nsec;
        if (!*ran && rename(used, dir) < 0)
            log_error("microvm", "%s: checkpoint could not be put back", vm->id);
        return r;
    }
    *ran = true;
    r = attach(vm, m, GUEST_SLEPT, e);
    if (r == 0)
        r = call_hook(vm, &vm->set.resume, "resume", "Resume", NULL, e);
    return r;
}

static void op_resume(struct microvm *vm)
{
    struct err e = {0};
    char used[600];
    bool ran = false;
    int r = thaw(vm, &ran, &e);
    if (r < 0 && !ran) {
        log_warn("microvm", "%s: resume failed, still suspended: %s", vm->id, e.text);
        return;
    }
    if (r == 0) {
        microvm_activity(vm);
        r = vm_set_state(vm, MICROVM_RUNNING, NULL, &e);
    }
    if (r < 0) {
        fail(vm, "resume", &e);
        return;
    }
    vm_wake_waiters(vm); /* before the clean-up: somebody is waiting for an answer */
    snprintf(used, sizeof used, "%s/resuming", vm->dir);
    if (fs_remove_tree(used, &e) < 0)
        log_warn("microvm", "%s: %s", vm->id, e.text);
}

static void op_terminate(struct microvm *vm)
{
    struct err e = {0};
    char reason[sizeof vm->reason];
    pthread_mutex_lock(&vm->lock);
    bool ask = vm->state == MICROVM_RUNNING && vm->agent && !vm->gone;
    if (!vm->reason[0])
        snprintf(vm->reason, sizeof vm->reason, "Success.");
    memcpy(reason, vm->reason, sizeof reason);
    pthread_mutex_unlock(&vm->lock);
    if (vm_set_state(vm, MICROVM_TERMINATING, NULL, &e) < 0)
        log_debug("microvm", "%s: terminating all the same", vm->id);
    if (ask && call_hook(vm, &vm->set.terminate, "terminate", "Terminate", NULL, &e) < 0)
        log_info("microvm", "%s: %s", vm->id, e.text); /* it ends whatever the hook says */
    detach(vm);
    if (fs_remove_tree(vm->dir, &e) < 0)
        log_warn("microvm", "%s: %s", vm->id, e.text);
    log_file_close(TAKE(vm->log));
    if (vm_set_state(vm, MICROVM_TERMINATED, reason, &e) < 0)
        log_debug("microvm", "%s: will be stored later", vm->id);
}

/* ---- dispatch ---------------------------------------------------------------------------------
 */

static const struct {
    unsigned want;
    int state; /* the operation applies in this state; -1 = any but TERMINATED, -2 = any */
    void (*run)(struct microvm *vm);
} OPERATIONS[] = {
    {WANT_STORE, -2, vm_store_state},
    {WANT_TERMINATE, -1, op_terminate},
    {WANT_START, MICROVM_PENDING, op_start},
    {WANT_SUSPEND, MICROVM_RUNNING, op_suspend},
    {WANT_RESUME, MICROVM_SUSPENDED, op_resume},
};

/* The next operation, or NULL when nothing that is wanted applies any more. */
static void (*next_operation(struct microvm *vm))(struct microvm *)
{
    for (size_t i = 0; i < ARRAY_LEN(OPERATIONS); i++) {
        int state = OPERATIONS[i].state;
        if (!(vm->wants & OPERATIONS[i].want) || (state >= 0 && (int)vm->state != state) ||
            (state == -1 && vm->state == MICROVM_TERMINATED))
            continue;
        vm->wants &= ~OPERATIONS[i].want;
        return OPERATIONS[i].run;
    }
    vm->wants = 0;
    return NULL;
}

/* Lock held. The session died while an operation was under way, so nobody has acted on it. */
static void note_loss(struct microvm *vm)
{
    if (vm->state != MICROVM_RUNNING || vm->watching || (vm->wants & WANT_TERMINATE))
        return;
    if (!vm->reason[0])
        memcpy(vm->reason, LOST, sizeof LOST);
    vm->gone = true;
    vm->wants |= WANT_TERMINATE;
}

void vm_operate(void *arg)
{
    struct microvm *vm = arg;
    for (;;) {
        pthread_mutex_lock(&vm->lock);
        note_loss(vm);
        void (*run)(struct microvm *) = next_operation(vm);
        if (!run)
            vm->operating = false;
        pthread_cond_broadcast(&vm->changed);
        pthread_mutex_unlock(&vm->lock);
        if (!run)
            break;
        run(vm);
        vm_wake_waiters(vm); /* those whose VM is on its way somewhere keep waiting */
    }
    vm_wake_waiters(vm);
    microvm_unref(vm);
}
