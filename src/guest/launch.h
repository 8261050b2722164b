/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a process the way Docker does: as PID 1 of a new container, or inside a running one.
 * Everything after the fork happens in the child; what it has to say (its pid as we see it, the
 * terminal, mount points it had to make, why it failed) comes over a socket that exec closes.
 */
#ifndef GUEST_LAUNCH_H
#define GUEST_LAUNCH_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"
#include "guest/ev.h"

enum launch_where {
    LAUNCH_NEW,  /* new mount, pid, uts, ipc and cgroup namespaces around root */
    LAUNCH_JOIN, /* the namespaces of join_pid */
    LAUNCH_HERE, /* ours: tests */
};

struct launch {
    enum launch_where where;
    const char *root;       /* NEW: mount point of the root file system */
    const char *hostname;   /* NEW */
    bool build;             /* NEW: leave no trace in root; report what had to be made */
    bool have_ca;           /* NEW: lend the CA bundle and name it in the environment */
    pid_t join_pid;         /* JOIN */
    const char *cgroup;     /* NEW, JOIN: directory the process moves to, NULL = stay */
    char **argv, **env;     /* NULL-terminated, owned (launch_parse, launch_done) */
    const char *cwd, *user; /* borrowed from the JSON spec; NULL = "/" and root */
    bool make_cwd;
    bool all_caps;
    bool tty;
    unsigned short cols, rows;
    int fds[3]; /* the child's 0, 1, 2, borrowed; unused with tty */
};

/* args, env, cwd, user, tty, cols, rows of a spec. base_env (may be NULL) is what env adds to.
 * The spec must outlive l. -EINVAL. */
int launch_parse(struct launch *l, const json_t *spec, char *const *base_env,
                 struct err *e) MUST_CHECK;
void launch_done(struct launch *l);
/* Copy of a NULL-terminated list in one allocation; aborts without memory. */
char **launch_copy_list(char *const *list);

struct launched {
    struct ev *ev;
    pid_t pid;       /* ours to signal while > 0; its process group has the same number */
    int tty_master;  /* tty: owned, taken by the user in on_started */
    struct buf made; /* build: NUL-separated paths the child had to make, outermost first */
    void (*on_started)(struct launched *l, const char *error); /* NULL = exec succeeded */
    void (*on_exit)(struct launched *l, int status);           /* after a good start only */
    /* internal */
    struct ev_io sock;
    struct ev_child child;
    bool started, exited;
    int status;
    char error[ERR_TEXT_MAX];
};

/* l may be released as soon as this returned. */
int launch_start(struct ev *ev, const struct launch *l, struct launched *out,
                 struct err *e) MUST_CHECK;
void launch_signal(const struct launched *l, int signo); /* to the process group */
void launch_forget(struct launched *l);                  /* no more callbacks */

/* In the child, in the target's root: becomes the command. Returns only on failure. */
int launch_exec(const struct launch *l, int sock, struct err *e);
void launch_say(int sock, char kind, const void *p, size_t n, int fd);

#endif
