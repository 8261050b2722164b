/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/life.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/fds.h"
#include "engine/nethelper.h"

enum { DRAIN_READS = 256 };

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

/* ---- what the reaper does ----------------------------------------------------------------------
 */

void life_unwatch(struct life *l, struct watch *w)
{
    if (w->fd < 0)
        return;
    reaper_remove(l->reaper, w);
    close(w->fd);
    w->fd = -1;
}

/* True while there may be more. */
static bool console_read(struct life *l)
{
    char chunk[16384];
    ssize_t n = l->on_console.fd < 0 ? 0 : read(l->on_console.fd, chunk, sizeof chunk);
    if (n > 0)
        console_log_add(&l->console, chunk, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        life_unwatch(l, &l->on_console);
    return n > 0;
}

static bool stderr_read(struct life *l)
{
    char chunk[4096];
    ssize_t n = l->on_stderr.fd < 0 ? 0 : read(l->on_stderr.fd, chunk, sizeof chunk);
    if (n > 0)
        tail_add(&l->stderr_tail, chunk, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        life_unwatch(l, &l->on_stderr);
    return n > 0;
}

static void console_ready(struct watch *w)
{
    console_read(CONTAINER_OF(w, struct life, on_console));
}

static void stderr_ready(struct watch *w)
{
    stderr_read(CONTAINER_OF(w, struct life, on_stderr));
}

/* More than the sockets hold: who still runs may print as fast as this reads, and all machines wait
 * for this thread. */
void life_drain(struct life *l)
{
    bool more = true;
    for (unsigned i = 0; more && i < DRAIN_READS; i++) {
        more = console_read(l);
        more = stderr_read(l) || more;
    }
}

/* Lock held. */
static void describe_exit(struct life *l, struct engine_exit *x)
{
    char line[120];
    *x = (struct engine_exit){l->expected, l->exit.signal, l->exit.code, ""};
    if (x->code > 128 && x->code < 128 + 65 && l->sandboxed) {
        x->signal = x->code - 128; /* what the sandbox makes of it */
        x->code = 0;
    }
    if (l->note[0]) {
        snprintf(x->text, sizeof x->text, "%s", l->note);
    } else if (l->expected) {
        snprintf(x->text, sizeof x->text, "ended on request");
    } else if (x->signal) {
        snprintf(x->text, sizeof x->text, "monitor killed by signal %d", x->signal);
    } else if (x->code) {
        tail_last_line(&l->stderr_tail, line, sizeof line);
        snprintf(x->text, sizeof x->text, "monitor exited with status %d: %s", x->code, line);
    } else {
        l->ops->explain(l, x->text, sizeof x->text);
    }
}

/* Both processes are gone: what they wrote last is still in the sockets. */
static void finish(struct life *l)
{
    struct engine_exit x;
    life_drain(l);
    l->ops->close(l);
    life_unwatch(l, &l->on_console);
    life_unwatch(l, &l->on_stderr);
    pthread_mutex_lock(&l->lock);
    describe_exit(l, &x);
    memcpy(l->text, x.text, sizeof l->text);
    bool owed = l->returned && l->on_exit;
    l->state = LIFE_ENDED;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (owed)
        l->on_exit(l->on_exit_arg, &x);
    pthread_mutex_lock(&l->lock);
    l->state = LIFE_DONE;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock); /* the owner may free it from here on */
}

static void vmm_ended(struct watch *w)
{
    struct life *l = CONTAINER_OF(w, struct life, on_vmm);
    reaper_remove(l->reaper, w);
    pthread_mutex_lock(&l->lock);
    int r = proc_wait(&l->vmm, -1, &l->exit); /* readable: does not block */
    l->vmm_gone = r == 0;
    /* Memory that is a file: a page of it for which there is no space is a bus error. */
    if (!l->expected && !l->note[0] &&
        (l->exit.signal == SIGBUS || (l->sandboxed && l->exit.code == 128 + SIGBUS)))
        memcpy(l->note, LIFE_NO_SPACE, sizeof LIFE_NO_SPACE);
    if (!l->net_gone)
        proc_signal(&l->net, SIGKILL);
    bool all = l->vmm_gone && l->net_gone;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (all)
        finish(l);
}

static void net_ended(struct watch *w)
{
    struct life *l = CONTAINER_OF(w, struct life, on_net);
    struct proc_exit x = {0};
    char why[96];
    reaper_remove(l->reaper, w);
    pthread_mutex_lock(&l->lock);
    l->net_gone = proc_wait(&l->net, -1, &x) == 0;
    bool all = l->vmm_gone && l->net_gone;
    /* An exit by itself follows the end of the stream, that is, the monitor's own. */
    bool broken = !l->vmm_gone && !l->expected && (x.signal || x.code);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    snprintf(why, sizeof why, "network helper ended (%s %d)", x.signal ? "signal" : "status",
             x.signal ? x.signal : x.code);
    if (broken)
        life_end(l, why);
    if (all)
        finish(l);
}

/* ---- set-up ------------------------------------------------------------------------------------
 */

static int init_sync(struct life *l)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr))
        return -ENOMEM;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int r = pthread_cond_init(&l->changed, &attr);
    pthread_condattr_destroy(&attr);
    return r ? -r : -pthread_mutex_init(&l->lock, NULL);
}

