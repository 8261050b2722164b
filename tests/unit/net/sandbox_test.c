/* SPDX-License-Identifier: Apache-2.0 */
/* Each test enters the sandbox in a child and tries something there. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "net/sandbox.h"
#include "net/syscalls.h"

static char directory[] = "/tmp/tbnet-sandbox-XXXXXX";
static char allowed[64];

/* What the child does in the sandbox; its result is the exit code. */
typedef int attempt_fn(void);

/* Exit code, or 1000 + signal. */
static int in_sandbox(attempt_fn *attempt)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct err e;
        if (net_sandbox_enter(allowed, &e) < 0) {
            fprintf(stderr, "%s\n", e.text);
            _exit(99);
        }
        _exit(attempt());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int try_open(const char *path, int flags)
{
    int fd = openat(AT_FDCWD, path, flags);
    return fd >= 0 ? 0 : errno;
}

static int open_allowed(void)
{
    int rc = try_open(allowed, O_RDONLY | O_CLOEXEC);
    return rc == EACCES ? 0 : rc; /* without Landlock not even this */
}

static int open_other(void)
{
    return try_open("/proc/self/status", O_RDONLY | O_CLOEXEC);
}

static int open_writable(void)
{
    return try_open(allowed, O_RDWR | O_CLOEXEC);
}

static int make_tcp_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : errno;
}

static int make_raw_socket(void)
{
    return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0 ? 0 : errno;
}

static int make_unix_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : errno;
}

static int make_netlink_socket(void)
{
    return socket(AF_NETLINK, SOCK_DGRAM, 0) >= 0 ? 0 : errno;
}

static int run_program(void)
{
    execl("/bin/true", "true", NULL);
    return errno;
}

static int start_process(void)
{
    return fork() >= 0 ? 0 : errno;
}

static int map_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? errno
               : 0;
}

static int use_memory(void)
{
    char *p = malloc(1 << 20);
    if (!p)
        return ENOMEM;
    memset(p, 1, 1 << 20);
    free(p);
    return 0;
}

static int exhaust_memory(void)
{
    for (int i = 0; i < 1024; i++)
        if (!malloc(1 << 20))
            return ENOMEM;
    return 0;
}

static void attempts(void **state)
{
    static const struct {
        const char *what;
        attempt_fn *fn;
        int wanted;
    } rows[] = {
        {"open the allowed file", open_allowed, 0},
        {"open another file", open_other, EACCES},
        {"open for writing", open_writable, EACCES},
        {"TCP socket", make_tcp_socket, 0},
        {"raw socket", make_raw_socket, EPERM},
        {"UNIX socket", make_unix_socket, 1000 + SIGSYS},
        {"netlink socket", make_netlink_socket, 1000 + SIGSYS},
        {"exec", run_program, 1000 + SIGSYS},
        {"fork", start_process, 1000 + SIGSYS},
        {"executable memory", map_code, 1000 + SIGSYS},
        {"memory", use_memory, 0},
        {"too much memory", exhaust_memory, ENOMEM},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int got = in_sandbox(rows[i].fn);
        if (got != rows[i].wanted)
            fail_msg("%s: %d instead of %d", rows[i].what, got, rows[i].wanted);
    }
}

static void table_is_consistent(void **state)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    (void)state;
    assert_non_null(ctx);
    for (unsigned i = 0; i < net_syscalls_n; i++) {
        const struct net_syscall *row = &net_syscalls[i];
        assert_true(row->why && row->why[0]);
        int nr = seccomp_syscall_resolve_name(row->name);
        if (nr == __NR_SCMP_ERROR)
            fail_msg("no system call is called %s", row->name);
        int rc = seccomp_rule_add_array(ctx, row->action, nr, row->n_args, row->args);
        if (rc < 0)
            fail_msg("%s: %s", row->name, strerror(-rc));
        for (unsigned k = 0; k < i; k++) /* a row without conditions swallows the others */
            if (strcmp(net_syscalls[k].name, row->name) == 0)
                assert_true(row->n_args && net_syscalls[k].n_args);
    }
    seccomp_release(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_consistent),
        cmocka_unit_test(attempts),
    };
    struct err e;
    if (!mkdtemp(directory))
        return 1;
    snprintf(allowed, sizeof allowed, "%s/resolv.conf", directory);
    if (chmod(directory, 0755) < 0 || fs_write_file(allowed, "x", 1, 0644, &e) < 0)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    (void)!fs_remove_tree(directory, &e);
    return rc;
}
