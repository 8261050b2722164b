/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands go out on the caller's thread; the reaper reads every answer and event, because events
 * (shutdown, panic) must be seen when no command is under way. A caller waits on the machine's
 * condition, which the end of the process also signals: no command can outlive its machine.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "engine/qemu/machine.h"

/* A stop waits for the disk: a busy one is slow, not dead. */
enum { CALL_TIMEOUT_MS = 60000 };

static int explain(struct machine *m, int r, const char *what, struct err *e)
{
    if (r == -EPIPE)
        return life_gone(&m->life, e);
    if (r == -ETIMEDOUT)
        return err_set(e, ETIMEDOUT, "machine %s does not answer: %s", m->life.id, what);
    return r;
}

int machine_greeting(struct machine *m, int timeout_ms, struct err *e)
{
    pthread_mutex_lock(&m->life.lock);
    int r = life_wait_flag(&m->life, &m->greeted, timeout_ms);
    pthread_mutex_unlock(&m->life.lock);
    return explain(m, r, "start", e);
}

static int send_line(int fd, const struct buf *line, int pass_fd)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec io = {line->data, line->len};
    struct msghdr msg = {.msg_iov = &io, .msg_iovlen = 1};
    if (pass_fd >= 0) {
        msg.msg_control = control;
        msg.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), &pass_fd, sizeof pass_fd);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    /* Lines are far smaller than the socket buffer: a part or nothing sent means that the peer has
     * stopped reading. */
    return n == (ssize_t)line->len ? 0 : n < 0 && errno == EPIPE ? -EPIPE : -ETIMEDOUT;
}

static int take_slot(struct machine *m)
{
    for (int i = 0; i < MACHINE_CALLS_MAX; i++)
        if (!m->calls[i].id) {
            m->calls[i] = (struct machine_call){.id = m->next_id++};
            return i;
        }
    return -EBUSY;
}

static void release_slot(struct machine *m, int slot)
{
    json_decref(m->calls[slot].data);
    m->calls[slot] = (struct machine_call){0};
}

int machine_command(struct machine *m, const char *name, json_t *args, int pass_fd, struct err *e)
{
    struct buf line = BUF_INIT(QMP_LINE_MAX);
    pthread_mutex_lock(&m->life.lock);
    bool live = m->life.state == LIFE_LIVE && !m->life.vmm_gone && m->on_qmp.fd >= 0;
    int slot = live ? take_slot(m) : -EPIPE;
    int r = slot < 0 ? slot : qmp_write(&line, name, args, m->calls[slot].id);
    if (r >= 0)
        r = send_line(m->on_qmp.fd, &line, pass_fd);
    if (r < 0 && slot >= 0)
        release_slot(m, slot);
    pthread_mutex_unlock(&m->life.lock);
    buf_done(&line);
    json_decref(args);
    return r < 0 ? explain(m, r, name, e) : slot;
}

int machine_answer(struct machine *m, int slot, int timeout_ms, json_t **ret, struct err *e)
{
    struct machine_call *c = &m->calls[slot];
    pthread_mutex_lock(&m->life.lock);
    int r = life_wait_flag(&m->life, &c->answered, timeout_ms);
    if (r == 0 && c->code < 0)
        r = err_set(e, -c->code, "%s", c->text);
    else if (r == 0 && ret)
        *ret = TAKE(c->data);
    release_slot(m, slot);
    pthread_mutex_unlock(&m->life.lock);
    return explain(m, r, "a command", e);
}

int machine_call(struct machine *m, const char *name, json_t *args, struct err *e)
{
    int slot = machine_command(m, name, args, -1, e);
    if (slot < 0)
        return slot;
    int r = machine_answer(m, slot, CALL_TIMEOUT_MS, NULL, e);
    return r < 0 ? err_wrap(e, "%s", name) : 0;
}

int machine_wait_migration(struct machine *m, int timeout_ms, struct err *e)
{
    pthread_mutex_lock(&m->life.lock);
    int r = life_wait_flag(&m->life, &m->migration_over, timeout_ms);
    bool failed = m->migration_failed;
    pthread_mutex_unlock(&m->life.lock);
    if (r == 0 && failed)
        return err_set(e, EIO, "the state of machine %s could not be moved", m->life.id);
    return explain(m, r, "moving its state", e);
}
