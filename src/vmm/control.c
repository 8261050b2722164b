/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/jail/jail.h"

#define HANG_CHECK_MS 5000

struct control {
    struct machine *m;
    int sock;
    bool told_full;
    bool quit, filtered;
    uint64_t last_exits; /* of all vCPUs at the last look for a hang */
    bool told_hang;
};

struct request {
    const struct monitor_message *in;
    const int *fds;
    struct monitor_answer *out;
};

typedef int (*handler)(struct control *c, const struct request *q, struct err *e);

static int on_create(struct control *c, const struct request *q, struct err *e)
{
    int r = machine_create(c->m, &q->in->create, e);
    if (r == 0)
        r = jail_filter(JAIL_CONTROL, e);
    c->filtered = r == 0;
    return r;
}

static int on_memory(struct control *c, const struct request *q, struct err *e)
{
    return machine_memory(c->m, &q->in->memory, q->in->n_fds ? q->fds[0] : -1, e);
}

static int on_disk(struct control *c, const struct request *q, struct err *e)
{
    return machine_disk(c->m, &q->in->disk, q->fds, q->in->n_fds, e);
}

static int on_net(struct control *c, const struct request *q, struct err *e)
{
    return machine_net(c->m, &q->in->net, q->fds[0], e);
}

static int on_console(struct control *c, const struct request *q, struct err *e)
{
    return machine_serial(c->m, q->fds[0], e);
}

static int on_boot(struct control *c, const struct request *q, struct err *e)
{
    return machine_boot(c->m, &q->in->boot, q->fds, q->in->n_fds, e);
}

static int on_restore(struct control *c, const struct request *q, struct err *e)
{
    return machine_restore(c->m, &q->in->restore, q->fds, e);
}

static int on_run(struct control *c, const struct request *q, struct err *e)
{
    (void)q;
    return machine_run(c->m, e);
}

static int on_pause(struct control *c, const struct request *q, struct err *e)
{
    (void)q;
    (void)e;
    machine_pause(c->m);
    return 0;
}

static int on_link(struct control *c, const struct request *q, struct err *e)
{
    return machine_link(c->m, q->in->n_fds ? q->fds[0] : -1, e);
}

static int on_save(struct control *c, const struct request *q, struct err *e)
{
    return machine_save(c->m, &q->in->save, q->fds, &q->out->saved, e);
}

static int on_fork(struct control *c, const struct request *q, struct err *e)
{
    return machine_fork(c->m, &q->in->save, q->fds, q->in->n_fds, &q->out->saved, e);
}

static int on_stats(struct control *c, const struct request *q, struct err *e)
{
    return machine_stats(c->m, &q->out->stats, e);
}

static int on_gate(struct control *c, const struct request *q, struct err *e)
{
    return machine_gate(c->m, q->in->gate.open, e);
}

static int on_balloon(struct control *c, const struct request *q, struct err *e)
{
    return machine_balloon(c->m, q->in->balloon.target_bytes, e);
}

static int on_working_set(struct control *c, const struct request *q, struct err *e)
{
    return machine_working_set(c->m, q->fds[0], e);
}

static int on_quit(struct control *c, const struct request *q, struct err *e)
{
    (void)q;
    (void)e;
    c->quit = true;
    return 0;
}

static const handler handlers[] = {
    [MONITOR_CREATE] = on_create,   [MONITOR_MEMORY] = on_memory,
    [MONITOR_DISK] = on_disk,       [MONITOR_NET] = on_net,
    [MONITOR_CONSOLE] = on_console, [MONITOR_BOOT] = on_boot,
    [MONITOR_RESTORE] = on_restore, [MONITOR_RUN] = on_run,
    [MONITOR_PAUSE] = on_pause,     [MONITOR_LINK] = on_link,
    [MONITOR_SAVE] = on_save,       [MONITOR_FORK] = on_fork,
    [MONITOR_STATS] = on_stats,     [MONITOR_GATE] = on_gate,
    [MONITOR_BALLOON] = on_balloon, [MONITOR_WORKING_SET] = on_working_set,
    [MONITOR_QUIT] = on_quit,
};

