/* SPDX-License-Identifier: Apache-2.0 */
/* resume: thaws suspended microVMs. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/resolve.h"
#include "cli/wait.h"

struct options {
    bool no_wait;
};

static const struct option_row rows[] = {
    {"no-wait", 0, OPTION_FLAG, offsetof(struct options, no_wait), 0, 0, NULL,
     "return once it is under way"},
    {0},
};

static int resume(struct cli *c, const char *text, bool no_wait, struct err *e)
{
    char id[ID_TEXT_MAX], path[1024];
    int rc = resolve_microvm(c, text, id, e);
    if (rc == 0)
        rc = client_path(path, sizeof path, "/2025-09-09/microvms/", id, "/resume", e);
    if (rc == 0)
        rc = client_call(c, "POST", path, NULL, NULL, e);
    if (rc == 0 && !no_wait)
        rc = microvm_wait(c, id, "RUNNING", 300, NULL, e);
    if (rc == 0)
        printf("%s\n", id);
    return rc;
}

static int run(struct cli *c, const void *options, const struct operands *args)
{
    const struct options *o = options;
    struct err e = {0};
    if (cli_connect(c, &e) < 0)
        return cli_fail(&e);
    int code = EXIT_OK;
    for (size_t i = 0; i < args->n; i++) {
        if (resume(c, args->items[i], o->no_wait, &e) < 0)
            code = cli_fail(&e);
    }
    return code;
}

const struct verb verb_resume = {
    .name = "resume",
    .help = "thaw suspended microVMs",
    .usage = "[--no-wait] ID...",
    .options = rows,
    .size = sizeof(struct options),
    .min = 1,
    .max = OPERANDS_MAX,
    .run = run,
};
