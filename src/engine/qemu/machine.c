/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "engine/tsc.h"

static int read_disks(struct machine *m, const struct engine_spec *s, struct err *e)
{
    for (unsigned i = 0; i < s->n_disks; i++) {
        int r = overlay_chain_read(s->disks[i].path, s->disks[i].format, &m->base.en->key,
                                   &m->disks[i], e);
        if (r < 0)
            return r;
        m->disk_read_only[i] = s->disks[i].read_only;
    }
    return 0;
}

static int init_sync(struct machine *m)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr))
        return -ENOMEM;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int r = pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
    return r ? -r : -pthread_mutex_init(&m->lock, NULL);
}

static void fill_args(struct machine *m, const struct engine_spec *s)
{
    struct engine *en = m->base.en;
    m->args = (struct qemu_args){
        .program = en->program,
        .memory_mib = s->memory_mib,
        .vcpus = s->vcpus,
        .kernel = en->kernel,
        .initramfs = en->initramfs,
        .tsc_khz = tsc_khz(),
        .network = s->network,
        .sandboxed = en->sandbox,
        .disks = m->disks,
        .disk_read_only = m->disk_read_only,
        .n_disks = s->n_disks,
    };
}

int machine_new(struct engine *en, struct reaper *r, const struct engine_spec *s,
                struct machine **ret, struct err *e)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m || init_sync(m) < 0) {
        free(m);
        return err_set(e, ENOMEM, "out of memory");
    }
    m->base.en = en;
    m->reaper = r;
    m->dir_fd = m->console_file = m->stats_fd = m->vm_pidfd = m->base_fd = m->pages_fd = -1;
    m->vmm.pidfd = m->net.pidfd = -1;
    m->vmm_gone = m->net_gone = true;
    m->next_id = 1;
    m->spec = (struct engine_spec){
        .on_exit = s->on_exit, .on_exit_arg = s->on_exit_arg, .end_when_full = s->end_when_full};
    qmp_reader_init(&m->qmp);
    snprintf(m->id, sizeof m->id, "%s", s->id);
    machine_watch_init(m);
    fill_args(m, s);
    int k = 0;
    if (!(m->dir = strdup(s->dir)))
        k = err_set(e, ENOMEM, "out of memory");
    else if ((m->dir_fd = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        k = err_set_errno(e, errno, "machine directory %s", s->dir);
    else
        k = read_disks(m, s, e);
    if (k < 0)
        machine_free(m);
    else
        *ret = m;
    return k;
}

int machine_hand_out(struct machine *m, struct err *e)
{
    pthread_mutex_lock(&m->lock);
    bool live = m->state == MACHINE_LIVE && !m->vmm_gone;
    m->returned = live;
    pthread_mutex_unlock(&m->lock);
    return live ? 0 : machine_gone(m, e);
}

int machine_gone(struct machine *m, struct err *e)
{
    /* The texts are complete once everything has been reaped; that is a matter of milliseconds. */
    if (machine_wait_end(m, 2000) < 0)
        return err_set(e, EPIPE, "machine %s is ending", m->id);
    const char *said = m->stderr_tail.text;
    pthread_mutex_lock(&m->lock);
    int code = strcmp(m->note, MACHINE_NO_SPACE) == 0 ? ENOSPC : EPIPE;
    if (m->note[0])
        err_set(e, code, "machine %s ended: %s", m->id, m->note);
    else if (m->expected)
        err_set(e, EPIPE, "machine %s has ended", m->id);
    else if (strncmp(said, "bwrap:", 6) == 0)
        err_set(e, EPIPE, "the sandbox of machine %s cannot be set up: %s", m->id, said);
    else
        err_set(e, EPIPE, "machine %s ended%s%s", m->id, said[0] ? ": " : "", said);
    pthread_mutex_unlock(&m->lock);
    return -code;
}

static void deadline_after(struct timespec *t, int ms)
{
    clock_gettime(CLOCK_MONOTONIC, t);
    t->tv_sec += ms / 1000;
    t->tv_nsec += (long)(ms % 1000) * 1000000;
    if (t->tv_nsec >= 1000000000) {
        t->tv_nsec -= 1000000000;
        t->tv_sec++;
    }
}

static int wait_state(struct machine *m, enum machine_state want, int timeout_ms)
{
    struct timespec until;
    deadline_after(&until, timeout_ms);
    int r = 0;
    pthread_mutex_lock(&m->lock);
    while (m->state != MACHINE_NEW && m->state < want && r == 0)
        r = pthread_cond_timedwait(&m->changed, &m->lock, &until);
    bool reached = m->state == MACHINE_NEW || m->state >= want;
    pthread_mutex_unlock(&m->lock);
    return reached ? 0 : -ETIMEDOUT;
}

int machine_wait_end(struct machine *m, int timeout_ms)
{
    return wait_state(m, MACHINE_ENDED, timeout_ms);
}

static void send_kill(struct machine *m, bool sandbox_too)
{
    pthread_mutex_lock(&m->lock);
    m->expected = true;
    if (m->state == MACHINE_LIVE && !m->vmm_gone) {
        /* QEMU first and alone: the sandbox ends after it, so its end is proof of QEMU's. */
        if (m->vm_pidfd >= 0)
            proc_signal(&(struct proc){.pidfd = m->vm_pidfd}, SIGKILL);
        if (m->vm_pidfd < 0 || sandbox_too)
            proc_signal(&m->vmm, SIGKILL);
    }
    if (!m->net_gone)
        proc_signal(&m->net, SIGKILL);
    pthread_mutex_unlock(&m->lock);
}

void machine_kill(struct machine *m)
{
    send_kill(m, false);
    if (machine_wait_end(m, 3000) == 0)
        return;
    send_kill(m, true);
    /* A process in an uninterruptible read of a dead disk: nothing more can be done than wait. */
    while (machine_wait_end(m, 60000) < 0)
        ;
}

bool machine_alive(const struct machine *cm)
{
    struct machine *m = (struct machine *)(uintptr_t)cm; /* the lock is not part of the value */
    pthread_mutex_lock(&m->lock);
    bool alive = m->state == MACHINE_LIVE && !m->vmm_gone;
    pthread_mutex_unlock(&m->lock);
    return alive;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    bool started = m->state != MACHINE_NEW;
    pthread_mutex_unlock(&m->lock);
    if (started) {
        machine_kill(m);
        while (wait_state(m, MACHINE_DONE, 60000) < 0)
            ;
        unlinkat(m->dir_fd, "agent.sock", 0);
    }
    for (unsigned i = 0; i < ENGINE_DISKS_MAX; i++)
        overlay_chain_done(&m->disks[i]);
    for (unsigned i = 0; i < MACHINE_CALLS_MAX; i++)
        json_decref(m->calls[i].data);
    qmp_reader_done(&m->qmp);
    int *const fds[] = {&m->dir_fd,   &m->console_file, &m->stats_fd,
                        &m->vm_pidfd, &m->base_fd,      &m->pages_fd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        cleanup_close(fds[i]);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    free(m->memory_file);
    free(m->dir);
    free(m);
}
