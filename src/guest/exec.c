/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EXEC, RUN and the archive program: one process with its input and output on a stream of frames.
 *
 * Input frames wait in the reader (at most the stream window: bytes are given back as they are
 * written to the process); output is read only while the stream has room. The end: the process has
 * exited and what it had written is read; children it left behind may keep the pipes open, nobody
 * waits for them. A stream that is reset takes its process group along.
 */
#include "guest/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/wire.h"

#define CHUNK 32768

static char chunk[CHUNK];

static void fail(struct exec *x, const char *code, const char *text);

static void arm(struct exec *x)
{
    bool room = x->st && !stream_is_full(x->st);
    for (int i = 0; i < 2; i++)
        if (x->out[i].fd >= 0 && ev_io_set(x->g->ev, &x->out[i], room ? EPOLLIN : 0) < 0)
            ev_io_close(x->g->ev, &x->out[i]);
    if (x->in.fd >= 0 && ev_io_set(x->g->ev, &x->in, x->to_in.len ? EPOLLOUT : 0) < 0)
        ev_io_close(x->g->ev, &x->in);
}

static void exec_free(struct exec *x)
{
    launch_signal(&x->proc, SIGKILL);
    launch_forget(&x->proc);
    for (int i = 0; i < 2; i++)
        ev_io_close(x->g->ev, &x->out[i]);
    ev_io_close(x->g->ev, &x->in);
    if (x->tty_fd >= 0)
        close(x->tty_fd);
    frame_reader_done(&x->reader);
    buf_done(&x->to_in);
    json_decref(x->spec);
    free(x);
}

/* The process and all that must follow it (clean-up of a build step) is over. */
void exec_finished(struct exec *x)
{
    if (x->st && !x->st->out_end && x->kind->give_exit) {
        int code, sig;
        stream_frame_json(x->st, WIRE_FRAME_EXIT, app_exit_json(x->status, &code, &sig));
        stream_send_end(x->st);
    }
    x->over = true;
    if (!x->st)
        exec_free(x);
}

static void maybe_done(struct exec *x)
{
    if (!x->exited || x->over || x->ending)
        return;
    if (x->st && (x->out[0].fd >= 0 || x->out[1].fd >= 0))
        return; /* output is still being read */
    x->ending = true;
    x->kind->ended(x);
}

/* One read; false when nothing more is there for now. */
static bool read_output(struct exec *x, int i)
{
    ssize_t n = read(x->out[i].fd, chunk, sizeof chunk);
    if (n > 0) {
        if (x->st)
            x->kind->output(x, i, chunk, (size_t)n);
        return true;
    }
    /* A terminal gives EIO when its last user has gone. After the exit, "empty" is the end too. */
    if (n == 0 || (errno != EAGAIN && errno != EINTR) || x->exited)
        ev_io_close(x->g->ev, &x->out[i]);
    return false;
}

static void drain_after_exit(struct exec *x)
{
    for (int i = 0; i < 2; i++)
        while (x->out[i].fd >= 0 && (!x->st || !stream_is_full(x->st)) && read_output(x, i))
            ;
    arm(x);
    maybe_done(x);
}

static void on_out(struct exec *x, int i)
{
    (void)read_output(x, i); /* level-triggered: the rest comes with the next event */
    arm(x);
    maybe_done(x);
}

static void on_out0(struct ev_io *io, uint32_t events UNUSED)
{
    on_out(CONTAINER_OF(io, struct exec, out[0]), 0);
}

static void on_out1(struct ev_io *io, uint32_t events UNUSED)
{
    on_out(CONTAINER_OF(io, struct exec, out[1]), 1);
}

static void close_input(struct exec *x)
{
    if (x->in.fd < 0)
        return;
    /* End of file, as typed on a terminal. */
    if (x->tty_fd >= 0 && write(x->in.fd, "\004", 1) < 0)
        return; /* no room: the next event tries again */
    ev_io_close(x->g->ev, &x->in);
}

static void flush_input(struct exec *x)
{
    while (x->to_in.len && x->in.fd >= 0) {
        ssize_t n = write(x->in.fd, x->to_in.data, x->to_in.len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n < 0) { /* the process does not read any more: not an error of the command */
            ev_io_close(x->g->ev, &x->in);
            break;
        }
        buf_consume(&x->to_in, (size_t)n);
        x->unconsumed -= (size_t)n;
        if (x->st)
            stream_consume(x->st, (size_t)n);
    }
    if (x->in.fd < 0 && x->started) {
        if (x->st)
            stream_consume(x->st, x->unconsumed);
        x->unconsumed = 0;
        buf_clear(&x->to_in);
    }
    if (x->to_in.len == 0 && x->in_ended)
        close_input(x);
    arm(x);
}

