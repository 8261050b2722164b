/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One message is one packet of exactly sizeof(struct monitor_message) bytes, so there is no
 * framing, no length field to believe and no state between messages. Both ends treat the other as
 * hostile: descriptors that came with a message that is refused are closed before anybody sees it.
 */
#include "proto/monitor.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(sizeof(struct monitor_message) == 16 + sizeof(struct monitor_boot),
               "the largest member decides the size of every message");
_Static_assert(sizeof(struct monitor_message) % 8 == 0, "no tail padding");

static const struct row {
    uint32_t type;
    uint8_t min_fds, max_fds;
    const char *name;
} TYPES[] = {
    {MONITOR_CREATE, 0, 0, "CREATE"},
    {MONITOR_MEMORY, 0, 1, "MEMORY"},
    {MONITOR_DISK, 1, MONITOR_LAYERS_MAX, "DISK"},
    {MONITOR_NET, 1, 1, "NET"},
    {MONITOR_CONSOLE, 1, 1, "CONSOLE"},
    {MONITOR_BOOT, 1, 2, "BOOT"},
    {MONITOR_RESTORE, 1, 3, "RESTORE"},
    {MONITOR_RUN, 0, 0, "RUN"},
    {MONITOR_PAUSE, 0, 0, "PAUSE"},
    {MONITOR_LINK, 0, 1, "LINK"},
    {MONITOR_SAVE, 2, 2, "SAVE"},
    {MONITOR_FORK, 2, 2 + MONITOR_DISKS_MAX, "FORK"},
    {MONITOR_STATS, 0, 0, "STATS"},
    {MONITOR_GATE, 0, 0, "GATE"},
    {MONITOR_BALLOON, 0, 0, "BALLOON"},
    {MONITOR_WORKING_SET, 1, 1, "WORKING_SET"},
    {MONITOR_QUIT, 0, 0, "QUIT"},
    {MONITOR_ANSWER, 0, 0, "ANSWER"},
    {MONITOR_EVENT, 0, 0, "EVENT"},
};

static const char *const EVENTS[] = {
    [MONITOR_EVENT_POWEROFF] = "POWEROFF",
    [MONITOR_EVENT_RESET] = "RESET",
    [MONITOR_EVENT_TRIPLE_FAULT] = "TRIPLE_FAULT",
    [MONITOR_EVENT_FAILED] = "FAILED",
    [MONITOR_EVENT_HANG] = "HANG",
    [MONITOR_EVENT_DISK_FULL] = "DISK_FULL",
    [MONITOR_EVENT_DISK_OK] = "DISK_OK",
    [MONITOR_EVENT_DEVICE_BROKEN] = "DEVICE_BROKEN",
};

static const struct row *row_of(uint32_t type)
{
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (TYPES[i].type == type)
            return &TYPES[i];
    return NULL;
}

const char *monitor_type_name(uint32_t type)
{
    const struct row *r = row_of(type);
    return r ? r->name : "?";
}

const char *monitor_event_name(uint32_t event)
{
    return event && event < ARRAY_LEN(EVENTS) ? EVENTS[event] : "?";
}

static uint32_t bits(uint32_t v)
{
    return (uint32_t)__builtin_popcount(v);
}

/* Where a message says which descriptors it has, the two must agree. */
static bool fds_as_said(const struct monitor_message *m)
{
    const uint32_t files = MONITOR_HAS_PAGES | MONITOR_HAS_WORKING_SET;
    switch (m->type) {
    case MONITOR_MEMORY:
        return m->memory.kind <= MONITOR_MEMORY_CHUNKED &&
               m->n_fds == (m->memory.kind != MONITOR_MEMORY_ZERO);
    case MONITOR_DISK:
        return m->disk.index < MONITOR_DISKS_MAX && m->n_fds == m->disk.n_layers;
    case MONITOR_BOOT:
        return m->boot.has_initrd <= 1 && m->n_fds == 1 + m->boot.has_initrd;
    case MONITOR_RESTORE:
        return m->n_fds == 1 + bits(m->restore.flags & files);
    case MONITOR_FORK:
        return m->save.disks < 1u << MONITOR_DISKS_MAX && m->n_fds == 2 + bits(m->save.disks);
    default:
        return true;
    }
}

static bool terminated(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

static bool texts_end(const struct monitor_message *m)
{
    switch (m->type) {
    case MONITOR_DISK:
        return terminated(m->disk.serial, sizeof m->disk.serial);
    case MONITOR_BOOT:
        return terminated(m->boot.cmdline, sizeof m->boot.cmdline);
    case MONITOR_ANSWER:
        return terminated(m->answer.text, sizeof m->answer.text);
    case MONITOR_EVENT:
        return terminated(m->notice.text, sizeof m->notice.text);
    default:
        return true;
    }
}

int monitor_check(const struct monitor_message *m)
{
    const struct row *r = row_of(m->type);
    if (m->protocol != MONITOR_PROTOCOL || !r || m->n_fds < r->min_fds || m->n_fds > r->max_fds)
        return -EPROTO;
    return fds_as_said(m) && texts_end(m) ? 0 : -EPROTO;
}

union control { /* aligned for struct cmsghdr */
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * MONITOR_FDS_MAX)];
};

static int gone_or(int code)
{
    return code == ECONNRESET || code == EPIPE || code == ENOTCONN ? -EPIPE : -code;
}

int monitor_send(int sock, const struct monitor_message *m, const int *fds)
{
    union control control = {0};
    struct iovec io = {(void *)(uintptr_t)m, sizeof *m};
    struct msghdr msg = {.msg_iov = &io, .msg_iovlen = 1};
    if (m->n_fds > MONITOR_FDS_MAX)
        return -EINVAL;
    if (m->n_fds) {
        size_t n = sizeof(int) * m->n_fds;
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n);
        memcpy(CMSG_DATA(c), fds, n);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return gone_or(errno);
    return n == (ssize_t)sizeof *m ? 0 : -EPROTO;
}

/* Number of descriptors that came. Those beyond what fits were never made (MSG_CTRUNC). */
static uint32_t take_fds(struct msghdr *msg, int fds[MONITOR_FDS_MAX])
{
    uint32_t n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (n < MONITOR_FDS_MAX)
                fds[n++] = fd;
            else
                close(fd);
        }
    }
    return n;
}

int monitor_receive(int sock, struct monitor_message *m, int fds[MONITOR_FDS_MAX])
{
    union control control;
    struct iovec io = {m, sizeof *m};
    struct msghdr msg = {.msg_iov = &io,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return gone_or(errno);
    uint32_t n_fds = take_fds(&msg, fds);
    bool whole = n == (ssize_t)sizeof *m && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    if (whole && m->n_fds == n_fds && monitor_check(m) == 0)
        return 0;
    while (n_fds)
        close(fds[--n_fds]);
    return n == 0 ? -EPIPE : -EPROTO;
}
