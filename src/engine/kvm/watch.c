/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reaper's side of the control channel. Everything read here may come from a monitor that its
 * guest owns: sizes, order and types are checked, texts cleaned, events limited in number.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/kvm/machine.h"

enum {
    EVENTS_PER_SECOND = 1000,
    LOGGED_MAX = 50,
    END_MS = 500, /* how long a monitor that has closed its channel may take to end */
};

static const char BROKEN[] = "the monitor broke the protocol of its control channel";

void vmm_set_timer(struct vmm *m, int ms)
{
    struct itimerspec t = {.it_value = {ms / 1000, (long)(ms % 1000) * 1000000}};
    (void)timerfd_settime(m->on_timer.fd, 0, &t, NULL); /* of valid times it refuses none */
}

/* The caller's thread sends on it, under the lock. */
static void stop_control(struct vmm *m)
{
    pthread_mutex_lock(&m->life.lock);
    life_unwatch(&m->life, &m->on_control);
    pthread_cond_broadcast(&m->life.changed);
    pthread_mutex_unlock(&m->life.lock);
}

static bool ends_machine(uint32_t event)
{
    return event >= MONITOR_EVENT_POWEROFF && event <= MONITOR_EVENT_HANG;
}

static void end_text(const struct vmm *m, char *out, size_t cap)
{
    char panic[120];
    switch (m->ended_by) {
    case MONITOR_EVENT_POWEROFF:
        snprintf(out, cap, "guest powered off");
        break;
    case MONITOR_EVENT_RESET:
        if (console_log_panic(&m->life.console, panic, sizeof panic))
            snprintf(out, cap, "guest kernel died: %s", panic);
        else
            snprintf(out, cap, "guest reset itself");
        break;
    case MONITOR_EVENT_TRIPLE_FAULT:
        snprintf(out, cap, "guest died of a triple fault");
        break;
    case MONITOR_EVENT_HANG:
        snprintf(out, cap, "guest hangs: every processor waits with interrupts off");
        break;
    default:
        snprintf(out, cap, "monitor gave up: %.*s", (int)cap - 24, m->ended_text);
    }
}

/* What the guest said before its end is in the console by now. */
static void note_end(struct vmm *m)
{
    char why[sizeof m->life.note];
    life_drain(&m->life);
    end_text(m, why, sizeof why);
    life_end(&m->life, why);
}

static void say(struct vmm *m, const char *what, const char *text)
{
    if (m->n_logged++ < LOGGED_MAX)
        log_warn("engine", "%s: %s%s%s", m->life.id, what, text[0] ? ": " : "", text);
}

/* False: too many. */
static bool count_event(struct vmm *m)
{
    int64_t now = clock_mono_ms();
    if (now - m->window_ms >= 1000) {
        m->window_ms = now;
        m->n_events = 0;
    }
    return ++m->n_events <= EVENTS_PER_SECOND;
}

static int take_event(struct vmm *m, const struct monitor_notice *n)
{
    char text[MONITOR_TEXT_MAX];
    if (!count_event(m))
        return -EPROTO;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)n->text[i] < 0x20 && n->text[i] ? '?' : n->text[i];
    if (ends_machine(n->event)) {
        if (m->ended_by)
            return 0;
        m->ended_by = n->event;
        memcpy(m->ended_text, text, sizeof text);
        note_end(m);
    } else if (n->event == MONITOR_EVENT_DISK_FULL) {
        if (m->end_when_full)
            life_end(&m->life, LIFE_NO_SPACE);
        else
            say(m, "waits", LIFE_NO_SPACE);
    } else if (n->event == MONITOR_EVENT_DISK_OK) {
        log_debug("engine", "%s: there is space again", m->life.id);
    } else if (n->event == MONITOR_EVENT_DEVICE_BROKEN) {
        say(m, "the guest broke the rules of a device", text);
    } else {
        return -EPROTO;
    }
    return 0;
}

static int take_message(struct vmm *m, const struct monitor_message *msg)
{
    int r = -EPROTO;
    if (msg->type == MONITOR_EVENT)
        return take_event(m, &msg->notice);
    pthread_mutex_lock(&m->life.lock);
    if (msg->type == MONITOR_ANSWER)
        r = vmm_take_answer(m, msg);
    pthread_cond_broadcast(&m->life.changed);
    pthread_mutex_unlock(&m->life.lock);
    return r;
}

/* A monitor that is owned may pretend to have ended. */
static void control_ended(struct vmm *m, int r)
{
    if (r == -EPIPE && !m->ended_by)
        vmm_set_timer(m, END_MS);
    else if (r != -EPIPE)
        life_end(&m->life, BROKEN);
    stop_control(m);
}

/* True while there may be more. */
static bool control_read(struct vmm *m)
{
    struct monitor_message msg;
    int fds[MONITOR_FDS_MAX];
    if (m->on_control.fd < 0)
        return false;
    int r = monitor_receive(m->on_control.fd, &msg, fds);
    if (r == -EAGAIN)
        return false;
    for (uint32_t i = 0; r == 0 && i < msg.n_fds; i++)
        close(fds[i]); /* of a request, which is not for us */
    if (r == 0)
        r = take_message(m, &msg);
    if (r < 0)
        control_ended(m, r);
    return r == 0;
}

static void control_ready(struct watch *w)
{
    control_read(CONTAINER_OF(w, struct vmm, on_control));
}

static void timer_ready(struct watch *w)
{
    struct vmm *m = CONTAINER_OF(w, struct vmm, on_timer);
    uint64_t times;
    if (read(w->fd, &times, sizeof times) < 0)
        return;
    if (m->on_control.fd < 0)
        life_end(&m->life, "the monitor closed its control channel");
    else
        vmm_record_working_set(m);
}

static void close_channel(struct life *l)
{
    struct vmm *m = CONTAINER_OF(l, struct vmm, life);
    while (control_read(m))
        ;
    life_unwatch(l, &m->on_timer);
    stop_control(m);
}

/* Without an event of its guest. */
static void explain_end(const struct life *l, char *out, size_t cap)
{
    (void)l;
    snprintf(out, cap, "monitor ended by itself");
}

const struct life_ops vmm_life_ops = {.close = close_channel, .explain = explain_end};

void vmm_watch_init(struct vmm *m)
{
    m->on_control = (struct watch){-1, control_ready};
    m->on_timer = (struct watch){-1, timer_ready};
}
