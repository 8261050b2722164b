/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kvm/process.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/fds.h"

enum { CREATE_TIMEOUT_MS = 20000 };

void vmm_process_init(struct vmm_process *p)
{
    *p = (struct vmm_process){.proc.pidfd = -1, .control = -1, .err = -1, .err_theirs = -1};
}

int vmm_process_spawn(const struct vmm_program *p, struct vmm_process *ret, struct err *e)
{
    static const char *const env[] = {"PATH=/usr/bin", "LANG=C", NULL};
    const char *argv[] = {p->path, NULL};
    CLEANUP(cleanup_close)
    int theirs = -1;
    vmm_process_init(ret);
    int r = fds_pair(SOCK_SEQPACKET, &ret->control, &theirs);
    if (r == 0)
        r = fds_pair(SOCK_STREAM, &ret->err, &ret->err_theirs);
    if (r < 0) {
        err_set_errno(e, -r, "sockets of a monitor");
    } else {
        struct proc_spec s = {
            .argv = argv,
            .env = env,
            .cwd = "/",
            .fds = {{ret->err_theirs, 1}, {ret->err_theirs, 2}, {theirs, 3}, {p->kvm, 4}},
            .n_fds = 4,
            .new_session = true,
        };
        r = proc_spawn(&s, &ret->proc, e);
    }
    if (r < 0)
        vmm_process_kill(ret);
    return r;
}

void vmm_create_message(const struct vmm_shape *s, struct monitor_message *ret)
{
    *ret = (struct monitor_message){
        .protocol = MONITOR_PROTOCOL,
        .type = MONITOR_CREATE,
        .create = {.memory_bytes = (uint64_t)s->memory_mib << 20,
                   .vcpus = s->vcpus,
                   .flags = MONITOR_BALLOON_DEVICE | (s->network ? MONITOR_NET_DEVICE : 0) |
                            (s->huge_pages ? MONITOR_HUGE_PAGES : 0) |
                            (s->chunked ? MONITOR_CHUNKED : 0),
                   .n_disks = s->n_disks},
    };
}

static int receive_within(int sock, struct monitor_message *m, int timeout_ms)
{
    int fds[MONITOR_FDS_MAX];
    int64_t deadline = clock_mono_ms() + timeout_ms;
    for (;;) {
        int r = monitor_receive(sock, m, fds);
        for (uint32_t i = 0; r == 0 && i < m->n_fds; i++)
            close(fds[i]); /* of a request, which is not for us */
        if (r != -EAGAIN)
            return r;
        struct pollfd p = {.fd = sock, .events = POLLIN};
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
            return -ETIMEDOUT;
    }
}

/* What it printed, for who is told that it did not work. */
static int failed(struct vmm_process *p, int r, struct err *e)
{
    char said[200];
    ssize_t n = recv(p->err, said, sizeof said - 1, MSG_DONTWAIT);
    said[n > 0 ? n : 0] = '\0';
    return err_set(e, -r, "tinderbox-vmm %s%s%s",
                   r == -ETIMEDOUT ? "does not answer" : "ended or broke its protocol",
                   n > 0 ? ": " : "", said);
}

int vmm_process_create(struct vmm_process *p, const struct vmm_shape *s, struct err *e)
{
    struct monitor_message m;
    vmm_create_message(s, &m);
    m.sequence = 1;
    int r = monitor_send(p->control, &m, NULL);
    if (r == 0)
        r = receive_within(p->control, &m, CREATE_TIMEOUT_MS);
    if (r == 0 && (m.type != MONITOR_ANSWER || m.sequence != 1 ||
                   m.answer.request != MONITOR_CREATE || m.answer.code > 0))
        r = -EPROTO;
    if (r < 0)
        return failed(p, r, e);
    return m.answer.code < 0 ? err_set(e, -m.answer.code, "%s", m.answer.text) : 0;
}

bool vmm_process_alive(const struct vmm_process *p)
{
    struct pollfd end = {.fd = p->proc.pidfd, .events = POLLIN};
    return p->proc.pidfd >= 0 && poll(&end, 1, 0) == 0;
}

void vmm_process_kill(struct vmm_process *p)
{
    proc_kill(&p->proc);
    cleanup_close(&p->control);
    cleanup_close(&p->err);
    cleanup_close(&p->err_theirs);
    vmm_process_init(p);
}

bool vmm_shape_same(const struct vmm_shape *a, const struct vmm_shape *b)
{
    return a->memory_mib == b->memory_mib && a->vcpus == b->vcpus && a->n_disks == b->n_disks &&
           a->network == b->network && a->huge_pages == b->huge_pages && a->chunked == b->chunked;
}
