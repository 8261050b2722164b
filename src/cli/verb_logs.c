/* SPDX-License-Identifier: Apache-2.0 */
/* logs: what an application, or the last build of an image, wrote. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/builds.h"
#include "cli/client.h"
#include "cli/resolve.h"
#include "cli/wait.h"

struct options {
    bool follow, timestamps;
};

static const struct option_row rows[] = {
    {"follow", 'f', OPTION_FLAG, offsetof(struct options, follow), 0, 0, NULL,
     "go on until the log ends"},
    {"timestamps", 't', OPTION_FLAG, offsetof(struct options, timestamps), 0, 0, NULL,
     "with the time of each line"},
    {0},
};

static int run(struct cli *c, const void *options, const struct operands *args)
{
    const struct options *o = options;
    struct err e = {0};
    char what[ID_TEXT_MAX], build[ID_TEXT_MAX];
    enum resolve_kind kind;
    struct log_view view = {.follow = o->follow, .timestamps = o->timestamps};
    if (cli_connect(c, &e) < 0 || resolve_any(c, args->items[0], what, &kind, &e) < 0)
        return cli_fail(&e);
    if (kind == RESOLVE_IMAGE) {
        view.one_stream = true;
        if (build_latest(c, what, build, &e) < 0 || log_print(c, "build", build, &view, &e) < 0)
            return cli_fail(&e);
    } else if (log_print(c, "microvm", what, &view, &e) < 0) {
        return cli_fail(&e);
    }
    return EXIT_OK;
}

const struct verb verb_logs = {
    .name = "logs",
    .help = "print the log of a microVM, or of the last build of an image",
    .usage = "[-f] [-t] ID|IMAGE",
    .options = rows,
    .size = sizeof(struct options),
    .min = 1,
    .max = 1,
    .run = run,
};