static void on_in(struct ev_io *io, uint32_t events)
{
    struct exec *x = CONTAINER_OF(io, struct exec, in);
    if (events & EPOLLERR && x->to_in.len == 0)
        ev_io_close(x->g->ev, io);
    flush_input(x);
}

static void control(struct exec *x, int type, struct slice p)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    if (json_parse(p.p, p.n, WIRE_MAX_FRAME_DATA, &v, NULL) < 0)
        return;
    if (type == WIRE_FRAME_SIGNAL) {
        int64_t sig = json_get_int(v, "signal", 0);
        if (sig > 0 && sig < 65)
            launch_signal(&x->proc, (int)sig);
    } else if (x->tty_fd >= 0) {
        struct winsize w = {.ws_col = (unsigned short)json_get_int(v, "cols", 80),
                            .ws_row = (unsigned short)json_get_int(v, "rows", 24)};
        (void)ioctl(x->tty_fd, TIOCSWINSZ, &w); /* only a terminal that is gone refuses */
    }
}

static void put_input(struct exec *x, const void *p, size_t n)
{
    x->unconsumed += n;
    if (x->in_ended || (x->started && x->in.fd < 0)) {
        stream_consume(x->st, n);
        x->unconsumed -= n;
    } else if (buf_add(&x->to_in, p, n) < 0) {
        stream_reset(x->st);
    }
}

/* A spec is the first frame, or (json_body) the whole request: no frame type is '{'. */
static void take_spec(struct exec *x, const char *p, size_t n)
{
    struct err e = {0};
    if (json_parse(p, n, WIRE_MAX_FRAME_DATA, &x->spec, &e) < 0)
        fail(x, "INVALID", e.text);
    else if (x->kind->begin(x, &e) < 0)
        fail(x, e.code == EINVAL || e.code == ESRCH ? "INVALID" : "INTERNAL", e.text);
}

static bool is_json_body(const struct exec *x, const char *p)
{
    return x->kind->json_body && !x->spec &&
           (x->st->body.len || (p[0] == '{' && frame_reader_left(&x->reader) == 0));
}

static void heard(struct exec *x, int type, struct slice p)
{
    stream_consume(x->st, WIRE_FRAME_HEADER);
    if (type == WIRE_FRAME_STDIN && x->spec) {
        put_input(x, p.p, p.n);
        return;
    }
    stream_consume(x->st, p.n);
    if (type == WIRE_FRAME_SPEC && !x->spec)
        take_spec(x, p.p, p.n);
    else if (type == WIRE_FRAME_STDIN_END)
        x->in_ended = true;
    else if (type == WIRE_FRAME_SIGNAL || type == WIRE_FRAME_RESIZE)
        control(x, type, p);
    else
        fail(x, "INVALID", "unexpected frame");
}

static void on_data(struct stream *st, const char *p, size_t n)
{
    struct exec *x = st->ctx;
    if (st->out_end || n == 0) {
        stream_consume(st, n);
        return;
    }
    if (is_json_body(x, p)) {
        stream_consume(st, n);
        st->body.max = WIRE_MAX_FRAME_DATA;
        if (buf_add(&st->body, p, n) < 0)
            fail(x, "INVALID", "the request is too large");
        return;
    }
    int type, r = frame_reader_add(&x->reader, p, n);
    struct slice payload;
    while (r >= 0 && !st->out_end && (r = frame_reader_next(&x->reader, &type, &payload)) == 1)
        heard(x, type, payload);
    if (r < 0)
        stream_reset(st);
    else if (x->started)
        flush_input(x);
}

static void on_end(struct stream *st)
{
    struct exec *x = st->ctx;
    x->in_ended = true;
    if (st->body.len && !x->spec && !st->out_end)
        take_spec(x, st->body.data, st->body.len);
    if (x->started)
        flush_input(x);
    else if (!x->spec && !st->out_end)
        fail(x, "INVALID", "the stream ended before a command came");
}

static void on_drained(struct stream *st)
{
    struct exec *x = st->ctx;
    if (x->exited)
        drain_after_exit(x);
    else
        arm(x);
}

static void on_closed(struct stream *st)
{
    struct exec *x = st->ctx;
    x->st = NULL;
    st->ctx = NULL;
    if (x->over || !x->launched) {
        exec_free(x);
        return;
    }
    launch_signal(&x->proc, SIGKILL);
    if (x->exited)
        maybe_done(x);
}

