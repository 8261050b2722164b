/* SPDX-License-Identifier: Apache-2.0 */
#include "drive.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE_MS 20000

const char *drive_program;

const char *drive_why_not(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return "/dev/kvm cannot be opened";
    int vm = ioctl(fd, KVM_CREATE_VM, 0);
    close(fd);
    if (vm < 0)
        return "/dev/kvm makes no virtual machine";
    close(vm);
    return NULL;
}

static void child(int sock)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    /* First out of each other's way. */
    int high[2] = {fcntl(sock, F_DUPFD_CLOEXEC, 100), fcntl(kvm, F_DUPFD_CLOEXEC, 100)};
    if (dup2(high[0], 3) < 0 || dup2(high[1], 4) < 0)
        _exit(126);
    execl(drive_program, "tinderbox-vmm", (char *)NULL);
    _exit(127);
}

void drive_start(struct drive *d)
{
    int pair[2];
    *d = (struct drive){.serial = -1};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    fflush(NULL);
    d->pid = fork();
    assert_true(d->pid >= 0);
    if (d->pid == 0)
        child(pair[1]);
    close(pair[1]);
    d->sock = pair[0];
}

int drive_wait(struct drive *d)
{
    int status = 0;
    assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
    d->pid = 0;
    return status;
}

void drive_end(struct drive *d)
{
    close(d->sock);
    if (d->serial >= 0)
        close(d->serial);
    if (d->pid) {
        kill(d->pid, SIGKILL);
        drive_wait(d);
    }
}

static void read_serial(struct drive *d)
{
    if (d->serial < 0 || d->n_said == sizeof d->said - 1)
        return;
    ssize_t k = recv(d->serial, d->said + d->n_said, sizeof d->said - 1 - d->n_said, MSG_DONTWAIT);
    d->n_said += k > 0 ? (size_t)k : 0;
    d->said[d->n_said] = '\0';
}

static void died(struct drive *d)
{
    int status = drive_wait(d);
    fail_msg("the monitor ended: %s %d", WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* One message, or nothing within ms. */
static bool receive(struct drive *d, struct monitor_message *m, int ms)
{
    int fds[MONITOR_FDS_MAX];
    struct pollfd p = {.fd = d->sock, .events = POLLIN};
    if (poll(&p, 1, ms) <= 0)
        return false;
    int r = monitor_receive(d->sock, m, fds);
    if (r == -EPIPE)
        died(d);
    assert_int_equal(r, 0);
    assert_int_equal(m->n_fds, 0);
    if (m->type == MONITOR_EVENT)
        d->event = m->notice;
    return true;
}

struct monitor_answer drive_call(struct drive *d, enum monitor_type type,
                                 const struct monitor_message *body, const int *fds, unsigned n)
{
    struct monitor_message m = {0}, in;
    if (body)
        m = *body;
    m.protocol = MONITOR_PROTOCOL;
    m.type = type;
    m.sequence = ++d->sequence;
    m.n_fds = n;
    assert_int_equal(monitor_send(d->sock, &m, fds), 0);
    for (int64_t end = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < end;) {
        read_serial(d);
        if (!receive(d, &in, 100) || in.type == MONITOR_EVENT)
            continue;
        assert_int_equal(in.type, MONITOR_ANSWER);
        assert_int_equal(in.sequence, m.sequence);
        assert_int_equal(in.answer.request, type);
        return in.answer;
    }
    fail_msg("no answer to %s", monitor_type_name(type));
    return (struct monitor_answer){0};
}

struct monitor_answer drive_ok(struct drive *d, enum monitor_type type,
                               const struct monitor_message *body, const int *fds, unsigned n)
{
    struct monitor_answer a = drive_call(d, type, body, fds, n);
    if (a.code < 0)
        fail_msg("%s: %s", monitor_type_name(type), a.text);
    return a;
}

void drive_shape(struct drive *d, int memory, uint32_t flags)
{
    struct monitor_message m = {.create = {.memory_bytes = DRIVE_RAM, .vcpus = 1, .flags = flags}};
    int pair[2];
    drive_ok(d, MONITOR_CREATE, &m, NULL, 0);
    m = (struct monitor_message){.memory.kind = memory < 0                ? MONITOR_MEMORY_ZERO
                                                : flags & MONITOR_CHUNKED ? MONITOR_MEMORY_CHUNKED
                                                                          : MONITOR_MEMORY_FILE};
    drive_ok(d, MONITOR_MEMORY, &m, &memory, memory >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    d->serial = pair[0];
    drive_ok(d, MONITOR_CONSOLE, NULL, &pair[1], 1);
    close(pair[1]);
}

void drive_boot(struct drive *d, const char *guest)
{
    struct monitor_message m = {.boot = {.flat = 1, .flat_address = DRIVE_ENTRY}};
    int fd = open(guest, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    drive_ok(d, MONITOR_BOOT, &m, &fd, 1);
    close(fd);
    drive_ok(d, MONITOR_RUN, NULL, NULL, 0);
}

void drive_restore(struct drive *d, int state, int pages, int working_set)
{
    struct monitor_message m = {
        .restore = {.flags = MONITOR_IS_CLONE, .generation = "generation!"}};
    int fds[3] = {state};
    unsigned n = 1;
    if (pages >= 0) {
        m.restore.flags |= MONITOR_HAS_PAGES;
        fds[n++] = pages;
    }
    if (working_set >= 0) {
        m.restore.flags |= MONITOR_HAS_WORKING_SET;
        fds[n++] = working_set;
    }
    drive_ok(d, MONITOR_RESTORE, &m, fds, n);
    drive_ok(d, MONITOR_RUN, NULL, NULL, 0);
}

void drive_expect(struct drive *d, const char *text)
{
    for (int64_t end = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < end;) {
        struct pollfd p[2] = {{.fd = d->serial, .events = POLLIN},
                              {.fd = d->sock, .events = POLLIN}};
        struct monitor_message m;
        read_serial(d);
        if (strstr(d->said, text))
            return;
        if (poll(p, 2, 1000) > 0 && p[1].revents)
            (void)receive(d, &m, 0);
    }
    fail_msg("'%s' was not said, but '%.*s'", text, 200, d->said);
}

void drive_event(struct drive *d, enum monitor_event event)
{
    struct monitor_message m;
    for (int64_t end = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < end;) {
        if (d->event.event == event)
            return;
        (void)receive(d, &m, 100);
    }
    fail_msg("no event %s, but %s %s", monitor_event_name(event),
             monitor_event_name(d->event.event), d->event.text);
}

int drive_file(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}