int life_init(struct life *l, const struct life_ops *ops, struct reaper *r,
              const struct engine_spec *s, struct err *e)
{
    *l = (struct life){.ops = ops,
                       .reaper = r,
                       .on_exit = s->on_exit,
                       .on_exit_arg = s->on_exit_arg,
                       .dir_fd = -1,
                       .stats_fd = -1,
                       .inner_pidfd = -1,
                       .console.file = -1,
                       .on_vmm = {-1, vmm_ended},
                       .on_net = {-1, net_ended},
                       .on_console = {-1, console_ready},
                       .on_stderr = {-1, stderr_ready},
                       .vmm.pidfd = -1,
                       .net.pidfd = -1,
                       .vmm_gone = true,
                       .net_gone = true};
    snprintf(l->id, sizeof l->id, "%s", s->id);
    if (init_sync(l) < 0 || !(l->dir = strdup(s->dir)))
        return err_set(e, ENOMEM, "out of memory");
    l->dir_fd = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return l->dir_fd < 0 ? err_set_errno(e, errno, "machine directory %s", s->dir) : 0;
}

int life_open_console(struct life *l, int *theirs)
{
    int r = fds_pair(SOCK_STREAM, &l->on_console.fd, theirs);
    return r < 0 ? r : console_log_open(&l->console, l->dir_fd);
}

int life_open_stderr(struct life *l, int *theirs)
{
    return fds_pair(SOCK_STREAM, &l->on_stderr.fd, theirs);
}

int life_start_net(struct life *l, const char *helper_dir, const struct net_policy *policy,
                   int stream, int err, struct err *e)
{
    struct nethelper h = {helper_dir, l->id, policy, stream, err};
    return nethelper_spawn(&h, &l->net, &l->stats_fd, e);
}

/* The monitor's end comes last: it takes all the others away. */
int life_start(struct life *l, struct watch *const *own, size_t n, struct err *e)
{
    l->vmm_gone = false;
    l->net_gone = l->net.pidfd < 0;
    l->state = LIFE_LIVE;
    l->on_vmm.fd = l->vmm.pidfd;
    l->on_net.fd = l->net.pidfd;
    struct watch *const all[] = {&l->on_console, &l->on_stderr, &l->on_net, &l->on_vmm};
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = reaper_add(l->reaper, own[i], e);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(all); i++)
        r = all[i]->fd < 0 ? 0 : reaper_add(l->reaper, all[i], e);
    return r; /* a machine of which only some were added is ended and freed by the caller */
}

int life_hand_out(struct life *l, struct err *e)
{
    pthread_mutex_lock(&l->lock);
    bool live = l->state == LIFE_LIVE && !l->vmm_gone;
    l->returned = live;
    pthread_mutex_unlock(&l->lock);
    return live ? 0 : life_gone(l, e);
}

/* ---- waiting and ending ------------------------------------------------------------------------
 */

bool life_alive(const struct life *cl)
{
    struct life *l = (struct life *)(uintptr_t)cl; /* the lock is not part of the value */
    pthread_mutex_lock(&l->lock);
    bool alive = l->state == LIFE_LIVE && !l->vmm_gone;
    pthread_mutex_unlock(&l->lock);
    return alive;
}

