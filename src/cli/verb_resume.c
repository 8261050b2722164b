/* SPDX-License-Identifier: Apache-2.0 */
/* resume: thaws suspended microVMs. */
#include "cli/transition.h"

static int run(struct cli *c, const void *options, const struct operands *args)
{
    return transition_run("/resume", "RUNNING", c, options, args);
}

const struct verb verb_resume = {
    .name = "resume",
    .help = "thaw suspended microVMs",
    .usage = "[--no-wait] ID...",
    .options = transition_rows,
    .size = sizeof(struct transition_options),
    .min = 1,
    .max = OPERANDS_MAX,
    .run = run,
};
