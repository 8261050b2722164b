/* SPDX-License-Identifier: Apache-2.0 */
/* START, WAIT and LOGS. */
#include "guest/app.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "guest/devices.h"
#include "guest/guest.h"
#include "proto/wire.h"

#define APP_CGROUP GUEST_CGROUP "/app"

struct waiter {
    struct waiter *next;
    struct guest *g;
    struct stream *st;
};

json_t *app_exit_json(int status, int *exit_code, int *exit_signal)
{
    *exit_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    *exit_code = *exit_signal ? 128 + *exit_signal : WEXITSTATUS(status);
    return json_pack("{s:i, s:i}", "exitCode", *exit_code, "signal", *exit_signal);
}

static struct guest *guest_of(struct app *a)
{
    return CONTAINER_OF(a, struct guest, app);
}

static void send_logs(struct app *a)
{
    struct stream *st = a->logs;
    if (!st)
        return;
    char part[LOGRING_CHUNK];
    uint64_t lost = logring_dropped(&a->ring);
    if (lost) {
        int n = snprintf(part, sizeof part, "[tinderbox: %llu bytes of output were dropped]\n",
                         (unsigned long long)lost);
        stream_frame(st, WIRE_FRAME_STDERR, part, (size_t)n);
    }
    int fd;
    size_t n;
    while (!stream_is_full(st) && (n = logring_take(&a->ring, &fd, part)) > 0)
        stream_frame(st, fd == 1 ? WIRE_FRAME_STDOUT : WIRE_FRAME_STDERR, part, n);
    bool open = a->out[0].io.fd >= 0 || a->out[1].io.fd >= 0;
    if (a->state == APP_ENDED && !open && a->ring.used == 0 && !st->out_end)
        stream_send_end(st);
}

static void logs_drained(struct stream *st)
{
    send_logs(st->ctx);
}

static void logs_closed(struct stream *st)
{
    struct app *a = st->ctx;
    if (a->logs == st)
        a->logs = NULL;
}

static const struct stream_ops LOGS_OPS = {.drained = logs_drained, .closed = logs_closed};

void guest_logs(struct guest *g, struct stream *st)
{
    struct app *a = &g->app;
    if (a->logs)
        stream_reset(a->logs); /* the newer reader is the one that is alive */
    stream_answer(st, 200);
    st->ops = &LOGS_OPS;
    st->ctx = a;
    a->logs = st;
    send_logs(a);
}

static void on_output(struct ev_io *io, uint32_t events UNUSED)
{
    struct app_pipe *p = CONTAINER_OF(io, struct app_pipe, io);
    static char chunk[65536];
    ssize_t n = read(io->fd, chunk, sizeof chunk);
    if (n > 0)
        logring_put(&p->app->ring, p->fd_number, chunk, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        ev_io_close(guest_of(p->app)->ev, io);
    send_logs(p->app);
}

static void wait_closed(struct stream *st)
{
    struct waiter *w = st->ctx;
    struct waiter **p = &w->g->app.waiters;
    while (*p && *p != w)
        p = &(*p)->next;
    if (*p)
        *p = w->next;
    free(w);
}

static const struct stream_ops WAIT_OPS = {.closed = wait_closed};

static json_t *exit_json(const struct app *a)
{
    return json_pack("{s:i, s:i}", "exitCode", a->exit_code, "signal", a->exit_signal);
}

void guest_wait(struct guest *g, struct stream *st, const json_t *body UNUSED)
{
    if (g->app.state == APP_NONE) {
        stream_error(st, 409, "no application was started");
        return;
    }
    if (g->app.state == APP_ENDED) {
        stream_json(st, 200, exit_json(&g->app));
        return;
    }
    struct waiter *w = calloc(1, sizeof *w);
    if (!w) {
        stream_error(st, 500, "out of memory");
        return;
    }
    *w = (struct waiter){.next = g->app.waiters, .g = g, .st = st};
    g->app.waiters = w;
    st->ops = &WAIT_OPS;
    st->ctx = w;
}

static void on_exit_status(struct launched *l, int status)
{
    struct app *a = CONTAINER_OF(l, struct app, proc);
    json_decref(app_exit_json(status, &a->exit_code, &a->exit_signal));
    a->state = APP_ENDED;
    a->pid = 0;
    log_info("agent", "the application ended: exit code %d", a->exit_code);
    for (struct waiter *w = a->waiters; w; w = w->next)
        stream_json(w->st, 200, exit_json(a));
    a->waiters = NULL; /* the streams free their own */
    send_logs(a);
}

static void on_started(struct launched *l, const char *error)
{
    struct app *a = CONTAINER_OF(l, struct app, proc);
    a->state = error ? APP_NONE : APP_RUNNING;
    a->pid = l->pid;
    struct stream *st = TAKE(a->starting);
    if (error)
        launch_forget(l);
    if (!st)
        return;
    st->ops = NULL; /* nothing of ours is left on it */
    if (error)
        stream_error(st, 400, "cannot start the application: %s", error);
    else
        stream_json(st, 200, json_object());
}

static void starting_closed(struct stream *st)
{
    struct app *a = st->ctx;
    if (a->starting == st)
        a->starting = NULL;
}

static const struct stream_ops STARTING_OPS = {.closed = starting_closed};

static int open_pipes(struct app *a, int fds[3], struct err *e)
{
    fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fds[0] < 0)
        return err_set_errno(e, errno, "cannot open /dev/null");
    for (int i = 0; i < 2; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0)
            return err_set_errno(e, errno, "cannot make a pipe");
        fds[i + 1] = pair[1];
        (void)fcntl(pair[0], F_SETFL, O_NONBLOCK); /* our end only */
        a->out[i] =
            (struct app_pipe){.io = {.fn = on_output, .fd = pair[0]}, .app = a, .fd_number = i + 1};
        if (ev_io_set(guest_of(a)->ev, &a->out[i].io, EPOLLIN) < 0)
            return err_set(e, ENOMEM, "cannot watch a pipe");
    }
    return 0;
}