int life_gone(struct life *l, struct err *e)
{
    /* The texts are complete once everything has been reaped; that is a matter of milliseconds. */
    if (life_wait_end(l, 2000) < 0)
        return err_set(e, EPIPE, "machine %s is ending", l->id);
    pthread_mutex_lock(&l->lock);
    const char *said = l->stderr_tail.n ? l->stderr_tail.text : l->text;
    int code = strcmp(l->note, LIFE_NO_SPACE) == 0 ? ENOSPC : EPIPE;
    if (l->note[0])
        err_set(e, code, "machine %s ended: %s", l->id, l->note);
    else if (l->expected)
        err_set(e, EPIPE, "machine %s was ended", l->id);
    else
        err_set(e, EPIPE, "machine %s ended: %s", l->id, said);
    pthread_mutex_unlock(&l->lock);
    return -code;
}

int life_wait_flag(struct life *l, const bool *flag, int timeout_ms)
{
    struct timespec until;
    int r = 0;
    deadline_after(&until, timeout_ms);
    while (!*flag && l->state == LIFE_LIVE && !l->vmm_gone && r == 0)
        r = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    return *flag ? 0 : r == 0 ? -EPIPE : -ETIMEDOUT;
}

static int wait_state(struct life *l, enum life_state want, int timeout_ms)
{
    struct timespec until;
    deadline_after(&until, timeout_ms);
    int r = 0;
    pthread_mutex_lock(&l->lock);
    while (l->state != LIFE_NEW && l->state < want && r == 0)
        r = pthread_cond_timedwait(&l->changed, &l->lock, &until);
    bool reached = l->state == LIFE_NEW || l->state >= want;
    pthread_mutex_unlock(&l->lock);
    return reached ? 0 : -ETIMEDOUT;
}

int life_wait_end(struct life *l, int timeout_ms)
{
    return wait_state(l, LIFE_ENDED, timeout_ms);
}

void life_expect_end(struct life *l)
{
    pthread_mutex_lock(&l->lock);
    l->expected = true;
    pthread_mutex_unlock(&l->lock);
}

/* Lock held. The monitor first and alone: a sandbox ends after it, so its end is proof of the
 * monitor's. */
static void kill_monitor(struct life *l, bool sandbox_too)
{
    if (l->state != LIFE_LIVE || l->vmm_gone)
        return;
    if (l->inner_pidfd >= 0)
        proc_signal(&(struct proc){.pidfd = l->inner_pidfd}, SIGKILL);
    if (l->inner_pidfd < 0 || sandbox_too)
        proc_signal(&l->vmm, SIGKILL);
}

void life_end(struct life *l, const char *why)
{
    pthread_mutex_lock(&l->lock);
    if (!l->note[0])
        snprintf(l->note, sizeof l->note, "%.*s", (int)sizeof l->note - 1, why);
    kill_monitor(l, false);
    pthread_mutex_unlock(&l->lock);
}

static void send_kill(struct life *l, bool sandbox_too)
{
    pthread_mutex_lock(&l->lock);
    l->expected = true;
    kill_monitor(l, sandbox_too);
    if (!l->net_gone)
        proc_signal(&l->net, SIGKILL);
    pthread_mutex_unlock(&l->lock);
}

void life_kill(struct life *l)
{
    send_kill(l, false);
    if (life_wait_end(l, 3000) == 0)
        return;
    send_kill(l, true);
    /* A process in an uninterruptible read of a dead disk: nothing more can be done than wait. */
    while (life_wait_end(l, 60000) < 0)
        ;
}

void life_stop(struct life *l)
{
    pthread_mutex_lock(&l->lock);
    bool started = l->state != LIFE_NEW;
    pthread_mutex_unlock(&l->lock);
    if (!started) {
        proc_kill(&l->vmm);
        proc_kill(&l->net);
        return;
    }
    life_kill(l);
    while (wait_state(l, LIFE_DONE, 60000) < 0)
        ;
}

void life_done(struct life *l)
{
    int *const fds[] = {&l->dir_fd, &l->stats_fd, &l->inner_pidfd};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        cleanup_close(fds[i]);
    /* Of a machine that never started nothing was watched, nothing else closes these. */
    cleanup_close(&l->on_console.fd);
    cleanup_close(&l->on_stderr.fd);
    console_log_close(&l->console);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l->dir);
}
