/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads: started with the machine's objects, parked until it runs. A thread that has seen
 * the end of the machine (reset, triple fault, ...) parks for good; the control thread hears of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/jail/jail.h"
#include "vmm/machine.h"

#define STACK (256u << 10)
#define REKICK_NS 1000000
#define REKICK_MAX_NS 64000000

void machine_wake(struct machine *m)
{
    uint64_t one = 1;
    (void)!write(m->wake, &one, sizeof one); /* full is readable, too */
}

void machine_note_end(struct machine *m, enum monitor_event event, const char *text)
{
    pthread_mutex_lock(&m->vcpus.lock);
    if (!m->vcpus.ended) {
        m->vcpus.ended = true;
        m->vcpus.end = event;
        snprintf(m->vcpus.end_text, sizeof m->vcpus.end_text, "%s", text);
    }
    m->vcpus.run = false;
    pthread_mutex_unlock(&m->vcpus.lock);
    machine_wake(m);
}

static void wait_for_run(struct vcpus *v, struct vcpu_thread *t)
{
    pthread_mutex_lock(&v->lock);
    t->parked = true;
    v->parked++;
    pthread_cond_broadcast(&v->changed);
    while (!v->run)
        pthread_cond_wait(&v->changed, &v->lock);
    v->parked--;
    t->parked = false;
    pthread_mutex_unlock(&v->lock);
}

static bool may_run(struct vcpus *v)
{
    pthread_mutex_lock(&v->lock);
    bool yes = v->run && !v->ended;
    pthread_mutex_unlock(&v->lock);
    return yes;
}

static void *thread_main(void *arg)
{
    struct vcpu_thread *t = arg;
    struct vcpus *v = &t->machine->vcpus;
    struct err e;
    char text[200];
    vcpu_set_thread(t->vcpu);
    if (jail_filter(JAIL_VCPU, &e) < 0) {
        machine_note_end(t->machine, MONITOR_EVENT_FAILED, e.text);
        return NULL;
    }
    for (;;) {
        wait_for_run(v, t);
        while (may_run(v)) {
            enum vcpu_exit x = vcpu_run(t->vcpu, text);
            if (x != VCPU_KICKED)
                machine_note_end(t->machine, (enum monitor_event)x, text);
        }
    }
}

static void kick_running(struct vcpus *v)
{
    for (unsigned i = 0; i < v->n; i++)
        if (!v->thread[i].parked)
            vcpu_kick(v->thread[i].vcpu);
}

/* A kick that came before KVM_RUN is repeated, less and less often: where processors are few, kicks
 * alone could keep sixteen threads from parking. */
static void wait_parked(struct vcpus *v)
{
    long pause = REKICK_NS;
    pthread_mutex_lock(&v->lock);
    kick_running(v);
    while (v->parked < v->n) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (until.tv_nsec + pause) / 1000000000;
        until.tv_nsec = (until.tv_nsec + pause) % 1000000000;
        if (pthread_cond_timedwait(&v->changed, &v->lock, &until) != ETIMEDOUT)
            continue;
        kick_running(v);
        pause = pause < REKICK_MAX_NS ? pause * 2 : pause;
    }
    pthread_mutex_unlock(&v->lock);
}

static int init_sync(struct vcpus *v)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&v->lock, NULL);
    if (pthread_condattr_init(&attr))
        return -ENOMEM;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int r = pthread_cond_init(&v->changed, &attr);
    pthread_condattr_destroy(&attr);
    return -r;
}

int machine_thread(void *(*main)(void *), void *arg, struct err *e)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr))
        return err_set(e, ENOMEM, "out of memory");
    pthread_attr_setstacksize(&attr, STACK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int r = pthread_create(&thread, &attr, main, arg);
    pthread_attr_destroy(&attr);
    return r ? err_set_errno(e, r, "thread of the monitor") : 0;
}

int vcpus_start(struct machine *m, struct err *e)
{
    struct vcpus *v = &m->vcpus;
    int r = init_sync(v);
    if (r < 0)
        return err_set_errno(e, -r, "threads of the monitor");
    for (unsigned i = 0; i < m->shape.vcpus; i++) {
        v->thread[i].vcpu = kvm_vm_vcpu(m->vm, i);
        v->thread[i].machine = m;
        r = machine_thread(thread_main, &v->thread[i], e);
        if (r < 0)
            return r;
        v->n++;
    }
    return 0;
}

void vcpus_run(struct machine *m)
{
    pthread_mutex_lock(&m->vcpus.lock);
    m->vcpus.run = !m->vcpus.ended;
    pthread_cond_broadcast(&m->vcpus.changed);
    pthread_mutex_unlock(&m->vcpus.lock);
}

void vcpus_pause(struct machine *m)
{
    pthread_mutex_lock(&m->vcpus.lock);
    m->vcpus.run = false;
    pthread_mutex_unlock(&m->vcpus.lock);
    wait_parked(&m->vcpus);
}

bool vcpus_hang(struct machine *m)
{
    for (unsigned i = 0; i < m->vcpus.n; i++)
        if (!vcpu_is_dead_halted(m->vcpus.thread[i].vcpu))
            return false;
    return true;
}

bool vcpus_take_end(struct machine *m, enum monitor_event *ret, char text[200])
{
    struct vcpus *v = &m->vcpus;
    pthread_mutex_lock(&v->lock);
    bool ended = v->ended && !v->told;
    v->told |= v->ended;
    *ret = v->end;
    memcpy(text, v->end_text, sizeof v->end_text);
    pthread_mutex_unlock(&v->lock);
    return ended;
}
