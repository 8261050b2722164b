/* SPDX-License-Identifier: Apache-2.0 */
/* down: ends the daemon; running microVMs are suspended first and can be resumed after the next up.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/cli.h"

struct options {
    long timeout_s;
    bool force;
};

static const struct options defaults = {.timeout_s = 120};

static const struct option_row rows[] = {
    {"timeout", 0, OPTION_NUMBER, offsetof(struct options, timeout_s), 1, 3600, "S",
     "how long to wait (120)"},
    {"force", 0, OPTION_FLAG, offsetof(struct options, force), 0, 0, NULL,
     "kill it when it does not end in time; microVMs that run are lost"},
    {0},
};

static int pidfd_signal(int fd, int signo)
{
    return (int)syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0);
}

static bool ended(int fd, long timeout_s)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, (int)(timeout_s * 1000)) == 1;
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    (void)args;
    const struct options *o = options;
    struct err e = {0};
    if (!cli_daemon_alive(c)) {
        printf("Tinderbox is not running in %s\n", c->home);
        return EXIT_OK;
    }
    /* The descriptor names this process, even when its number is used again. */
    CLEANUP(cleanup_close)
    int fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    if (fd < 0 || !cli_daemon_alive(c) || pidfd_signal(fd, SIGTERM) < 0) {
        if (errno == ESRCH)
            return EXIT_OK;
        err_set_errno(&e, errno, "cannot stop process %d", (int)c->pid);
        return cli_fail(&e);
    }
    if (!ended(fd, o->timeout_s)) {
        if (!o->force) {
            err_set(&e, ETIMEDOUT,
                    "process %d has not ended after %ld s; try again, or 'tinderbox down --force'",
                    (int)c->pid, o->timeout_s);
            return cli_fail(&e);
        }
        pidfd_signal(fd, SIGKILL);
        ended(fd, 10);
    }
    printf("Tinderbox has stopped\n");
    return EXIT_OK;
}

const struct verb verb_down = {
    .name = "down",
    .help = "stop the service; running microVMs are suspended and kept",
    .usage = "[--timeout S] [--force]",
    .options = rows,
    .size = sizeof(struct options),
    .defaults = &defaults,
    .run = run,
};
