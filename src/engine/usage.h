/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine's process uses, from /proc, its disks and its network counters. Blocking. */
#ifndef ENGINE_USAGE_H
#define ENGINE_USAGE_H

#include <sys/types.h>

#include "engine/engine.h"

/* Processor time and memory of the process. */
int usage_process(pid_t pid, struct engine_stats *ret, struct err *e) MUST_CHECK;
uint64_t usage_file(const char *path); /* bytes allocated; 0 when it is not there */
/* stats_fd: tinderbox-net's counters, -1 = none. */
void usage_network(int stats_fd, struct engine_stats *ret);

#endif
