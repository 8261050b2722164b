/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the processes of a machine. All sockets are made here and inherited; QEMU and
 * tinderbox-net open no socket by name. The guest channel is a listening socket in the machine
 * directory, reached through /proc/self/fd because sun_path ends at 108 bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/fds.h"
#include "engine/qemu/machine.h"
#include "engine/qemu/spawn.h"

struct plumbing { /* the children's ends; closed here once they are started */
    int qmp, agent, console, err, net_vm, net_helper, info_read, info_write, preload;
};

static void plumbing_done(struct plumbing *p)
{
    int *const all[] = {&p->qmp,        &p->agent,     &p->console,    &p->err,    &p->net_vm,
                        &p->net_helper, &p->info_read, &p->info_write, &p->preload};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        cleanup_close(all[i]);
}

void channel_address(int dir_fd, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/agent.sock", dir_fd);
}

static int listen_channel(int dir_fd)
{
    struct sockaddr_un a;
    channel_address(dir_fd, &a);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    unlinkat(dir_fd, "agent.sock", 0); /* of an earlier life of this directory */
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

static int make_plumbing(struct machine *m, struct plumbing *p, struct err *e)
{
    int pipe_fd[2];
    int r = fds_pair(SOCK_STREAM, &m->on_qmp.fd, &p->qmp);
    if (r == 0)
        r = life_open_console(&m->life, &p->console);
    if (r == 0)
        r = life_open_stderr(&m->life, &p->err);
    if (r == 0 && m->args.network)
        r = fds_pair(SOCK_STREAM, &p->net_helper, &p->net_vm);
    if (r == 0 && (r = pipe2(pipe_fd, O_CLOEXEC) < 0 ? -errno : 0) == 0) {
        p->info_read = pipe_fd[0];
        p->info_write = pipe_fd[1];
    }
    if (r == 0 && m->args.memory == QEMU_MEMORY_PRIVATE)
        r = p->preload = fds_memory("preload", qemu_preload, qemu_preload_size);
    if (r >= 0)
        r = p->agent = listen_channel(m->life.dir_fd);
    return r < 0 ? err_set_errno(e, -r, "sockets of machine %s", m->life.id) : 0;
}

static void add_fd(struct proc_spec *s, int parent, int child)
{
    if (parent >= 0)
        s->fds[s->n_fds++] = (struct proc_fd){parent, child};
}

static int spawn_vmm(struct machine *m, struct plumbing *p, int state_fd, struct err *e)
{
    struct argv a = {0};
    qemu_args_build(&a, &m->args);
    struct proc_spec s = {.argv = argv_end(&a, e)};
    add_fd(&s, p->err, 1);
    add_fd(&s, p->err, 2);
    add_fd(&s, p->qmp, QEMU_FD_QMP);
    add_fd(&s, p->agent, QEMU_FD_AGENT);
    add_fd(&s, p->console, QEMU_FD_CONSOLE);
    add_fd(&s, p->net_vm, QEMU_FD_NET);
    add_fd(&s, state_fd, QEMU_FD_STATE);
    if (m->args.sandboxed) {
        add_fd(&s, p->info_write, QEMU_FD_INFO);
        add_fd(&s, p->preload, QEMU_FD_PRELOAD);
    }
    int r = s.argv ? proc_spawn(&s, &m->life.vmm, e) : -ENOMEM;
    argv_done(&a);
    return r;
}

static int watch_all(struct machine *m, struct err *e)
{
    m->on_retry.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (m->on_retry.fd < 0)
        return err_set_errno(e, errno, "timer");
    struct watch *const ours[] = {&m->on_qmp, &m->on_retry};
    return life_start(&m->life, ours, ARRAY_LEN(ours), e);
}

/* {"child-pid": N}; written before the program starts. */
static int read_child_pid(int fd, int timeout_ms, pid_t *ret)
{
    char text[256] = "";
    size_t n = 0;
    int64_t deadline = clock_mono_ms() + timeout_ms;
    while (n < sizeof text - 1 && !memchr(text, '}', n)) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - clock_mono_ms();
        if (poll(&pfd, 1, left < 0 ? 0 : (int)left) <= 0)
            return -ETIMEDOUT;
        ssize_t k = read(fd, text + n, sizeof text - 1 - n);
        if (k <= 0)
            return -EPIPE;
        n += (size_t)k;
    }
    text[n] = '\0';
    const char *at = strchr(text, ':');
    long pid = at ? strtol(at + 1, NULL, 10) : 0;
    if (pid <= 1)
        return -EPROTO;
    *ret = (pid_t)pid;
    return 0;
}

