/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/transition.h"

#include <stdio.h>

#include "cli/client.h"
#include "cli/resolve.h"
#include "cli/wait.h"

const struct option_row transition_rows[] = {
    {"no-wait", 0, OPTION_FLAG, offsetof(struct transition_options, no_wait), 0, 0, NULL,
     "return once it is under way"},
    {0},
};

static int change(struct cli *c, const char *text, const char *action, const char *state,
                  bool no_wait, struct err *e)
{
    char id[ID_TEXT_MAX], path[1024];
    int rc = resolve_microvm(c, text, id, e);
    if (rc == 0)
        rc = client_path(path, sizeof path, "/2025-09-09/microvms/", id, action, e);
    if (rc == 0)
        rc = client_call(c, "POST", path, NULL, NULL, e);
    if (rc == 0 && !no_wait)
        rc = microvm_wait(c, id, state, 300, NULL, e);
    if (rc == 0)
        printf("%s\n", id);
    return rc;
}

int transition_run(const char *action, const char *state, struct cli *c,
                   const struct transition_options *o, const struct operands *args)
{
    struct err e = {0};
    if (cli_connect(c, &e) < 0)
        return cli_fail(&e);
    int code = EXIT_OK;
    for (size_t i = 0; i < args->n; i++) {
        if (change(c, args->items[i], action, state, o->no_wait, &e) < 0)
            code = cli_fail(&e);
    }
    return code;
}
