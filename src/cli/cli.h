/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every verb shares: the table of verbs, where the service is, exit codes. One verb per file;
 * each exports one struct verb. Single-threaded; everything blocks.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "auth/sigv4.h"
#include "cli/options.h"

enum { EXIT_OK = 0, EXIT_FAIL = 1, EXIT_USAGE = 2 };

struct cli {
    /* from the options every verb has */
    const char *home_option;
    bool remote, help;

    char home[512];
    /* filled by cli_connect() */
    char api[256], s3[256]; /* base URLs without a trailing slash */
    char region[65], account[13];
    char domain[200], endpoint_address[64];
    long endpoint_port;
    char ca[600]; /* PEM of the endpoint's authority; "" = the system's */
    char version[32];
    pid_t pid;
    struct sigv4_credential credential;
};

struct verb {
    const char *name;
    const char *help;                 /* one line */
    const char *usage;                /* what follows "tinderbox <name>" */
    const struct option_row *options; /* NULL = none */
    size_t size;                      /* of the structure the options fill */
    const void *defaults;             /* its start values; NULL = zeroes */
    size_t stop_after;                /* see options_parse() */
    size_t min, max;                  /* operands */
    int (*run)(struct cli *c, const void *options, const struct operands *args);
};

extern const struct verb verb_doctor, verb_up, verb_down, verb_status, verb_env, verb_build,
    verb_images, verb_run, verb_ps, verb_logs, verb_exec, verb_curl, verb_token, verb_suspend,
    verb_resume, verb_rm, verb_cp;

extern const struct verb *const cli_verbs[];
extern const size_t cli_n_verbs;
extern const struct option_row cli_common_options[];

/* Parses and runs a whole command line; returns the exit code. */
int cli_main(int argc, const char *const *argv);

/* --home, TINDERBOX_HOME, ${XDG_DATA_HOME:-~/.local/share}/tinderbox; absolute. */
int cli_find_home(struct cli *c, struct err *e) MUST_CHECK;
/* Reads run/daemon.json and the keys below home; with --remote the AWS_* environment. -ENOTCONN
 * with what to do when no daemon runs. */
int cli_connect(struct cli *c, struct err *e) MUST_CHECK;
/* Whether the daemon that run/daemon.json names lives; fills c->pid and the addresses when it does.
 */
bool cli_daemon_alive(struct cli *c);

/* "tinderbox: <text>" on stderr; returns EXIT_FAIL. */
int cli_fail(const struct err *e);

#endif
