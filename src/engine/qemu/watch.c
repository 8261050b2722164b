/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reaper's side of QMP. Everything read here may have been written by a hostile guest that owns
 * its QEMU: it is capped per line.
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

/* The caller's thread sends on this one, under the lock. */
static void stop_qmp(struct machine *m)
{
    pthread_mutex_lock(&m->life.lock);
    life_unwatch(&m->life, &m->on_qmp);
    pthread_mutex_unlock(&m->life.lock);
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
            m->migration_over = true;
        else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
            m->migration_over = m->migration_failed = true;
    } else if (strcmp(msg->name, "SHUTDOWN") == 0) {
        snprintf(m->shutdown, sizeof m->shutdown, "%s", reason ? reason : "unknown");
    } else if (strcmp(msg->name, "GUEST_PANICKED") == 0) {
        snprintf(m->shutdown, sizeof m->shutdown, "guest-panic");
    }
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
    if (m->end_when_full)
        life_end(&m->life, LIFE_NO_SPACE);
    else if (timerfd_settime(m->on_retry.fd, 0, &once, NULL) == 0)
        log_warn("engine", "%s: paused: %s", m->life.id, LIFE_NO_SPACE);
}

/* The write is done again; no space again means the same event again. */
static void retry_ready(struct watch *w)
{
    struct machine *m = CONTAINER_OF(w, struct machine, on_retry);
    struct buf line = BUF_INIT(QMP_LINE_MAX);
    uint64_t times;
    if (read(w->fd, &times, sizeof times) < 0)
        return;
    pthread_mutex_lock(&m->life.lock);
    bool go = !m->freezing && m->on_qmp.fd >= 0; /* a freeze that fails lets it go on by itself */
    if (go && qmp_write(&line, "cont", NULL, 0) == 0 &&
        send(m->on_qmp.fd, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_warn("engine", "%s: cannot be told to go on: %s", m->life.id, strerror(errno));
    pthread_mutex_unlock(&m->life.lock);
    buf_done(&line);
}

static void take_message(struct machine *m, struct qmp_message *msg)
{
    pthread_mutex_lock(&m->life.lock);
    if (msg->kind == QMP_GREETING)
        m->greeted = true;
    else if (msg->kind == QMP_EVENT)
        take_event(m, msg);
    else
        take_answer(m, msg);
    pthread_cond_broadcast(&m->life.changed);
    pthread_mutex_unlock(&m->life.lock);
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
            life_end(&m->life, e.text);
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

static void close_channel(struct life *l)
{
    struct machine *m = CONTAINER_OF(l, struct machine, life);
    while (qmp_ready_more(m))
        ;
    life_unwatch(l, &m->on_retry);
    stop_qmp(m);
}

static void explain_end(const struct life *l, char *out, size_t cap)
{
    const struct machine *m = CONTAINER_OF((struct life *)(uintptr_t)l, struct machine, life);
    char line[160];
    if (strcmp(m->shutdown, "guest-shutdown") == 0)
        snprintf(out, cap, "guest powered off");
    else if (console_log_panic(&l->console, line, sizeof line))
        snprintf(out, cap, "guest kernel died: %s", line);
    else
        snprintf(out, cap, "guest reset itself");
}

const struct life_ops machine_life_ops = {.close = close_channel, .explain = explain_end};

void machine_watch_init(struct machine *m)
{
    m->on_qmp = (struct watch){-1, qmp_ready};
    m->on_retry = (struct watch){-1, retry_ready};
}
