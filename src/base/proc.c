/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: callers queue a request to the spawner thread and wait. The spawner forks;
 * the child arranges descriptors, asks to die with the spawner, and execs. An exec failure comes
 * back as an errno over a close-on-exec pipe, so that proc_spawn() reports it as its own error.
 * Between fork and exec only async-signal-safe calls are made: other threads may hold any lock.
 */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"

struct request {
    const struct proc_spec *spec;
    struct proc *ret;
    struct err *err;
    int result;
    bool done;
    struct request *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static struct request *queue; /* guarded by lock */
static bool started;          /* guarded by lock */

static void fail_child(int report)
{
    int code = errno;
    if (write(report, &code, sizeof code) < 0)
        _exit(126);
    _exit(127);
}

/* Moves every descriptor out of the way first, so that no target number overwrites a source that
 * is still needed. */
static int arrange_fds(const struct proc_spec *s, int *report)
{
    enum { PARK = 64 };
    int parked[PROC_FDS_MAX], r = fcntl(*report, F_DUPFD_CLOEXEC, PARK);
    if (r < 0)
        return -1;
    *report = r;
    for (size_t i = 0; i < s->n_fds; i++)
        if ((parked[i] = fcntl(s->fds[i].parent, F_DUPFD_CLOEXEC, PARK)) < 0)
            return -1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        if (null < 0 || dup2(null, fd) < 0)
            return -1;
    for (size_t i = 0; i < s->n_fds; i++)
        if (dup2(parked[i], s->fds[i].child) < 0)
            return -1;
    for (int fd = 3; fd < PARK; fd++) {
        bool keep = false;
        for (size_t i = 0; i < s->n_fds; i++)
            keep |= s->fds[i].child == fd;
        if (!keep)
            close(fd);
    }
    /* CLOSE_RANGE_CLOEXEC: the report pipe must survive until exec. */
    return (int)syscall(SYS_close_range, PARK, ~0U, 4U);
}

static void child_main(const struct proc_spec *s, int report, pid_t parent)
{
    if (arrange_fds(s, &report) < 0)
        fail_child(report);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        fail_child(report);
    if (getppid() != parent) /* the parent died before the request above took hold */
        _exit(127);
    if (s->new_session)
        setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (s->cwd && chdir(s->cwd) < 0)
        fail_child(report);
    extern char **environ;
    if (s->env)
        environ = (char **)(uintptr_t)s->env;
    execvp(s->argv[0], (char *const *)(uintptr_t)s->argv);
    fail_child(report);
}

static int spawn_here(const struct proc_spec *s, struct proc *ret, struct err *e)
{
    int report[2], code = 0;
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_set_errno(e, errno, "pipe");
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_main(s, report[1], parent);
    int saved = errno;
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return err_set_errno(e, saved, "fork for %s", s->argv[0]);
    }
    ssize_t n;
    while ((n = read(report[0], &code, sizeof code)) < 0 && errno == EINTR)
        ;
    close(report[0]);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (n > 0 || pidfd < 0) {
        if (n <= 0) {
            code = errno;
            kill(pid, SIGKILL);
        }
        waitpid(pid, NULL, 0);
        if (pidfd >= 0)
            close(pidfd);
        return err_set_errno(e, code, "start %s", s->argv[0]);
    }
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    *ret = (struct proc){.pid = pid, .pidfd = pidfd, .session = s->new_session};
    return 0;
}

static void *spawner_main(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!queue)
            pthread_cond_wait(&work, &lock);
        struct request *r = queue;
        queue = r->next;
        pthread_mutex_unlock(&lock);
        int result = spawn_here(r->spec, r->ret, r->err);
        pthread_mutex_lock(&lock);
        r->result = result;
        r->done = true;
        pthread_cond_broadcast(&finished);
    }
    return NULL;
}

static int start_spawner(void)
{
    if (started)
        return 0;
    pthread_t t;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&t, NULL, spawner_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r == 0) {
        pthread_detach(t);
        started = true;
    }
    return -r;
}

int proc_spawn(const struct proc_spec *s, struct proc *ret, struct err *e)
{
    struct request r = {.spec = s, .ret = ret, .err = e};
    pthread_mutex_lock(&lock);
    int k = start_spawner();
    if (k < 0) {
        pthread_mutex_unlock(&lock);
        return err_set_errno(e, -k, "spawner thread");
    }
    struct request **tail = &queue;
    while (*tail)
        tail = &(*tail)->next;
    *tail = &r;
    pthread_cond_signal(&work);
    while (!r.done)
        pthread_cond_wait(&finished, &lock);
    pthread_mutex_unlock(&lock);
    return r.result;
}

