/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/guest.h"
#include "guest/rootfs.h"

#define NEW_NAMESPACES (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
#define SAY_MAX 4096

enum say { SAY_PID = 'P', SAY_TTY = 'T', SAY_MADE = 'M', SAY_ERROR = 'E' };

void launch_say(int sock, char kind, const void *p, size_t n, int fd)
{
    char text[SAY_MAX] = {kind};
    if (n > sizeof text - 1)
        n = sizeof text - 1;
    if (n)
        memcpy(text + 1, p, n);
    struct iovec iov = {text, n + 1};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    (void)sendmsg(sock, &m, MSG_NOSIGNAL); /* the agent is gone: so are we */
}

/* fork() with namespaces; the child goes on with a copy of the stack. Where fork() will do it is
 * used: it keeps the library's (and a sanitizer's) locks in order. */
static pid_t fork_with(unsigned long flags)
{
    if (flags == 0)
        return fork();
    return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int enter_cgroup(const char *dir, struct err *e)
{
    if (!dir)
        return 0;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/cgroup.procs", dir);
    CLEANUP(cleanup_close)
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        return err_set_errno(e, errno, "cannot join %s", dir);
    return 0;
}

/* A container that may has divided its cgroup: then no process can be at its top any more (EBUSY,
 * cgroup v2's rule), and a new one goes where the application's first process is, as in runc. */
static int enter_cgroup_of(pid_t pid, const char *dir, struct err *e)
{
    int r = enter_cgroup(dir, e);
    if (r != -EBUSY)
        return r;
    char path[64], where[PATH_MAX];
    struct buf b = BUF_INIT(65536);
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    r = fs_read_file(path, &b, e);
    const char *at = r < 0 ? NULL : strstr(b.data, "0::/");
    if (at)
        snprintf(where, sizeof where, GUEST_CGROUP "%.*s", (int)strcspn(at + 3, "\n"), at + 3);
    buf_done(&b);
    return at ? enter_cgroup(where, e) : err_set(e, ESRCH, "the application is not running");
}

static int enter_new(const struct launch *l, int sock, struct err *e)
{
    int r = enter_cgroup(l->cgroup, e);
    if (r < 0)
        return r;
    if (unshare(CLONE_NEWCGROUP) < 0)
        return err_set_errno(e, errno, "cannot make a cgroup namespace");
    r = rootfs_enter(l, sock, e);
    if (r < 0)
        return r;
    if (l->hostname && sethostname(l->hostname, strlen(l->hostname)) < 0)
        return err_set_errno(e, errno, "cannot set the host name");
    return 0;
}

/*
 * A pid namespace applies to children, so the command is a child once more: CLONE_PARENT makes it
 * the agent's own, and it waits until the agent knows its number. Not dumpable from the moment it
 * shares namespaces with the application: nothing there may look into our memory.
 */
static int enter_join(const struct launch *l, int sock, struct err *e)
{
    prctl(PR_SET_DUMPABLE, 0);
    CLEANUP(cleanup_close)
    int pidfd = (int)syscall(SYS_pidfd_open, l->join_pid, 0);
    if (pidfd < 0)
        return err_set(e, ESRCH, "the application is not running");
    int r = enter_cgroup_of(l->join_pid, l->cgroup, e);
    if (r < 0)
        return r;
    if (setns(pidfd, NEW_NAMESPACES | CLONE_NEWCGROUP) < 0)
        return err_set(e, ESRCH, "the application is not running");
    pid_t pid = fork_with(CLONE_PARENT);
    if (pid < 0)
        return err_set_errno(e, errno, "cannot fork");
    if (pid > 0) {
        launch_say(sock, SAY_PID, &pid, sizeof pid, -1);
        _exit(0);
    }
    char go;
    if (recv(sock, &go, 1, 0) != 1)
        _exit(127);
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child(const struct launch *l, int sock)
{
    struct err e = {0};
    reset_signals();
    int r = 0;
    if (l->where == LAUNCH_NEW)
        r = enter_new(l, sock, &e);
    else if (l->where == LAUNCH_JOIN)
        r = enter_join(l, sock, &e);
    if (r == 0)
        (void)launch_exec(l, sock, &e); /* only returns with an error set */
    launch_say(sock, SAY_ERROR, e.text, strlen(e.text), -1);
    _exit(127);
}

static void finish(struct launched *l, const char *error)
{
    l->started = true;
    ev_io_close(l->ev, &l->sock);
    if (error) {
        ev_child_forget(l->ev, &l->child);
        l->pid = 0;
        l->on_started(l, error);
        return;
    }
    l->on_started(l, NULL);
    if (l->exited)
        l->on_exit(l, l->status);
}

static void on_child(struct ev_child *c, int status)
{
    struct launched *l = CONTAINER_OF(c, struct launched, child);
    l->pid = 0;
    l->exited = true;
    l->status = status;
    if (l->started)
        l->on_exit(l, status);
}

static int take_fd(struct msghdr *m)
{
    int fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static void heard(struct launched *l, const char *text, size_t n, int fd)
{
    pid_t pid;
    switch (text[0]) {
    case SAY_PID:
        if (n != 1 + sizeof pid)
            break;
        memcpy(&pid, text + 1, sizeof pid);
        l->pid = pid;
        ev_child_watch(l->ev, &l->child, pid);
        if (kill(pid, 0) < 0) { /* the container ended, and it is reaped already */
            ev_child_forget(l->ev, &l->child);
            on_child(&l->child, SIGKILL);
            break;
        }
        (void)send(l->sock.fd, "G", 1, MSG_NOSIGNAL);
        break;
    case SAY_TTY:
        if (l->tty_master < 0 && fd >= 0) {
            l->tty_master = fd;
            return;
        }
        break;
    case SAY_MADE:
        if (buf_add(&l->made, text + 1, n - 1) == 0 && buf_add(&l->made, "", 1) < 0)
            buf_clear(&l->made);
        break;
    case SAY_ERROR:
        snprintf(l->error, sizeof l->error, "%.*s", (int)(n - 1), text + 1);
        break;
    }
    if (fd >= 0)
        close(fd);
}

static void on_sock(struct ev_io *io, uint32_t events UNUSED)
{
    struct launched *l = CONTAINER_OF(io, struct launched, sock);
    char text[SAY_MAX];
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {text, sizeof text};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.room,
                       .msg_controllen = sizeof control.room};
    ssize_t n = recvmsg(io->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n > 0) {
        heard(l, text, (size_t)n, take_fd(&m));
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (!l->error[0] && !l->pid && !l->exited)
        snprintf(l->error, sizeof l->error, "the new process ended before it could start");
    finish(l, l->error[0] ? l->error : NULL);
}

int launch_start(struct ev *ev, const struct launch *l, struct launched *out, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set_errno(e, errno, "cannot make a socket pair");
    pid_t pid = fork_with(l->where == LAUNCH_NEW ? NEW_NAMESPACES : 0);
    if (pid == 0) {
        close(pair[0]);
        child(l, pair[1]);
    }
    int code = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_set_errno(e, code, "cannot start a process");
    }
    out->ev = ev;
    out->tty_master = -1;
    out->made = BUF_INIT(65536);
    out->sock = (struct ev_io){.fn = on_sock, .fd = pair[0]};
    out->child = (struct ev_child){.fn = on_child};
    out->pid = 0;
    out->started = out->exited = false;
    out->error[0] = '\0';
    if (l->where != LAUNCH_JOIN) {
        out->pid = pid;
        ev_child_watch(ev, &out->child, pid);
    }
    if (ev_io_set(ev, &out->sock, EPOLLIN) < 0) {
        kill(pid, SIGKILL);
        launch_forget(out);
        return err_set(e, ENOMEM, "cannot watch a new process");
    }
    return 0;
}

void launch_signal(const struct launched *l, int signo)
{
    /* Right after the fork the process may not lead its group yet. */
    if (l->pid > 0 && kill(-l->pid, signo) < 0)
        kill(l->pid, signo);
}

void launch_forget(struct launched *l)
{
    if (!l->ev)
        return;
    ev_io_close(l->ev, &l->sock);
    ev_child_forget(l->ev, &l->child);
    if (l->tty_master >= 0)
        close(l->tty_master);
    l->tty_master = -1;
    buf_done(&l->made);
    l->ev = NULL;
}
