/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests go out on the caller's thread, as many as wanted before the first answer is waited for;
 * the reaper reads answers and events. The monitor answers in order, so an answer is only right
 * when it is the next one: anything else means that its guest owns it, and ends it. A caller waits
 * on the machine's condition, which the end of the process also signals: no request outlives its
 * machine.
 */
#include <errno.h>
#include <string.h>

#include "engine/kvm/machine.h"

enum { SIMPLE_TIMEOUT_MS = 60000 }; /* a pause waits for the disk: a busy one is slow, not dead */

struct monitor_message vmm_request(enum monitor_type type, uint32_t n_fds)
{
    return (struct monitor_message){.protocol = MONITOR_PROTOCOL, .type = type, .n_fds = n_fds};
}

static struct vmm_call *slot_of(struct vmm *m, uint32_t sequence)
{
    return &m->calls[sequence % VMM_CALLS_MAX];
}

int vmm_ask_locked(struct vmm *m, struct monitor_message *msg, const int *fds,
                   void (*done)(struct vmm *m, const struct vmm_call *c))
{
    bool running = m->life.state == LIFE_NEW || (m->life.state == LIFE_LIVE && !m->life.vmm_gone);
    struct vmm_call *c = slot_of(m, m->next_request);
    if (!running || m->on_control.fd < 0)
        return -EPIPE;
    if (c->sequence)
        return -EBUSY;
    msg->sequence = m->next_request;
    int r = monitor_send(m->on_control.fd, msg, fds);
    if (r < 0) /* a full socket: it has stopped reading */
        return r == -EAGAIN ? -ETIMEDOUT : r;
    *c = (struct vmm_call){.sequence = m->next_request, .type = msg->type, .done = done};
    if (++m->next_request == 0)
        m->next_request = 1;
    return (int)(c - m->calls);
}

static int explain(struct vmm *m, int r, uint32_t type, struct err *e)
{
    if (r == -EPIPE)
        return life_gone(&m->life, e);
    if (r == -ETIMEDOUT)
        return err_set(e, ETIMEDOUT, "machine %s does not answer: %s", m->life.id,
                       monitor_type_name(type));
    return err_set_errno(e, -r, "machine %s: %s", m->life.id, monitor_type_name(type));
}

int vmm_ask(struct vmm *m, struct monitor_message *msg, const int *fds, struct err *e)
{
    pthread_mutex_lock(&m->life.lock);
    int r = vmm_ask_locked(m, msg, fds, NULL);
    pthread_mutex_unlock(&m->life.lock);
    return r < 0 ? explain(m, r, msg->type, e) : r;
}

/* What a guest that owns its monitor wrote goes to a log and to API clients. */
static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

int vmm_take_answer(struct vmm *m, const struct monitor_message *msg)
{
    struct vmm_call *c = slot_of(m, m->next_answer);
    if (msg->sequence != m->next_answer || c->sequence != msg->sequence || c->answered ||
        msg->answer.request != c->type || msg->answer.code > 0 || msg->answer.code < -4095)
        return -EPROTO;
    if (++m->next_answer == 0)
        m->next_answer = 1;
    c->answer = msg->answer;
    clean(c->answer.text);
    c->answered = true;
    if (c->done)
        c->done(m, c);
    if (c->done || c->abandoned)
        c->sequence = 0;
    return 0;
}

int vmm_answer(struct vmm *m, int slot, int timeout_ms, struct monitor_answer *ret, struct err *e)
{
    struct vmm_call *c = &m->calls[slot];
    uint32_t type = c->type;
    pthread_mutex_lock(&m->life.lock);
    int r = life_wait_flag(&m->life, &c->answered, timeout_ms);
    struct monitor_answer a = c->answer;
    if (r == 0)
        c->sequence = 0;
    else
        c->abandoned = true;
    pthread_mutex_unlock(&m->life.lock);
    if (r < 0)
        return explain(m, r, type, e);
    if (ret)
        *ret = a;
    return a.code < 0 ? err_set(e, -a.code, "%s", a.text[0] ? a.text : strerror(-a.code)) : 0;
}

int vmm_call(struct vmm *m, struct monitor_message *msg, const int *fds, int timeout_ms,
             struct monitor_answer *ret, struct err *e)
{
    int slot = vmm_ask(m, msg, fds, e);
    return slot < 0 ? slot : vmm_answer(m, slot, timeout_ms, ret, e);
}

int vmm_simple(struct vmm *m, enum monitor_type type, struct err *e)
{
    struct monitor_message msg = vmm_request(type, 0);
    int r = vmm_call(m, &msg, NULL, SIMPLE_TIMEOUT_MS, NULL, e);
    return r < 0 ? err_wrap(e, "%s", monitor_type_name(type)) : 0;
}
