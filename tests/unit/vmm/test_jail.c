/* SPDX-License-Identifier: Apache-2.0 */
/* Each case runs in a child, since there is no way back out of a jail. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/jail/filter_table.h"
#include "vmm/jail/jail.h"

#define TASKS 5
#define CALLS 470 /* more than x86-64 has today */

static int in_child(int (*body)(void *), void *arg)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGILL, SIG_DFL); /* cmocka has handlers */
        signal(SIGSYS, SIG_DFL);
        _exit(body(arg));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool file_opens(const char *path)
{
    int fd = open(path, O_RDONLY);
    return fd >= 0;
}

/* Copies that exist at the same time, a hundred at most. */
static unsigned count_forks(void)
{
    pid_t pid[100];
    unsigned n = 0;
    while (n < ARRAY_LEN(pid) && (pid[n] = fork()) > 0)
        n++;
    if (n < ARRAY_LEN(pid) && pid[n] == 0)
        for (;;)
            pause();
    for (unsigned i = 0; i < n; i++) {
        kill(pid[i], SIGKILL);
        waitpid(pid[i], NULL, 0);
    }
    return n;
}

static int jailed(void *arg)
{
    (void)arg;
    struct err e = {0};
    int kept = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (jail_enter(&e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        return 100;
    }
    if (file_opens("/etc/passwd") || file_opens("/proc/self/maps") || file_opens("/usr/bin/env"))
        return 1;
    if (mkdirat(AT_FDCWD, "/x", 0700) == 0 || open("/x", O_CREAT | O_WRONLY, 0600) >= 0)
        return 2;
    if (geteuid() == 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
        prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        return 3;
    if (setuid(0) == 0 || unshare(CLONE_NEWNET) == 0)
        return 4;
    char text[4096];
    ssize_t n = read(kept, text, sizeof text - 1); /* what was open stays usable */
    text[n > 0 ? n : 0] = '\0';
    if (!strstr(text, "CapEff:\t0000000000000000") || !strstr(text, "CapBnd:\t0000000000000000") ||
        !strstr(text, "CapPrm:\t0000000000000000"))
        return 5;
    /* A network of its own, without so much as a loopback that is up. */
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (s < 0)
        return 6;
    if (jail_limit(1 << 20, 1 << 20, TASKS, &e) < 0)
        return 7;
    return getuid() == 0 || count_forks() == TASKS - 1 ? 0 : 8;
}

static void test_enter(void **state)
{
    (void)state;
    int status = in_child(jailed, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 100)
        skip(); /* no user namespaces here, and not root: the reason is on stderr */
    assert_int_equal(status, 0);
}

static void test_page_map_hides_addresses(void **state)
{
    (void)state;
    static volatile char page[4096];
    uint64_t entry = 0;
    page[0] = 1;
    int fd = jail_open_pagemap();
    assert_true(fd >= 0);
    off_t at = (off_t)((uintptr_t)page / 4096 * sizeof entry);
    assert_int_equal(pread(fd, &entry, sizeof entry, at), sizeof entry);
    assert_int_equal(entry >> 63, 1);
    assert_int_equal(entry & ((UINT64_C(1) << 55) - 1), 0);
    close(fd);
}

static bool listed(enum jail_role role, long call)
{
    for (unsigned i = 0; i < jail_filter_rules(role); i++) {
        const struct filter_rule *const tables[] = {filter_control, filter_vcpu, filter_io,
                                                    filter_disk, filter_pager};
        if (tables[role][i].call == call)
            return true;
    }
    return false;
}

struct attempt {
    enum jail_role role;
    unsigned except;
    long call, arg[6];
};

static int attempt(void *arg)
{
    const struct attempt *a = arg;
    struct err e = {0};
    signal(SIGILL, SIG_DFL); /* a sanitizer's handler makes calls of its own */
    if (jail_filter_except(a->role, a->except, &e) < 0)
        return 100;
    long arg0 = a->call == SYS_tgkill && a->arg[0] == (long)SELF ? getpid() : a->arg[0];
    syscall(a->call, arg0, a->arg[1], a->arg[2], a->arg[3], a->arg[4], a->arg[5]);
    /* SIGILL: not every role may end by a system call. Not __builtin_trap(): before what does not
     * return a sanitizer asks for the signal stack. */
    __asm__ volatile("ud2");
    return 0;
}

static bool killed(struct attempt a)
{
    int status = in_child(attempt, &a);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void test_every_call_outside_a_list_kills(void **state)
{
    (void)state;
    for (enum jail_role role = 0; role < JAIL_ROLES; role++)
        for (long call = 0; call < CALLS; call++) {
            /* With an argument that no call can do harm with, should one get through. */
            struct attempt a = {role, UINT32_MAX, call, {-1, -1, -1, -1, -1, -1}};
            if (listed(role, call))
                continue;
            /* uretprobe and uprobe: the kernel takes them for its own trampolines and asks no
             * filter; anybody else gets SIGILL. */
            if (call == 335 || call == 336)
                continue;
            if (!killed(a))
                fail_msg("%s: system call %ld does not kill", jail_role_name(role), call);
        }
}

/* -1 as a descriptor fails whatever the call; the conditions of the rule are met. */
static struct attempt meeting(enum jail_role role, const struct filter_rule *r)
{
    struct attempt a = {role, UINT32_MAX, r->call, {-1, 0, 0, 0, 0, 0}};
    for (unsigned i = 0; i < r->n; i++)
        a.arg[r->condition[i].argument] = (long)r->condition[i].value;
    return a;
}

/* Calls that would block, end or crash a child that makes them with such arguments. */
static bool not_harmless(const struct filter_rule *r)
{
    static const int calls[] = {SYS_exit,   SYS_exit_group, SYS_rt_sigreturn, SYS_poll,
                                SYS_munmap, SYS_clone,      SYS_wait4,        SYS_brk,
                                SYS_futex,  SYS_mprotect};
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        if (r->call == calls[i])
            return true;
    return false;
}

static void test_every_rule_allows_what_it_says_and_nothing_else_does(void **state)
{
    (void)state;
    const struct filter_rule *const tables[] = {filter_control, filter_vcpu, filter_io, filter_disk,
                                                filter_pager};
    for (enum jail_role role = 0; role < JAIL_ROLES; role++)
        for (unsigned i = 0; i < jail_filter_rules(role); i++) {
            const struct filter_rule *r = &tables[role][i];
            struct attempt a = meeting(role, r);
            if (not_harmless(r))
                continue;
            if (killed(a))
                fail_msg("%s: '%s' kills", jail_role_name(role), r->text);
            a.except = i; /* no other rule covers it: the rule is not there twice */
            if (!killed(a))
                fail_msg("%s: '%s' is allowed without its rule", jail_role_name(role), r->text);
            for (unsigned c = 0; c < r->n; c++) {
                const struct filter_condition *k = &r->condition[c];
                a = meeting(role, r);
                a.arg[k->argument] = k->mask == UINT32_MAX ? 0x7f4dbeef : k->value ^ k->mask;
                if (!killed(a))
                    fail_msg("%s: '%s' does not look at argument %u", jail_role_name(role), r->text,
                             k->argument);
            }
        }
}

/* Memory that can be run, or that no limit counts. */
static void test_memory_that_cannot_be_had(void **state)
{
    (void)state;
    const long any = MAP_ANONYMOUS, rw = PROT_READ | PROT_WRITE;
    const long bad[][2] = {{rw | PROT_EXEC, any | MAP_PRIVATE},
                           {rw, any | MAP_SHARED},
                           {rw, any | MAP_SHARED_VALIDATE},
                           {rw, any | MAP_PRIVATE | MAP_GROWSDOWN},
                           {rw, any | MAP_PRIVATE | MAP_HUGETLB}};
    struct attempt a = {
        JAIL_CONTROL, UINT32_MAX, SYS_mmap, {0, 4096, rw, any | MAP_PRIVATE, -1, 0}};
    assert_false(killed(a));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        a.arg[2] = bad[i][0];
        a.arg[3] = bad[i][1];
        assert_true(killed(a));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enter),
        cmocka_unit_test(test_page_map_hides_addresses),
        cmocka_unit_test(test_every_call_outside_a_list_kills),
        cmocka_unit_test(test_every_rule_allows_what_it_says_and_nothing_else_does),
        cmocka_unit_test(test_memory_that_cannot_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
