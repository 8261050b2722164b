/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/nethelper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/argv.h"
#include "engine/fds.h"

static int policy_file(const struct net_policy *policy)
{
    CLEANUP(cleanup_json)
    json_t *v = net_policy_to_json(policy);
    CLEANUP(cleanup_free)
    char *text = v ? json_text(v) : NULL;
    return text ? fds_memory("policy", text, strlen(text)) : -ENOMEM;
}

/* It takes its own rights away (user, capabilities, files, system calls): it needs the host's
 * network, so a sandbox around it would add little. */
int nethelper_spawn(const struct nethelper *h, struct proc *ret, int *stats_fd, struct err *e)
{
    CLEANUP(cleanup_close)
    int policy = policy_file(h->policy);
    *stats_fd = fds_memory("stats", "", 0);
    if (policy < 0 || *stats_fd < 0)
        return err_set(e, ENOMEM, "network policy of machine %s", h->id);
    struct argv a = {0};
    argv_addf(&a, "%s/tinderbox-net", h->helper_dir);
    static const char *const args[] = {"--fd", "3", "--policy-fd", "4", "--stats-fd", "5"};
    for (size_t i = 0; i < ARRAY_LEN(args); i++)
        argv_add(&a, args[i]);
    struct proc_spec s = {.argv = argv_end(&a, e),
                          .fds = {{h->err, 2}, {h->stream, 3}, {policy, 4}, {*stats_fd, 5}},
                          .n_fds = 4};
    int r = s.argv ? proc_spawn(&s, ret, e) : -ENOMEM;
    argv_done(&a);
    return r;
}