static int send_event(struct control *c, enum monitor_event event, const char *text)
{
    struct monitor_message m = {.protocol = MONITOR_PROTOCOL, .type = MONITOR_EVENT};
    m.notice.event = event;
    snprintf(m.notice.text, sizeof m.notice.text, "%s", text);
    return monitor_send(c->sock, &m, NULL);
}

static int dispatch(struct control *c, const struct monitor_message *in, const int *fds)
{
    struct monitor_message out = {
        .protocol = MONITOR_PROTOCOL, .type = MONITOR_ANSWER, .sequence = in->sequence};
    struct request q = {in, fds, &out.answer};
    struct err e = {0};
    if (in->type >= ARRAY_LEN(handlers) || !handlers[in->type])
        return -EPROTO;
    int r = in->type != MONITOR_CREATE && !c->filtered
                ? err_set(&e, EINVAL, "there is no machine yet")
                : handlers[in->type](c, &q, &e);
    out.answer.request = in->type;
    out.answer.code = r;
    if (r < 0)
        snprintf(out.answer.text, sizeof out.answer.text, "%.*s", (int)sizeof out.answer.text - 1,
                 e.text);
    return monitor_send(c->sock, &out, NULL);
}

static int on_message(struct control *c)
{
    struct monitor_message in;
    int fds[MONITOR_FDS_MAX];
    int r = monitor_receive(c->sock, &in, fds);
    return r == -EAGAIN ? 0 : r < 0 ? r : dispatch(c, &in, fds);
}

static int on_wake(struct control *c)
{
    uint64_t count;
    enum monitor_event event;
    char text[200];
    if (read(c->m->wake, &count, sizeof count) < 0)
        return 0;
    bool full = atomic_load(&c->m->stuck) > 0;
    int r = 0;
    if (full != c->told_full)
        r = send_event(c, full ? MONITOR_EVENT_DISK_FULL : MONITOR_EVENT_DISK_OK, "");
    c->told_full = full;
    if (r == 0 && vcpus_take_end(c->m, &event, text))
        r = send_event(c, event, text);
    return r;
}

/* Only a machine whose vCPUs left KVM not once since the last look can hang; others are not
 * disturbed. */
static int look_for_hang(struct control *c)
{
    struct machine *m = c->m;
    uint64_t exits = 0;
    struct err e;
    for (unsigned i = 0; i < m->vcpus.n; i++)
        exits += vcpu_exits(m->vcpus.thread[i].vcpu);
    bool idle = exits == c->last_exits;
    c->last_exits = exits;
    if (!idle || !m->running || c->told_hang)
        return 0;
    machine_pause(m);
    bool hang = vcpus_hang(m);
    if (machine_run(m, &e) < 0)
        return -EIO;
    c->told_hang = hang;
    return hang ? send_event(c, MONITOR_EVENT_HANG, "every vCPU waits with interrupts off") : 0;
}

int control_run(struct machine *m, int sock)
{
    struct control c = {.m = m, .sock = sock};
    int r = 0;
    while (r == 0 && !c.quit) {
        struct pollfd p[2] = {{.fd = sock, .events = POLLIN},
                              {.fd = c.filtered ? m->wake : -1, .events = POLLIN}};
        int n = poll(p, ARRAY_LEN(p), m->running ? HANG_CHECK_MS : -1);
        if (n == 0)
            r = look_for_hang(&c);
        if (n > 0 && p[1].revents)
            r = on_wake(&c);
        if (n > 0 && r == 0 && p[0].revents)
            r = on_message(&c);
    }
    if (r == 0 || r == -EPIPE)
        return 0;
    /* With write(2) alone: the filter leaves no more. */
    static const char text[] = "tinderbox-vmm: the control channel is broken\n";
    return write(STDERR_FILENO, text, sizeof text - 1) < 0 ? 2 : 1;
}
