/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rules of the system call filters are needed. Stands where tinderbox-vmm is expected, starts
 * a monitor whose filters name their rule to a tracer (JAIL_AUDIT), follows all of its threads and
 * adds the rules that were used to the file AUDIT_FILE ("role rule" a line, appended once per
 * monitor). With "--missing FILE" it prints the rules that are not in the file and fails when there
 * are any.
 *
 * The monitor is the file "tinderbox-vmm-audit" beside this program.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/jail/jail.h"

#define RULES_MAX 256
#define AUDIT_FILE "/tmp/tinderbox-audit"
#define OPTIONS \
    (PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL)

static uint8_t (
    *used)[RULES_MAX]; /* by role and rule: the file, mapped, so that being killed loses nothing */

/* What machines like these do not do. */
static const struct {
    enum jail_role role;
    const char *rule, *why;
} excused[] = {
    {JAIL_CONTROL, "fstat", "newer C libraries"},
    {JAIL_CONTROL, "clock_gettime", "where the vDSO has no clock"},
    {JAIL_CONTROL, "ioctl arg1=TUNGETIFF", "TAP: vmm_test_net_tap"},
    {JAIL_CONTROL, "ioctl arg1=TUNSETVNETHDRSZ", "TAP: vmm_test_net_tap"},
    {JAIL_CONTROL, "ioctl arg1=TUNSETOFFLOAD", "TAP: vmm_test_net_tap"},
    {JAIL_CONTROL, "ioctl arg1=KVM_SET_CPUID2", "a snapshot of another host"},
    {JAIL_CONTROL, "ioctl arg1=KVM_SET_TSC_KHZ", "a snapshot of another host"},
    {JAIL_CONTROL, "ioctl arg1=KVM_GET_TSC_KHZ", "a snapshot of another host"},
    {JAIL_CONTROL, "ioctl arg1=KVM_GET_XSAVE", "kernels before 5.17"},
    {JAIL_VCPU, "clock_gettime", "where the vDSO has no clock"},
    {JAIL_IO, "clock_gettime", "where the vDSO has no clock"},
    {JAIL_IO, "write", "more frames than a turn takes, if they come so fast: vmm_test_net"},
    {JAIL_IO, "close", "a link whose other end goes first: vmm_test_console"},
    {JAIL_IO, "epoll_pwait", "other C libraries"},
    {JAIL_IO, "timerfd_settime", "rate limits: vmm_test_net"},
    {JAIL_IO, "ioctl arg1=TUNSETOFFLOAD", "TAP: vmm_test_net_tap"},
    {JAIL_DISK, "clock_gettime", "where the vDSO has no clock"},
    {JAIL_DISK, "write", "more requests than a batch takes, if they come so fast: vmm_test_blk"},
    {JAIL_DISK, "epoll_pwait", "other C libraries"},
    {JAIL_DISK, "timerfd_settime", "rate limits, full disks: vmm_test_blk"},
    {JAIL_DISK, "fdatasync", "durable disks: vmm_test_blk"},
    {JAIL_IO, "writev", "TAP: vmm_test_net_tap"},
    {JAIL_PAGER, "read", "faults, if they are faster: vmm_test_pager"},
    {JAIL_PAGER, "ioctl arg1=UFFDIO_WAKE", "faults, if they are faster: vmm_test_pager"},
    {JAIL_PAGER, "clock_gettime", "where the vDSO has no clock"},
};

static bool is_excused(enum jail_role role, const char *text)
{
    for (size_t i = 0; i < ARRAY_LEN(excused); i++)
        if (excused[i].role == role && strcmp(excused[i].rule, text) == 0) {
            printf("%-8s %-45s not seen: %s\n", jail_role_name(role), text, excused[i].why);
            return true;
        }
    return false;
}

static int print_missing(void)
{
    unsigned role, rule, missing = 0, seen = 0;
    for (role = 0; role < JAIL_ROLES; role++)
        for (rule = 0; rule < jail_filter_rules(role); rule++) {
            const char *text = jail_filter_rule_text(role, rule);
            if (used[role][rule])
                seen++;
            else if (!is_excused(role, text))
                missing += printf("%-8s %-45s is never used\n", jail_role_name(role), text) > 0;
        }
    printf("%u rules were used, %u never\n", seen, missing);
    return missing ? 1 : 0;
}

static void map_used(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const size_t bytes = JAIL_ROLES * sizeof *used;
    void *p = fd < 0 || ftruncate(fd, (off_t)bytes) < 0
                  ? MAP_FAILED
                  : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        perror(path);
        exit(125);
    }
    used = p;
    close(fd);
}

static void start_monitor(char *self)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/tinderbox-vmm-audit", dirname(self));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(126);
    raise(SIGSTOP);
    execl(path, "tinderbox-vmm", (char *)NULL);
    _exit(127);
}

/* The signal to pass on. */
static int on_stop(pid_t pid, int status)
{
    int signo = WSTOPSIG(status), event = status >> 16;
    unsigned long data = 0;
    if (event == PTRACE_EVENT_SECCOMP && ptrace(PTRACE_GETEVENTMSG, pid, NULL, &data) == 0) {
        unsigned role = (unsigned)data >> 8 & 255, rule = (unsigned)data & 255;
        if (role < JAIL_ROLES)
            used[role][rule] = 1;
    }
    return event || signo == SIGTRAP || signo == SIGSTOP ? 0 : signo;
}

static int follow(pid_t monitor)
{
    int status, end = 1;
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return end;
        if (WIFSTOPPED(status)) {
            ptrace(PTRACE_CONT, pid, NULL, (void *)(long)on_stop(pid, status));
        } else if (pid == monitor) {
            end = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}

int main(int argc, char **argv)
{
    char self[PATH_MAX];
    int status;
    map_used(AUDIT_FILE);
    used[JAIL_VCPU][0] = 1; /* KVM_RUN, which the filters do not tell */
    if (argc > 1 && strcmp(argv[1], "--missing") == 0)
        return print_missing();
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    pid_t monitor = fork();
    if (monitor == 0)
        start_monitor(self);
    for (int fd = 3; fd < 5; fd++)
        close(fd); /* its end must be seen when it ends */
    if (monitor < 0 || waitpid(monitor, &status, 0) < 0 || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, monitor, NULL, (void *)OPTIONS) < 0)
        return 125;
    ptrace(PTRACE_CONT, monitor, NULL, NULL);
    return follow(monitor);
}