static char *copy_or_null(const char *s)
{
    char *copy = s ? strdup(s) : NULL;
    if (s && !copy)
        abort();
    return copy;
}

static void remember(struct app *a, const struct launch *l)
{
    free(a->env);
    free(a->cwd);
    free(a->user);
    a->env = launch_copy_list(l->env);
    a->cwd = copy_or_null(l->cwd);
    a->user = copy_or_null(l->user);
    a->all_caps = l->all_caps;
}

static int start(struct guest *g, const json_t *spec, struct err *e)
{
    struct app *a = &g->app;
    const char *caps = json_get_str(spec, "capabilities");
    struct launch l = {.where = g->no_container ? LAUNCH_HERE : LAUNCH_NEW,
                       .root = GUEST_APP_ROOT,
                       .hostname = g->hostname,
                       .make_cwd = true,
                       .all_caps = caps && strcmp(caps, "all") == 0};
    int fds[3] = {-1, -1, -1};
    int r = launch_parse(&l, spec, NULL, e);
    l.tty = false;
    if (r == 0 && !g->no_container) {
        r = devices_make_cgroup(APP_CGROUP, l.all_caps, e);
        l.cgroup = APP_CGROUP;
    }
    if (r == 0)
        r = open_pipes(a, fds, e);
    if (r == 0) {
        memcpy(l.fds, fds, sizeof fds);
        a->proc.on_started = on_started;
        a->proc.on_exit = on_exit_status;
        r = launch_start(g->ev, &l, &a->proc, e);
    }
    if (r == 0)
        remember(a, &l);
    for (int i = 0; i < 3; i++)
        cleanup_close(&fds[i]);
    launch_done(&l);
    return r;
}

void guest_start(struct guest *g, struct stream *st, const json_t *body)
{
    struct app *a = &g->app;
    struct err e = {0};
    if (a->state != APP_NONE) {
        stream_error(st, 409, "the application was started already");
        return;
    }
    if (!g->booted && !g->no_container) {
        stream_error(st, 409, "the root disk is not mounted yet");
        return;
    }
    for (int i = 0; i < 2; i++) /* of a start that failed */
        if (a->out[i].app)
            ev_io_close(g->ev, &a->out[i].io);
    if (start(g, body, &e) < 0) {
        stream_error(st, e.code == EINVAL ? 400 : 500, "cannot start the application: %s", e.text);
        return;
    }
    a->state = APP_STARTING;
    a->starting = st;
    st->ops = &STARTING_OPS;
    st->ctx = a;
}
