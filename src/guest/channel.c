/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A virtio-console port has no notion of a connection: while the host's socket
 * is closed, reads give end of file and poll gives POLLHUP for ever; when it is opened again the
 * driver wakes the port's wait queue. So the descriptor is watched edge-triggered: every change of
 * the port (data, room, host opened, host closed) is one event and a closed host costs nothing.
 * After each event everything readable is read and everything writable is written.
 *
 * Data and "opened"/"closed" come through different queues of the device, in no order: the hello of
 * a new host may be readable while the driver still says "closed", and a stale "closed" may be seen
 * after a restore when the new host talks already. So end of file means little by itself: a
 * session that has only had its hello waits, a running one is given CLOSED_GRACE_MS to prove alive.
 */
#include "guest/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proto/sync.h"
#include "proto/wire.h"

#define OUT_MAX (128 * 1024)
#define WRITE_MAX 32768    /* the driver copies each write into one buffer of at most this size */
#define READS_PER_EVENT 64 /* then others get a turn */
#define CLOSED_GRACE_MS 20

struct channel {
    struct ev *ev;
    struct ev_io io;
    struct ev_hook hook;
    bool port;
    bool blocked; /* the last write found no room: the next event says when to go on */
    session_router *router;
    void *app;
    void (*on_gone)(void *app);
    struct sync_guest sync;
    struct session *session; /* NULL between sessions */
    bool ending;             /* session is over: its last output (GOAWAY) is still being sent */
    struct buf out;
    struct ev_timer again;
    struct ev_timer grace; /* armed while end of file is all that is read */
};

static void drop_session(struct channel *c)
{
    session_free(TAKE(c->session));
    c->ending = false;
}

static void start_session(struct channel *c)
{
    drop_session(c);
    buf_clear(&c->out); /* what the old session still had to say; the host skips up to the hello */
    int r = buf_add(&c->out, c->sync.hello, SYNC_HELLO_LEN);
    if (r == 0)
        r = session_new(c->router, c->app, &c->session);
    if (r < 0)
        log_error("agent", "cannot start a session: out of memory");
}

static void feed(struct channel *c, const char *p, size_t n)
{
    while (n) {
        size_t used = 0, data_n = 0;
        const char *data = NULL;
        switch (sync_guest_feed(&c->sync, p, n, &used, &data, &data_n)) {
        case SYNC_STARTED:
            start_session(c);
            break;
        case SYNC_DATA:
            if (c->session && !c->ending && session_feed(c->session, data, data_n) < 0) {
                log_warn("agent", "the host's session broke the protocol and was ended");
                sync_guest_lost(&c->sync);
                c->ending = true;
            }
            break;
        case SYNC_BROKEN:
            log_warn("agent", "the channel lost its framing; waiting for a new session");
            c->ending = c->session != NULL;
            break;
        case SYNC_NEED_MORE:
            break;
        }
        p += used;
        n -= used;
    }
}

/* One write to a port or a socket; a port must not be given an empty or an over-long one. */
static bool write_some(struct channel *c)
{
    while (c->out.len) {
        ssize_t n = write(c->io.fd, c->out.data, c->out.len < WRITE_MAX ? c->out.len : WRITE_MAX);
        if (n <= 0) {
            c->blocked = n < 0 && errno == EAGAIN;
            return false;
        }
        buf_consume(&c->out, (size_t)n);
    }
    return true;
}

static void pump(struct channel *c)
{
    while (!c->blocked) {
        if (c->session && c->out.len < OUT_MAX / 2 && session_has_output(c->session) &&
            session_pull(c->session, &c->out, OUT_MAX) < 0)
            c->ending = true;
        if (c->out.len == 0)
            break;
        if (!write_some(c))
            return;
    }
    if (c->ending && c->out.len == 0)
        drop_session(c);
}

static void host_closed(struct channel *c)
{
    if (c->session || c->sync.state != SYNC_CLEAN)
        log_debug("agent", "the host closed the channel");
    drop_session(c);
    buf_clear(&c->out);
    sync_guest_closed(&c->sync);
    if (!c->port) {
        ev_io_close(c->ev, &c->io);
        if (c->on_gone)
            c->on_gone(c->app);
    }
}

static void at_end_of_file(struct channel *c)
{
    if (!c->port)
        host_closed(c);
    else if ((c->sync.state == SYNC_SESSION || c->sync.state == SYNC_LOST) && !c->grace.armed)
        ev_timer_set(c->ev, &c->grace, CLOSED_GRACE_MS);
}

static void on_event(struct ev_io *io, uint32_t events UNUSED)
{
    struct channel *c = CONTAINER_OF(io, struct channel, io);
    char in[16384];
    c->blocked = false;
    for (int i = 0; i < READS_PER_EVENT; i++) {
        ssize_t n = read(io->fd, in, sizeof in);
        if (n > 0) {
            ev_timer_stop(c->ev, &c->grace);
            feed(c, in, (size_t)n);
            pump(c);
            continue;
        }
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            at_end_of_file(c);
        else
            ev_timer_stop(c->ev, &c->grace);
        return;
    }
    ev_timer_set(c->ev, &c->again, 0); /* an edge is told once: come back by ourselves */
}

static void on_again(struct ev_timer *t)
{
    struct channel *c = CONTAINER_OF(t, struct channel, again);
    if (c->io.fd >= 0)
        on_event(&c->io, EPOLLIN);
}

static void on_grace(struct ev_timer *t)
{
    struct channel *c = CONTAINER_OF(t, struct channel, grace);
    char in;
    ssize_t n = read(c->io.fd, &in, 1);
    if (n > 0)
        feed(c, &in, 1);
    else if (n == 0)
        host_closed(c);
    on_event(&c->io, EPOLLIN);
}

static void on_hook(struct ev_hook *h)
{
    struct channel *c = CONTAINER_OF(h, struct channel, hook);
    if (c->io.fd >= 0 && c->session)
        pump(c);
}

int channel_new(struct ev *ev, int fd, bool port, session_router *router, void *app,
                void (*on_gone)(void *app), struct channel **ret, struct err *e)
{
    struct channel *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return err_set(e, ENOMEM, "out of memory");
    }
    *c = (struct channel){.ev = ev,
                          .io = {.fn = on_event, .fd = fd},
                          .hook = {.fn = on_hook},
                          .again = {.fn = on_again},
                          .grace = {.fn = on_grace},
                          .port = port,
                          .router = router,
                          .app = app,
                          .on_gone = on_gone};
    sync_guest_init(&c->sync);
    int r = fcntl(fd, F_SETFL, O_NONBLOCK) < 0
                ? -errno
                : ev_io_set(ev, &c->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    if (r < 0) {
        close(fd);
        free(c);
        return err_set_errno(e, -r, "cannot watch the channel");
    }
    ev_hook_add(ev, &c->hook);
    ev_timer_set(ev, &c->again, 0);
    *ret = c;
    return 0;
}

void channel_free(struct channel *c)
{
    if (!c)
        return;
    drop_session(c);
    ev_io_close(c->ev, &c->io);
    ev_timer_stop(c->ev, &c->again);
    ev_timer_stop(c->ev, &c->grace);
    buf_done(&c->out);
    free(c);
}