static const struct stream_ops EXEC_OPS = {
    .data = on_data, .end = on_end, .drained = on_drained, .closed = on_closed};

static void fail(struct exec *x, const char *code, const char *text)
{
    if (x->st && !x->st->out_end)
        stream_frame_error(x->st, code, text);
}

void exec_fail(struct exec *x, const char *code, const char *text)
{
    fail(x, code, text);
}

static void on_started(struct launched *l, const char *error)
{
    struct exec *x = CONTAINER_OF(l, struct exec, proc);
    x->started = true;
    if (error) {
        fail(x, "INVALID", error);
        x->exited = x->failed = true;
        x->ending = true;
        x->kind->ended(x);
        return;
    }
    if (l->tty_master >= 0) {
        x->tty_fd = l->tty_master;
        l->tty_master = -1;
        (void)fcntl(x->tty_fd, F_SETFL, O_NONBLOCK);
        x->out[0].fd = fcntl(x->tty_fd, F_DUPFD_CLOEXEC, 3);
        x->in.fd = fcntl(x->tty_fd, F_DUPFD_CLOEXEC, 3);
    }
    if (!x->st) { /* the host left while it was starting */
        launch_signal(l, SIGKILL);
        return;
    }
    flush_input(x);
}

static void on_exit_status(struct launched *l, int status)
{
    struct exec *x = CONTAINER_OF(l, struct exec, proc);
    x->exited = true;
    x->status = status;
    drain_after_exit(x);
}

static int make_pipe(struct ev_io *ours, int *theirs, int our_end)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return -errno;
    ours->fd = pair[our_end];
    *theirs = pair[!our_end];
    (void)fcntl(ours->fd, F_SETFL, O_NONBLOCK);
    return 0;
}

int exec_launch(struct exec *x, struct launch *l, struct err *e)
{
    int theirs[3] = {-1, -1, -1};
    int r = 0;
    if (!l->tty) {
        r = make_pipe(&x->in, &theirs[0], 1);
        if (r == 0)
            r = make_pipe(&x->out[0], &theirs[1], 0);
        if (r == 0)
            r = make_pipe(&x->out[1], &theirs[2], 0);
        memcpy(l->fds, theirs, sizeof theirs);
    }
    if (r < 0)
        (void)err_set_errno(e, -r, "cannot make pipes");
    else
        r = launch_start(x->g->ev, l, &x->proc, e);
    x->launched = r == 0;
    for (int i = 0; i < 3; i++)
        cleanup_close(&theirs[i]);
    return r;
}

void exec_open(struct guest *g, struct stream *st, const struct exec_kind *kind)
{
    struct exec *x = calloc(1, sizeof *x);
    if (!x) {
        stream_error(st, 500, "out of memory");
        return;
    }
    x->g = g;
    x->st = st;
    x->kind = kind;
    x->in = (struct ev_io){.fn = on_in, .fd = -1};
    x->out[0] = (struct ev_io){.fn = on_out0, .fd = -1};
    x->out[1] = (struct ev_io){.fn = on_out1, .fd = -1};
    x->tty_fd = -1;
    x->proc.on_started = on_started;
    x->proc.on_exit = on_exit_status;
    st->ops = &EXEC_OPS;
    st->ctx = x;
    stream_answer(st, 200);
}

void exec_output_frames(struct exec *x, int i, const char *p, size_t n)
{
    stream_frame(x->st, i == 0 ? WIRE_FRAME_STDOUT : WIRE_FRAME_STDERR, p, n);
}

static int begin_exec(struct exec *x, struct err *e)
{
    struct app *a = &x->g->app;
    struct launch l = {.where = x->g->no_container ? LAUNCH_HERE : LAUNCH_JOIN,
                       .join_pid = a->pid,
                       .cgroup = x->g->no_container ? NULL : GUEST_CGROUP "/app",
                       .cwd = a->cwd,
                       .user = a->user,
                       .all_caps = a->all_caps};
    if (!x->g->no_container && a->state != APP_RUNNING)
        return err_set(e, EINVAL, "the application is not running");
    int r = launch_parse(&l, x->spec, a->env, e);
    if (r == 0)
        r = exec_launch(x, &l, e);
    launch_done(&l);
    return r;
}

static const struct exec_kind EXEC_KIND = {
    .begin = begin_exec, .output = exec_output_frames, .ended = exec_finished, .give_exit = true};

void guest_exec(struct guest *g, struct stream *st)
{
    exec_open(g, st, &EXEC_KIND);
}
