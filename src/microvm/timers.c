/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock's share of the lifecycle, once a second on the loop: idle VMs are suspended, VMs that
 * were suspended by idleness for too long or exceeded their lifetime are terminated, wants that
 * found no free thread are tried again, long terminated VMs leave the registry.
 *
 * suspendedDurationSeconds counts after an idle suspend only, as measured on AWS; a VM that its
 * owner suspended waits for its owner (until its lifetime is over).
 */
#include <stdlib.h>

#include "base/log.h"
#include "microvm/internal.h"

#define PERIOD_MS 1000
#define HOUSEKEEPING_TICKS 3600
#define FORGET_AFTER_MS (10 * 60 * 1000)

static const char LIFETIME[] = "MicroVM exceeded maximum lifetime.";

static void check_running(struct microvm *vm)
{
    int64_t idle = clock_mono_ms() - atomic_load(&vm->last_activity_ms);
    if (!vm->set.has_idle_policy || idle < vm->set.max_idle_s * 1000)
        return;
    if (vm->set.max_suspended_s == 0) {
        vm_want_terminate(vm, LIFETIME, false);
        return;
    }
    pthread_mutex_lock(&vm->lock);
    vm->idle_suspended = true;
    pthread_mutex_unlock(&vm->lock);
    vm_want(vm, WANT_SUSPEND);
}

static void check(struct microvm *vm, void *arg)
{
    int64_t now = *(const int64_t *)arg;
    pthread_mutex_lock(&vm->lock);
    enum microvm_state state = vm->state;
    int64_t since = vm->suspended_at;
    bool operating = vm->operating, idle = vm->idle_suspended;
    unsigned wants = vm->wants;
    bool unstored = vm->unstored;
    pthread_mutex_unlock(&vm->lock);
    if (operating)
        return;
    if (unstored)
        vm_want(vm, WANT_STORE);
    else if (state == MICROVM_TERMINATED) {
        if (now - since > FORGET_AFTER_MS)
            registry_remove(vm->service, vm);
    } else if (wants)
        vm_want(vm, 0);
    else if (now >= vm->set.started_at + vm->set.max_duration_s * 1000)
        vm_want_terminate(vm, LIFETIME, false);
    else if (state == MICROVM_RUNNING)
        check_running(vm);
    else if (state == MICROVM_SUSPENDED && idle && now - since > vm->set.max_suspended_s * 1000)
        vm_want_terminate(vm, LIFETIME, false);
}

static void on_tick(uv_timer_t *t)
{
    struct microvm_service *s = t->data;
    int64_t now = clock_real_ms();
    registry_each(s, check, &now);
    if (++s->ticks % HOUSEKEEPING_TICKS == 0)
        housekeeping_submit(s);
}

static void start(void *arg)
{
    struct microvm_service *s = arg;
    uv_timer_init(loop_uv(s->cfg.loop), s->timer);
    s->timer->data = s;
    uv_timer_start(s->timer, on_tick, PERIOD_MS, PERIOD_MS);
}

int timers_start(struct microvm_service *s, struct err *e)
{
    s->timer = calloc(1, sizeof *s->timer);
    if (!s->timer)
        return err_set(e, ENOMEM, "out of memory");
    loop_post(s->cfg.loop, start, s);
    return 0;
}

static void free_timer(uv_handle_t *h)
{
    free(h);
}

static void stop(void *arg)
{
    struct microvm_service *s = arg;
    uv_timer_stop(s->timer);
    uv_close((uv_handle_t *)TAKE(s->timer), free_timer);
}

void timers_stop(struct microvm_service *s)
{
    if (s->timer)
        loop_call(s->cfg.loop, stop, s);
}
