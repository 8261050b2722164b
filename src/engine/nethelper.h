/* SPDX-License-Identifier: Apache-2.0 */
/* Starts tinderbox-net beside a machine. Any thread; blocking. */
#ifndef ENGINE_NETHELPER_H
#define ENGINE_NETHELPER_H

#include "base/proc.h"
#include "engine/engine.h"

struct nethelper {
    const char *helper_dir; /* where the program is */
    const char *id;         /* of the machine, for error texts */
    const struct net_policy *policy;
    int stream; /* its end of the pair that carries frames; borrowed */
    int err;    /* its stderr; borrowed */
};

/* *stats_fd: its counters (net/stats.h), owned by the caller. */
int nethelper_spawn(const struct nethelper *h, struct proc *ret, int *stats_fd,
                    struct err *e) MUST_CHECK;

#endif
