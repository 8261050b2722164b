/* SPDX-License-Identifier: Apache-2.0 */
/* suspend: freezes microVMs to disk. */
#include "cli/transition.h"

static int run(struct cli *c, const void *options, const struct operands *args)
{
    return transition_run("/suspend", "SUSPENDED", c, options, args);
}

const struct verb verb_suspend = {
    .name = "suspend",
    .help = "freeze running microVMs to disk",
    .usage = "[--no-wait] ID...",
    .options = transition_rows,
    .size = sizeof(struct transition_options),
    .min = 1,
    .max = OPERANDS_MAX,
    .run = run,
};
