/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of machines by cgroup v2 (Linux Documentation/admin-guide/cgroup-v2.rst): one child of a
 * directory of ours per machine, with processor, memory and task limits. Where there is no such
 * directory machines have process limits only.
 *
 * A machine's processes join when they exist already: creating a VM inside a cgroup is slower. Any
 * thread.
 */
#ifndef ENGINE_CGROUP_H
#define ENGINE_CGROUP_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct cgroup;

struct cgroup_limits {
    uint64_t memory_bytes; /* hard */
    unsigned cpus;         /* whole processors */
    unsigned tasks;
};

/* path: "auto" (a directory "tinderbox" in the mounted hierarchy, if this process may make it; *ret
 * is NULL otherwise), "none" (*ret is NULL), or a directory of a cgroup v2 hierarchy, which must
 * work: -ENOENT, -EACCES, -ENOTSUP with what is wrong. */
int cgroup_open(const char *path, struct cgroup **ret, struct err *e) MUST_CHECK;
void cgroup_close(struct cgroup *c); /* NULL is fine */

/* Makes the child id and moves the processes there. c NULL: nothing. pids of 0 are skipped. */
int cgroup_enter(struct cgroup *c, const char *id, const struct cgroup_limits *l, const pid_t *pids,
                 unsigned n, struct err *e) MUST_CHECK;
/* Its processes have ended. */
void cgroup_leave(struct cgroup *c, const char *id);

#endif
