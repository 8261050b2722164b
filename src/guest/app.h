/* SPDX-License-Identifier: Apache-2.0 */
/* The application: the one container of the machine. */
#ifndef GUEST_APP_H
#define GUEST_APP_H

#include "guest/launch.h"
#include "guest/logring.h"
#include "guest/session.h"

enum app_state { APP_NONE, APP_STARTING, APP_RUNNING, APP_ENDED };

struct app_pipe {
    struct ev_io io;
    struct app *app;
    int fd_number; /* 1 or 2 */
};

struct waiter;

struct app {
    enum app_state state;
    struct launched proc;
    pid_t pid; /* in our pid namespace, while it runs */
    bool all_caps;
    char **env;       /* owned: what exec adds to */
    char *cwd, *user; /* owned; NULL = default */
    int exit_code, exit_signal;
    struct app_pipe out[2];
    struct stream *starting; /* waits for START's result; NULL when it went away */
    struct stream *logs;     /* the one reader */
    struct waiter *waiters;
    struct logring ring;
};

/* WIFEXITED/WIFSIGNALED status -> {exitCode, signal}; a signal counts as 128 + signal as in Docker.
 */
json_t *app_exit_json(int status, int *exit_code, int *exit_signal);

#endif
