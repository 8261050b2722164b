/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reaper's side of a machine. Everything read here may have been written by a hostile guest:
 * the console is capped on disk (two files of half a mebibyte), stderr in memory, QMP per line.
 *
 * End of a machine: whichever process ends first takes the other with it; when both are reaped the
 * descriptors are drained and closed, waiters are woken, and on_exit is called last, without the
 * lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "engine/qemu/machine.h"

enum { CONSOLE_FILE_MAX = 512 * 1024 };

static void tail_add(struct machine_tail *t, const char *p, size_t n)
{
    const size_t cap = sizeof t->text - 1;
    if (n > cap) {
        p += n - cap;
        n = cap;
    }
    if (t->n + n > cap) {
        size_t drop = t->n + n - cap;
        memmove(t->text, t->text + drop, t->n - drop);
        t->n -= drop;
    }
    memcpy(t->text + t->n, p, n);
    t->n += n;
    t->text[t->n] = '\0';
    for (size_t i = t->n - n; i < t->n; i++)
        if (t->text[i] == '\0')
            t->text[i] = '?';
}

static void console_rotate(struct machine *m)
{
    close(m->console_file);
    (void)renameat(m->dir_fd, "console.log", m->dir_fd, "console.log.1"); /* fails: overwritten */
    m->console_file = openat(m->dir_fd, "console.log",
                             O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    m->console_bytes = 0;
}

static void console_add(struct machine *m, const char *p, size_t n)
{
    tail_add(&m->console_tail, p, n);
    if (m->console_bytes + n > CONSOLE_FILE_MAX)
        console_rotate(m);
    /* A full disk must not stop the machine; the last bytes stay in memory. */
    if (m->console_file >= 0 && fs_write_all(m->console_file, p, n) == 0)
        m->console_bytes += n;
}

static void stop_watching(struct machine *m, struct watch *w)
{
    if (w->fd < 0)
        return;
    reaper_remove(m->reaper, w);
    close(w->fd);
    w->fd = -1;
}

/* The caller's thread sends on this one, under the lock. */
static void stop_qmp(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    stop_watching(m, &m->on_qmp);
    pthread_mutex_unlock(&m->lock);
}

/* True while there may be more. */
static bool console_read(struct machine *m)
{
    char chunk[16384];
    ssize_t n = m->on_console.fd < 0 ? 0 : read(m->on_console.fd, chunk, sizeof chunk);
    if (n > 0)
        console_add(m, chunk, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        stop_watching(m, &m->on_console);
    return n > 0;
}

static bool stderr_read(struct machine *m)
{
    char chunk[4096];
    ssize_t n = m->on_stderr.fd < 0 ? 0 : read(m->on_stderr.fd, chunk, sizeof chunk);
    if (n > 0)
        tail_add(&m->stderr_tail, chunk, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        stop_watching(m, &m->on_stderr);
    return n > 0;
}

static void console_ready(struct watch *w)
{
    console_read(CONTAINER_OF(w, struct machine, on_console));
}

static void stderr_ready(struct watch *w)
{
    stderr_read(CONTAINER_OF(w, struct machine, on_stderr));
}

static void take_answer(struct machine *m, struct qmp_message *msg)
{
    for (int i = 0; i < MACHINE_CALLS_MAX; i++) {
        struct machine_call *c = &m->calls[i];
        if (msg->id <= 0 || c->id != msg->id || c->answered)
            continue;
        c->answered = true;
        c->code = msg->kind == QMP_ERROR ? -EIO : 0;
        memcpy(c->text, msg->text, sizeof c->text);
        c->data = TAKE(msg->data);
    }
}

static void take_event(struct machine *m, const struct qmp_message *msg)
{
    const char *status = json_get_str(msg->data, "status");
    const char *reason = json_get_str(msg->data, "reason");
    if (strcmp(msg->name, "MIGRATION") == 0 && status) {
        if (strcmp(status, "completed") == 0)
            m->migration = MIGRATION_COMPLETED;
        else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
            m->migration = MIGRATION_FAILED;
    } else if (strcmp(msg->name, "SHUTDOWN") == 0) {
        snprintf(m->shutdown, sizeof m->shutdown, "%s", reason ? reason : "unknown");
    } else if (strcmp(msg->name, "GUEST_PANICKED") == 0) {
        snprintf(m->shutdown, sizeof m->shutdown, "guest-panic");
    }
}

static void end_machine(struct machine *m, const char *why)
{
    pthread_mutex_lock(&m->lock);
    if (!m->note[0])
        snprintf(m->note, sizeof m->note, "%.*s", (int)sizeof m->note - 1, why);
    if (m->vm_pidfd >= 0)
        proc_signal(&(struct proc){.pidfd = m->vm_pidfd}, SIGKILL);
    else if (!m->vmm_gone)
        proc_signal(&m->vmm, SIGKILL);
    pthread_mutex_unlock(&m->lock);
}

/* QEMU has paused the machine in front of a write that found no space. */
static bool is_full(const struct qmp_message *msg)
{
    const char *action = json_get_str(msg->data, "action");
    return msg->kind == QMP_EVENT && strcmp(msg->name, "BLOCK_IO_ERROR") == 0 && action &&
           strcmp(action, "stop") == 0;
}

static void pause_for_space(struct machine *m)
{
    static const struct itimerspec once = {.it_value.tv_sec = 1};
    if (m->spec.end_when_full)
        end_machine(m, MACHINE_NO_SPACE);
    else if (timerfd_settime(m->on_retry.fd, 0, &once, NULL) == 0)
        log_warn("engine", "%s: paused: %s", m->id, MACHINE_NO_SPACE);
}

/* The write is done again; no space again means the same event again. */
static void retry_ready(struct watch *w)
{
    struct machine *m = CONTAINER_OF(w, struct machine, on_retry);
    struct buf line = BUF_INIT(QMP_LINE_MAX);
    uint64_t times;
    if (read(w->fd, &times, sizeof times) < 0)
        return;
    pthread_mutex_lock(&m->lock);
    bool go = !m->freezing && m->on_qmp.fd >= 0; /* a freeze that fails lets it go on by itself */
    if (go && qmp_write(&line, "cont", NULL, 0) == 0 &&
        send(m->on_qmp.fd, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_warn("engine", "%s: cannot be told to go on: %s", m->id, strerror(errno));
    pthread_mutex_unlock(&m->lock);
    buf_done(&line);
}

static void take_message(struct machine *m, struct qmp_message *msg)
{
    pthread_mutex_lock(&m->lock);
    if (msg->kind == QMP_GREETING)
        m->greeted = true;
    else if (msg->kind == QMP_EVENT)
        take_event(m, msg);
    else
        take_answer(m, msg);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static bool qmp_feed(struct machine *m, const char *p, size_t n)
{
    while (n) {
        struct qmp_message msg;
        struct err e = {0};
        size_t used = n;
        int r = qmp_read(&m->qmp, p, &used, &msg, &e);
        if (r < 0) {
            stop_qmp(m);
            end_machine(m, e.text);
            return false;
        }
        if (r == 1) {
            if (is_full(&msg))
                pause_for_space(m);
            take_message(m, &msg);
            qmp_message_done(&msg);
        }
        p += used;
        n -= used;
    }
    return true;
}

static bool qmp_ready_more(struct machine *m)
{
    char chunk[8192];
    ssize_t n = m->on_qmp.fd < 0 ? 0 : recv(m->on_qmp.fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n > 0)
        return qmp_feed(m, chunk, (size_t)n);
    if (n == 0 || errno != EAGAIN)
        stop_qmp(m);
    return false;
}

static void qmp_ready(struct watch *w)
{
    qmp_ready_more(CONTAINER_OF(w, struct machine, on_qmp));
}

static void panic_text(const struct machine *m, char *out, size_t cap)
{
    const char *at = NULL;
    for (const char *p = m->console_tail.text; (p = strstr(p, "Kernel panic")); p++)
        at = p;
    if (at)
        snprintf(out, cap, "guest kernel died: %.*s", (int)strcspn(at, "\r\n"), at);
    else
        snprintf(out, cap, "guest reset itself");
}

static void last_line(const struct machine_tail *t, char *out, size_t cap)
{
    size_t end = t->n;
    while (end && (t->text[end - 1] == '\n' || t->text[end - 1] == '\r'))
        end--;
    size_t start = end;
    while (start && t->text[start - 1] != '\n')
        start--;
    snprintf(out, cap, "%.*s", (int)(end - start), t->text + start);
}

static void describe_exit(struct machine *m, struct engine_exit *x)
{
    char line[120];
    *x = (struct engine_exit){m->expected, m->exit.signal, m->exit.code, ""};
    if (x->code > 128 && x->code < 128 + 65 && m->base.en->sandbox) {
        x->signal = x->code - 128; /* what the sandbox makes of it */
        x->code = 0;
    }
    if (m->note[0]) {
        snprintf(x->text, sizeof x->text, "%s", m->note);
    } else if (m->expected) {
        snprintf(x->text, sizeof x->text, "ended on request");
    } else if (x->signal) {
        snprintf(x->text, sizeof x->text, "monitor killed by signal %d", x->signal);
    } else if (x->code) {
        last_line(&m->stderr_tail, line, sizeof line);
        snprintf(x->text, sizeof x->text, "monitor exited with status %d: %s", x->code, line);
    } else if (strcmp(m->shutdown, "guest-shutdown") == 0) {
        snprintf(x->text, sizeof x->text, "guest powered off");
    } else {
        panic_text(m, x->text, sizeof x->text);
    }
}

/* Both processes are gone: what they wrote last is still in the sockets. */
static void finish(struct machine *m)
{
    struct engine_exit x;
    while (qmp_ready_more(m) || console_read(m) || stderr_read(m))
        ;
    stop_watching(m, &m->on_console);
    stop_watching(m, &m->on_stderr);
    stop_watching(m, &m->on_retry);
    stop_qmp(m);
    pthread_mutex_lock(&m->lock);
    describe_exit(m, &x);
    bool owed = m->returned && m->spec.on_exit;
    m->state = MACHINE_ENDED;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (owed)
        m->spec.on_exit(m->spec.on_exit_arg, &x);
    pthread_mutex_lock(&m->lock);
    m->state = MACHINE_DONE;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock); /* the owner may free it from here on */
}

static void vmm_ended(struct watch *w)
{
    struct machine *m = CONTAINER_OF(w, struct machine, on_vmm);
    reaper_remove(m->reaper, w);
    pthread_mutex_lock(&m->lock);
    int r = proc_wait(&m->vmm, -1, &m->exit); /* readable: does not block */
    m->vmm_gone = r == 0;
    /* Its memory is a file: a page of it for which there is no space is a bus error. */
    if (!m->expected && !m->note[0] &&
        (m->exit.signal == SIGBUS || (m->base.en->sandbox && m->exit.code == 128 + SIGBUS)))
        memcpy(m->note, MACHINE_NO_SPACE, sizeof MACHINE_NO_SPACE);
    if (!m->net_gone)
        proc_signal(&m->net, SIGKILL);
    bool all = m->vmm_gone && m->net_gone;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (all)
        finish(m);
}

static void net_ended(struct watch *w)
{
    struct machine *m = CONTAINER_OF(w, struct machine, on_net);
    struct proc_exit x = {0};
    char why[96];
    reaper_remove(m->reaper, w);
    pthread_mutex_lock(&m->lock);
    m->net_gone = proc_wait(&m->net, -1, &x) == 0;
    bool all = m->vmm_gone && m->net_gone;
    /* An exit by itself follows the end of the stream, that is, QEMU's own. */
    bool broken = !m->vmm_gone && !m->expected && (x.signal || x.code);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    snprintf(why, sizeof why, "network helper ended (%s %d)", x.signal ? "signal" : "status",
             x.signal ? x.signal : x.code);
    if (broken)
        end_machine(m, why);
    if (all)
        finish(m);
}

void machine_watch_init(struct machine *m)
{
    m->on_vmm = (struct watch){-1, vmm_ended};
    m->on_net = (struct watch){-1, net_ended};
    m->on_qmp = (struct watch){-1, qmp_ready};
    m->on_console = (struct watch){-1, console_ready};
    m->on_stderr = (struct watch){-1, stderr_ready};
    m->on_retry = (struct watch){-1, retry_ready};
}
