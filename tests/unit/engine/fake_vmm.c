/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor without a machine, for the tests of the KVM engine: answers every request, writes down
 * what it was asked into "log" beside its own name, and misbehaves as the file "mode" there says:
 * "<request> <what>".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/monitor.h"

static struct {
    char dir[2048];
    char on[32], what[32];
    int log;
    int link, console;
    uint64_t memory_bytes;
} fake = {.link = -1, .console = -1};

static const int sock = 3;

static void load_mode(const char *self)
{
    char path[2100], text[64] = "";
    snprintf(fake.dir, sizeof fake.dir, "%.*s", (int)(strrchr(self, '/') - self), self);
    snprintf(path, sizeof path, "%s/mode", fake.dir);
    int fd = open(path, O_RDONLY);
    if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
        sscanf(text, "%31s %31s", fake.on, fake.what);
    close(fd);
    snprintf(path, sizeof path, "%s/log", fake.dir);
    fake.log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static void describe_files(const struct monitor_message *m, const int *fds)
{
    for (uint32_t i = 0; i < m->n_fds; i++)
        dprintf(fake.log, " %s", (fcntl(fds[i], F_GETFL) & O_ACCMODE) == O_RDONLY ? "r" : "rw");
}

static void write_log(const struct monitor_message *m, const int *fds)
{
    dprintf(fake.log, "%s", monitor_type_name(m->type));
    describe_files(m, fds);
    if (m->type == MONITOR_CREATE)
        dprintf(fake.log, " disks=%u net=%u", m->create.n_disks,
                m->create.flags & MONITOR_NET_DEVICE);
    if (m->type == MONITOR_MEMORY)
        dprintf(fake.log, " kind=%u", m->memory.kind);
    if (m->type == MONITOR_DISK)
        dprintf(fake.log, " index=%u cow=%llu ro=%u", m->disk.index,
                (unsigned long long)m->disk.cow, m->disk.read_only);
    if (m->type == MONITOR_NET)
        dprintf(fake.log, " closed=%u mac=%02x", m->net.gate_closed, m->net.mac[0]);
    if (m->type == MONITOR_RESTORE)
        dprintf(fake.log, " flags=%u gen=%02x%02x%02x%02x", m->restore.flags,
                m->restore.generation[0], m->restore.generation[1], m->restore.generation[2],
                m->restore.generation[3]);
    if (m->type == MONITOR_SAVE || m->type == MONITOR_FORK)
        dprintf(fake.log, " all=%u disks=%u", m->save.all, m->save.disks);
    if (m->type == MONITOR_GATE)
        dprintf(fake.log, " open=%u", m->gate.open);
    dprintf(fake.log, "\n");
}

static void save(const struct monitor_message *m, const int *fds)
{
    char page[4096];
    memset(page, 'A', sizeof page);
    if (strcmp(fake.what, "huge") == 0 && ftruncate(fds[0], 32 << 20) < 0)
        abort();
    if (write(fds[0], "state", 5) != 5 || pwrite(fds[1], page, sizeof page, 8192) != sizeof page ||
        pwrite(fds[1], "INDEX", 5, (off_t)fake.memory_bytes) != 5)
        abort();
    (void)m;
}

static void keep(int *slot, const struct monitor_message *m, const int *fds)
{
    if (*slot >= 0)
        close(*slot);
    *slot = m->n_fds ? dup(fds[0]) : -1;
}

static void serve(const struct monitor_message *m, const int *fds, struct monitor_answer *a)
{
    switch (m->type) {
    case MONITOR_CREATE:
        fake.memory_bytes = m->create.memory_bytes;
        break;
    case MONITOR_LINK:
        keep(&fake.link, m, fds);
        break;
    case MONITOR_CONSOLE:
        keep(&fake.console, m, fds);
        break;
    case MONITOR_SAVE:
        save(m, fds);
        break;
    case MONITOR_FORK:
        save(m, fds);
        a->saved.paused_us = 1234;
        a->saved.disks_moved = m->save.disks;
        break;
    case MONITOR_WORKING_SET:
        if (write(fds[0], "set", 3) != 3)
            abort();
        break;
    case MONITOR_STATS:
        a->stats.exits = 42;
        break;
    default:
        break;
    }
}

static void send_message(struct monitor_message *m, const int *fds)
{
    if (monitor_send(sock, m, fds) < 0)
        exit(0);
}

static void event(uint32_t which, const char *text)
{
    struct monitor_message m = {
        .protocol = MONITOR_PROTOCOL, .type = MONITOR_EVENT, .notice.event = which};
    snprintf(m.notice.text, sizeof m.notice.text, "%s", text);
    send_message(&m, NULL);
}

static void panic_on_console(void)
{
    static const char text[] = "[    1.0] Kernel panic - not syncing: no init\r\nrebooting\r\n";
    if (write(fake.console, text, sizeof text - 1) < 0)
        abort();
    event(MONITOR_EVENT_RESET, "");
    exit(0);
}

static void stay(void)
{
    for (;;)
        pause();
}

static bool is(const char *what)
{
    return strcmp(fake.what, what) == 0;
}

/* Instead of an answer. */
static void misbehave(struct monitor_message *answer)
{
    if (is("die")) {
        fputs("no such device\n", stderr);
        exit(3);
    }
    if (is("kill"))
        raise(SIGKILL);
    if (is("silent"))
        return;
    if (is("close")) {
        close(sock);
        stay();
    }
    if (is("short") && send(sock, answer, 8, 0) > 0)
        return;
    if (is("flood"))
        for (int i = 0; i < 100000; i++)
            event(MONITOR_EVENT_DISK_OK, "");
    if (is("unknown"))
        event(77, "");
    if (is("disk")) {
        answer->type = MONITOR_DISK;
        answer->n_fds = 1;
        memset(&answer->disk, 0, sizeof answer->disk);
        answer->disk.n_layers = 1;
        send_message(answer, (int[]){fake.log});
        return;
    }
    answer->sequence += is("sequence");
    answer->answer.request += is("request");
    answer->answer.code = is("positive") ? 5 : is("nospace") ? -ENOSPC : is("fail") ? -EIO : 0;
    if (is("failmoved"))
        answer->answer.code = -EIO;
    else
        answer->answer.saved.disks_moved = 0;
    snprintf(answer->answer.text, sizeof answer->answer.text, "the medium\nis broken");
    send_message(answer, NULL);
    if (is("twice"))
        send_message(answer, NULL);
}

/* After an answer. */
static void go_on(void)
{
    static const struct {
        const char *what;
        uint32_t event;
        bool stays;
    } ends[] = {{"poweroff", MONITOR_EVENT_POWEROFF, false},
                {"triple", MONITOR_EVENT_TRIPLE_FAULT, false},
                {"failed", MONITOR_EVENT_FAILED, false},
                {"hang", MONITOR_EVENT_HANG, true}};
    if (is("panic"))
        panic_on_console();
    if (is("full"))
        event(MONITOR_EVENT_DISK_FULL, "");
    if (is("exit"))
        exit(0);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (is(ends[i].what)) {
            event(ends[i].event, "KVM_EXIT\x01");
            if (ends[i].stays)
                stay();
            exit(0);
        }
}

static bool after(void)
{
    static const char *const what[] = {"panic",  "full", "poweroff", "triple",
                                       "failed", "hang", "exit",     "huge"};
    for (size_t i = 0; i < ARRAY_LEN(what); i++)
        if (is(what[i]))
            return true;
    return false;
}

static void handle(const struct monitor_message *m, const int *fds)
{
    bool odd = strcmp(fake.on, monitor_type_name(m->type)) == 0;
    struct monitor_message answer = {.protocol = MONITOR_PROTOCOL,
                                     .type = MONITOR_ANSWER,
                                     .sequence = m->sequence,
                                     .answer.request = m->type};
    write_log(m, fds);
    serve(m, fds, &answer.answer);
    if (odd && !after())
        misbehave(&answer);
    else
        send_message(&answer, NULL);
    if (odd)
        go_on();
    if (m->type == MONITOR_QUIT)
        exit(0);
}

static void echo(void)
{
    char bytes[256];
    ssize_t n = read(fake.link, bytes, sizeof bytes);
    if (n <= 0 || write(fake.link, bytes, (size_t)n) != n) {
        close(fake.link);
        fake.link = -1;
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    load_mode(argv[0]);
    for (;;) {
        struct pollfd p[2] = {{sock, POLLIN, 0}, {fake.link, POLLIN, 0}};
        struct monitor_message m;
        int fds[MONITOR_FDS_MAX];
        if (poll(p, 2, -1) < 0)
            return 1;
        if (p[1].revents)
            echo();
        if (!p[0].revents)
            continue;
        if (monitor_receive(sock, &m, fds) < 0)
            return 0;
        handle(&m, fds);
        for (uint32_t i = 0; i < m.n_fds; i++)
            close(fds[i]);
    }
}