static uint64_t largest_disk(const struct machine *m)
{
    uint64_t max = (uint64_t)m->args.memory_mib << 20;
    for (unsigned i = 0; i < m->args.n_disks; i++)
        if (m->disks[i].bytes > max)
            max = m->disks[i].bytes;
    return max;
}

/* What holds without cgroups: a guest that owns its QEMU cannot dump core into our directories,
 * grow a file past what its disks need (a full overlay has 1/1000 of tables), take memory without
 * end, or open many files. */
static void limit_process(const struct machine *m, pid_t pid)
{
    uint64_t file = largest_disk(m) + largest_disk(m) / 64 + (UINT64_C(256) << 20);
    /* Guest memory, translation cache, heap, and the stacks of up to 64 threads of disk work. */
    uint64_t data = ((uint64_t)m->args.memory_mib << 20) + (UINT64_C(1536) << 20);
    const struct {
        enum __rlimit_resource what;
        rlim_t max;
    } limits[] = {
        {RLIMIT_CORE, 0},     {RLIMIT_FSIZE, file}, {RLIMIT_DATA, data},
        {RLIMIT_NOFILE, 512}, {RLIMIT_MEMLOCK, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit l = {limits[i].max, limits[i].max};
        (void)prlimit(pid, limits[i].what, &l, NULL); /* a second line of defence only */
    }
}

static int learn_pid(struct machine *m, struct plumbing *p, struct err *e)
{
    pid_t pid = m->life.vmm.pid;
    if (m->args.sandboxed) {
        cleanup_close(&p->info_write);
        p->info_write = -1;
        int r = read_child_pid(p->info_read, 10000, &pid);
        if (r < 0)
            return r == -ETIMEDOUT ? err_set(e, ETIMEDOUT,
                                             "the sandbox of machine %s does not start", m->life.id)
                                   : life_gone(&m->life, e);
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return errno == ESRCH ? life_gone(&m->life, e) : err_set_errno(e, errno, "pidfd");
    limit_process(m, pid);
    pthread_mutex_lock(&m->life.lock);
    m->life.pid = pid;
    m->life.inner_pidfd = fd;
    pthread_mutex_unlock(&m->life.lock);
    return 0;
}

int machine_spawn(struct machine *m, const struct net_policy *policy, int state_fd, struct err *e)
{
    struct plumbing p = {-1, -1, -1, -1, -1, -1, -1, -1, -1};
    int r = make_plumbing(m, &p, e);
    if (r == 0 && m->args.network)
        r = life_start_net(&m->life, m->base.en->helper_dir, policy, p.net_helper, p.err, e);
    if (r == 0)
        r = spawn_vmm(m, &p, state_fd, e);
    if (r < 0) {
        proc_kill(&m->life.net);
        goto end;
    }
    r = watch_all(m, e);
    int *const theirs[] = {&p.qmp, &p.agent, &p.console, &p.err, &p.net_vm, &p.net_helper};
    for (size_t i = 0; i < ARRAY_LEN(theirs); i++) {
        cleanup_close(theirs[i]);
        *theirs[i] = -1;
    }
    if (r == 0)
        r = learn_pid(m, &p, e);
end:
    plumbing_done(&p);
    return r;
}
