/* SPDX-License-Identifier: Apache-2.0 */
/* up: starts the daemon in the background and waits until it answers. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cli/client.h"
#include "cli/wait.h"

struct options {
    struct option_list set;
    bool foreground;
    long timeout_s;
};

static const struct options defaults = {.timeout_s = 60};

static const struct option_row rows[] = {
    {"set", 0, OPTION_LIST, offsetof(struct options, set), 0, 0, "KEY=VALUE",
     "a configuration value for this start"},
    {"foreground", 0, OPTION_FLAG, offsetof(struct options, foreground), 0, 0, NULL,
     "run the daemon in this terminal"},
    {"timeout", 0, OPTION_NUMBER, offsetof(struct options, timeout_s), 1, 3600, "S",
     "how long to wait until it answers (60)"},
    {0},
};

/* Beside this program, in the build tree next to it, in the installed layout, or in PATH. */
static void find_daemon(char out[PATH_MAX])
{
    static const char *const places[] = {"tinderboxd", "../daemon/tinderboxd",
                                         "../libexec/tinderbox/tinderboxd"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n < 0 ? 0 : n] = '\0';
    char *slash = strrchr(self, '/');
    for (size_t i = 0; slash && i < ARRAY_LEN(places); i++) {
        int m = snprintf(out, PATH_MAX, "%.*s/%s", (int)(slash - self), self, places[i]);
        if (m > 0 && m < PATH_MAX && access(out, X_OK) == 0)
            return;
    }
    snprintf(out, PATH_MAX, "tinderboxd");
}

static void exec_daemon(const struct cli *c, const struct options *o)
{
    char program[PATH_MAX];
    const char *argv[3 + 2 * OPTION_LIST_MAX + 1];
    size_t n = 0;
    find_daemon(program);
    argv[n++] = program;
    argv[n++] = "--home";
    argv[n++] = c->home;
    for (size_t i = 0; i < o->set.n; i++) {
        argv[n++] = "--set";
        argv[n++] = o->set.items[i];
    }
    argv[n] = NULL;
    execvp(program, (char *const *)argv);
    fprintf(stderr, "tinderbox: cannot start %s: %s\n", program, strerror(errno));
    _exit(127);
}

static int open_log(const struct cli *c, char path[600], struct err *e)
{
    char dir[600];
    int rc = path_join(dir, sizeof dir, c->home, "log", e);
    if (rc == 0)
        rc = fs_mkdir_p(dir, 0700, e);
    if (rc == 0)
        rc = path_join(path, 600, dir, "daemon.log", e);
    if (rc < 0)
        return rc;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return fd < 0 ? err_set_errno(e, errno, "cannot write %s", path) : fd;
}

/* The daemon leads its own session, so closing the terminal does not end it. It stays our child as
 * long as we wait, so that its early death is noticed. */
static pid_t start(const struct cli *c, const struct options *o, int log)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    setsid();
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    exec_daemon(c, o);
    _exit(127);
}

/* What the daemon wrote since it was started: the reason of its death. */
static void print_log_from(const char *path, off_t from)
{
    char chunk[4096];
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (end - from > (off_t)sizeof chunk)
        from = end - (off_t)sizeof chunk;
    ssize_t n = fd < 0 ? 0 : pread(fd, chunk, sizeof chunk, from);
    if (n > 0)
        fwrite(chunk, 1, (size_t)n, stderr);
}

static bool answers(struct cli *c)
{
    struct err e;
    return cli_connect(c, &e) == 0 &&
           client_call(c, "GET", "/tinderbox/v1/status", NULL, NULL, &e) == 0;
}

/* 0 answers, -ECHILD died, -ETIMEDOUT. */
static int wait_ready(struct cli *c, pid_t pid, long timeout_s)
{
    int64_t deadline = clock_mono_ms() + 1000 * timeout_s;
    while (clock_mono_ms() < deadline) {
        if (cli_daemon_alive(c) && c->pid == pid && answers(c))
            return 0;
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return -ECHILD;
        wait_ms(20);
    }
    return -ETIMEDOUT;
}

static void print_where(const struct cli *c)
{
    printf("Tinderbox %s is running (pid %d)\n", c->version, (int)c->pid);
    printf("  API        %s\n  S3         %s\n", c->api, c->s3);
    printf("  endpoints  https://<id>.%s:%ld\n", c->domain, c->endpoint_port);
    printf("  data       %s\n", c->home);
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    (void)args;
    const struct options *o = options;
    struct err e = {0};
    char path[600] = "";
    if (cli_daemon_alive(c)) {
        print_where(c);
        return EXIT_OK;
    }
    if (o->foreground)
        exec_daemon(c, o);
    CLEANUP(cleanup_close)
    int log = open_log(c, path, &e);
    if (log < 0)
        return cli_fail(&e);
    off_t from = lseek(log, 0, SEEK_END);
    pid_t pid = start(c, o, log);
    if (pid < 0) {
        err_set_errno(&e, errno, "cannot start a process");
        return cli_fail(&e);
    }
    int rc = wait_ready(c, pid, o->timeout_s);
    if (rc == 0) {
        print_where(c);
        return EXIT_OK;
    }
    print_log_from(path, from);
    if (rc == -ECHILD)
        fprintf(stderr, "tinderbox: the daemon could not start; its log is %s\n", path);
    else
        fprintf(stderr,
                "tinderbox: the daemon (pid %d) does not answer after %ld s; its log is %s\n",
                (int)pid, o->timeout_s, path);
    return EXIT_FAIL;
}

const struct verb verb_up = {
    .name = "up",
    .help = "start the service in the background",
    .usage = "[--set KEY=VALUE]... [--foreground]",
    .options = rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .run = run,
};
