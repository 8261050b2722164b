/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for the service: states of microVMs, and logs as they grow. */
#ifndef CLI_WAIT_H
#define CLI_WAIT_H

#include "base/json.h"
#include "cli/cli.h"

void wait_ms(long ms);

/* GetMicrovm. */
int microvm_describe(struct cli *c, const char *id, json_t **ret, struct err *e) MUST_CHECK;
/* Polls until the VM is in the state. -EIO with the VM's reason when it ends otherwise, -ETIMEDOUT.
 * *ret (may be NULL): the description at the end. */
int microvm_wait(struct cli *c, const char *id, const char *state, int timeout_s, json_t **ret,
                 struct err *e) MUST_CHECK;

/* How log lines are printed. */
struct log_view {
    bool follow;     /* until the log has ended */
    bool timestamps; /* keep them */
    bool one_stream; /* everything to stdout */
    bool missing_ok; /* a log that does not exist yet is waited for (30 s) */
};
/* Prints the log "build" or "microvm" of this id. */
int log_print(struct cli *c, const char *kind, const char *key, const struct log_view *v,
              struct err *e) MUST_CHECK;

/* "<RFC 3339> <o|e> <text>" taken apart; false for a line of another form (pure, for tests). */
bool log_split(struct slice line, struct slice *time, char *stream, struct slice *text);

#endif
