/* SPDX-License-Identifier: Apache-2.0 */
/* What suspend and resume have in common: ask for a change of state of each microVM named, and wait
 * until it is there unless told not to. */
#ifndef CLI_TRANSITION_H
#define CLI_TRANSITION_H

#include "cli/cli.h"

struct transition_options {
    bool no_wait;
};

extern const struct option_row transition_rows[];

/* action: the last part of the API's path; state: what it ends in. An exit code, as a verb's run.
 */
int transition_run(const char *action, const char *state, struct cli *c,
                   const struct transition_options *o, const struct operands *args);

#endif
