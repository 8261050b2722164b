/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One thread waits for two things: a request of the daemon, worked on from
 * beginning to end before the next is read, and the machine's wake counter, behind which events
 * stand. Descriptors of a request are closed when it has been answered, but for those the machine
 * kept. Filters come with CREATE, as its last step; before it nothing else is served.
 *
 * While the machine runs and nothing else happens, this thread looks for guests that can never wake
 * up (all vCPUs halted with interrupts off).
 */
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

static int create(struct control *c, const struct monitor_create *shape, struct err *e)
{
    int r = machine_create(c->m, shape, e);
    if (r == 0)
        r = jail_filter(JAIL_CONTROL, e);
    c->filtered = r == 0;
    return r;
}

static int serve(struct control *c, const struct monitor_message *in, int *fds,
                 struct monitor_answer *out, struct err *e)
{
    struct machine *m = c->m;
    if (in->type != MONITOR_CREATE && !c->filtered)
        return err_set(e, EINVAL, "there is no machine yet");
    switch (in->type) {
    case MONITOR_CREATE:
        return create(c, &in->create, e);
    case MONITOR_MEMORY:
        return machine_memory(m, &in->memory, &fds[0], e);
    case MONITOR_DISK:
        return machine_disk(m, &in->disk, fds, in->n_fds, e);
    case MONITOR_NET:
        return machine_net(m, &in->net, &fds[0], e);
    case MONITOR_CONSOLE:
        return machine_serial(m, &fds[0], e);
    case MONITOR_BOOT:
        return machine_boot(m, &in->boot, fds, e);
    case MONITOR_RESTORE:
        return machine_restore(m, &in->restore, fds, e);
    case MONITOR_RUN:
        return machine_run(m, e);
    case MONITOR_PAUSE:
        machine_pause(m);
        return 0;
    case MONITOR_LINK:
        return machine_link(m, &fds[0], e);
    case MONITOR_SAVE:
        return machine_save(m, &in->save, fds, &out->saved, e);
    case MONITOR_FORK:
        return machine_fork(m, &in->save, fds, &out->saved, e);
    case MONITOR_STATS:
        return machine_stats(m, &out->stats, e);
    case MONITOR_GATE:
        return machine_gate(m, in->gate.open, e);
    case MONITOR_BALLOON:
        return machine_balloon(m, in->balloon.target_bytes, e);
    case MONITOR_WORKING_SET:
        return machine_working_set(m, fds[0], e);
    case MONITOR_QUIT:
        c->quit = true;
        return 0;
    default:
        return err_set(e, EINVAL, "no such request");
    }
}

static int send_event(struct control *c, enum monitor_event event, const char *text)
{
    struct monitor_message m = {.protocol = MONITOR_PROTOCOL, .type = MONITOR_EVENT};
    m.notice.event = event;
    snprintf(m.notice.text, sizeof m.notice.text, "%s", text);
    return monitor_send(c->sock, &m, NULL);
}

static int on_message(struct control *c)
{
    struct monitor_message in;
    int fds[MONITOR_FDS_MAX];
    struct err e = {0};
    int r = monitor_receive(c->sock, &in, fds);
    if (r < 0)
        return r == -EAGAIN ? 0 : r;
    for (unsigned i = in.n_fds; i < MONITOR_FDS_MAX; i++)
        fds[i] = -1;
    struct monitor_message out = {
        .protocol = MONITOR_PROTOCOL, .type = MONITOR_ANSWER, .sequence = in.sequence};
    out.answer.request = in.type;
    bool is_request = in.type <= MONITOR_QUIT; /* the others are a monitor's to send */
    if (is_request)
        out.answer.code = serve(c, &in, fds, &out.answer, &e);
    for (unsigned i = 0; i < in.n_fds; i++)
        cleanup_close(&fds[i]);
    if (!is_request)
        return -EPROTO;
    snprintf(out.answer.text, sizeof out.answer.text, "%.*s", (int)sizeof out.answer.text - 1,
             e.text);
    return monitor_send(c->sock, &out, NULL);
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
    const char *broken = atomic_exchange(&c->m->broken, NULL);
    if (r == 0 && broken)
        r = send_event(c, MONITOR_EVENT_DEVICE_BROKEN, broken);
    if (r == 0 && vcpus_take_end(c->m, &event, text)) {
        r = send_event(c, event, text);
        machine_pause(c->m); /* last: a vCPU that waits for memory nobody brings is not parked */
    }
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