int proc_wait(struct proc *p, int timeout_ms, struct proc_exit *ret)
{
    struct pollfd pfd = {.fd = p->pidfd, .events = POLLIN};
    int64_t deadline = clock_mono_ms() + timeout_ms;
    int n;
    do {
        int left = timeout_ms < 0 ? -1 : (int)(deadline - clock_mono_ms());
        n = poll(&pfd, 1, timeout_ms < 0 ? -1 : left < 0 ? 0 : left);
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        return -ETIMEDOUT;
    int status = 0;
    pid_t w;
    if (p->session) /* until it is reaped the number is nobody else's */
        kill(-p->pid, SIGKILL);
    while ((w = waitpid(p->pid, &status, 0)) < 0 && errno == EINTR)
        ;
    close(p->pidfd);
    p->pidfd = -1;
    *ret = (struct proc_exit){.code = 255};
    if (w == p->pid && WIFEXITED(status))
        ret->code = WEXITSTATUS(status);
    if (w == p->pid && WIFSIGNALED(status))
        *ret = (struct proc_exit){.signal = WTERMSIG(status)};
    return 0;
}

void proc_signal(const struct proc *p, int signo)
{
    if (p->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0);
}

void proc_kill(struct proc *p)
{
    if (p->pidfd < 0)
        return;
    proc_signal(p, SIGKILL);
    struct proc_exit ignored;
    if (proc_wait(p, -1, &ignored) < 0)
        return; /* cannot time out */
}

static int write_input(const char *input, int *ret_fd)
{
    int fd = (int)syscall(SYS_memfd_create, "stdin", 1U /* MFD_CLOEXEC */);
    if (fd < 0)
        return -errno;
    int r = fs_write_all(fd, input, strlen(input));
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r < 0)
        close(fd);
    else
        *ret_fd = fd;
    return r;
}

/* Reads both pipes until end of file or the deadline; stderr is kept as its last bytes only. */
static int collect(int out_fd, int err_fd, int64_t deadline, struct buf *out, struct buf *errors)
{
    struct pollfd pfd[2] = {{.fd = out_fd, .events = POLLIN}, {.fd = err_fd, .events = POLLIN}};
    while (pfd[0].fd >= 0 || pfd[1].fd >= 0) {
        int64_t left = deadline - clock_mono_ms();
        int n = poll(pfd, 2, left < 0 ? 0 : (int)left);
        if (n == 0)
            return -ETIMEDOUT;
        for (int i = 0; n > 0 && i < 2; i++) {
            char chunk[8192];
            if (pfd[i].fd < 0 || !pfd[i].revents)
                continue;
            ssize_t k = read(pfd[i].fd, chunk, sizeof chunk);
            if (k <= 0)
                pfd[i].fd = -1;
            else if (i == 0 && buf_add(out, chunk, (size_t)k) < 0)
                return -EMSGSIZE;
            else if (i == 1 && (errors->len < 65536 || (buf_clear(errors), true)) &&
                     buf_add(errors, chunk, (size_t)k) < 0)
                return -ENOMEM;
        }
    }
    return 0;
}

int proc_run(const char *const *argv, const char *input, int timeout_ms, struct buf *out,
             struct err *e)
{
    CLEANUP(cleanup_close) int in = -1;
    int o[2] = {-1, -1}, er[2] = {-1, -1};
    struct buf errors = BUF_INIT(0);
    struct proc p = {.pidfd = -1};
    int r = input ? write_input(input, &in) : 0;
    if (r < 0 || pipe2(o, O_CLOEXEC) < 0 || pipe2(er, O_CLOEXEC) < 0) {
        r = err_set_errno(e, r < 0 ? -r : errno, "pipes for %s", argv[0]);
        goto end;
    }
    struct proc_spec s = {.argv = argv};
    if (in >= 0)
        s.fds[s.n_fds++] = (struct proc_fd){in, 0};
    s.fds[s.n_fds++] = (struct proc_fd){o[1], 1};
    s.fds[s.n_fds++] = (struct proc_fd){er[1], 2};
    r = proc_spawn(&s, &p, e);
    close(o[1]);
    close(er[1]);
    o[1] = er[1] = -1;
    if (r < 0)
        goto end;
    int64_t deadline = clock_mono_ms() + timeout_ms;
    struct proc_exit x = {0};
    r = collect(o[0], er[0], deadline, out, &errors);
    if (r == 0)
        r = proc_wait(&p, (int)(deadline - clock_mono_ms()), &x);
    if (r < 0) {
        r = err_set_errno(e, -r, "%s", argv[0]);
    } else if (x.signal || x.code) {
        size_t skip = errors.len > 600 ? errors.len - 600 : 0;
        r = err_set(e, EIO, "%s %s %d: %s", argv[0], x.signal ? "ended by signal" : "exit status",
                    x.signal ? x.signal : x.code, errors.data ? errors.data + skip : "");
    }
end:
    proc_kill(&p);
    for (int i = 0; i < 2; i++) {
        if (o[i] >= 0)
            close(o[i]);
        if (er[i] >= 0)
            close(er[i]);
    }
    buf_done(&errors);
    return r;
}
