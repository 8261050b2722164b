/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

struct job {
    struct guest *g;
    struct stream *st; /* NULL when the host has left */
    struct ev_io io;
    void (*done)(struct guest *g);
    struct buf said; /* i32 result, text */
};

static void job_closed(struct stream *st)
{
    struct job *j = st->ctx;
    j->st = NULL;
}

static const struct stream_ops JOB_OPS = {.closed = job_closed};

static void answer(struct job *j)
{
    struct stream *st = TAKE(j->st);
    int32_t r = -EIO;
    const char *text = "the operation crashed";
    if (j->said.len >= sizeof r) {
        memcpy(&r, j->said.data, sizeof r);
        text = j->said.data + sizeof r;
    }
    if (r == 0 && j->done)
        j->done(j->g);
    if (!st)
        return;
    st->ops = NULL;
    int status = r == -EINVAL ? 400 : r == -ENOENT ? 404 : r == -EBUSY ? 409 : 500;
    if (r == 0)
        stream_json(st, 200, json_object());
    else
        stream_error(st, status, "%s", text);
}

static void on_said(struct ev_io *io, uint32_t events UNUSED)
{
    struct job *j = CONTAINER_OF(io, struct job, io);
    char part[2048];
    ssize_t n = read(io->fd, part, sizeof part);
    if (n > 0 && buf_add(&j->said, part, (size_t)n) == 0)
        return;
    if (n < 0 && errno == EINTR)
        return;
    ev_io_close(j->g->ev, io);
    answer(j);
    buf_done(&j->said);
    free(j);
}

void job_start(struct guest *g, struct stream *st, int (*work)(void *arg, struct err *e), void *arg,
               void (*done)(struct guest *g))
{
    int pair[2];
    struct job *j = calloc(1, sizeof *j);
    if (!j || pipe2(pair, O_CLOEXEC) < 0) {
        free(j);
        stream_error(st, 500, "out of memory or descriptors");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct err e = {0};
        int32_t r = work(arg, &e);
        bool told = fs_write_all(pair[1], &r, sizeof r) == 0 &&
                    fs_write_all(pair[1], e.text, strlen(e.text)) == 0;
        _exit(told ? 0 : 1);
    }
    close(pair[1]);
    *j = (struct job){.g = g,
                      .st = st,
                      .io = {.fn = on_said, .fd = pair[0]},
                      .done = done,
                      .said = BUF_INIT(4096)};
    if (pid < 0 || ev_io_set(g->ev, &j->io, EPOLLIN) < 0) {
        close(pair[0]);
        free(j);
        stream_error(st, 500, "cannot fork");
        return;
    }
    st->ops = &JOB_OPS;
    st->ctx = j;
}
