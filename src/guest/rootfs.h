/* SPDX-License-Identifier: Apache-2.0 */
/* The file system a container sees. Called in the child, before it becomes the command. */
#ifndef GUEST_ROOTFS_H
#define GUEST_ROOTFS_H

#include "base/err.h"
#include "guest/launch.h"

/* In a fresh mount namespace: makes l->root the root directory, with /proc, /sys and /dev of its
 * own and the files of GUEST_RUN_DIR lent to it; nothing of the agent's file system remains
 * reachable. */
int rootfs_enter(const struct launch *l, int sock, struct err *e) MUST_CHECK;
int rootfs_mkdir_p(const char *path) MUST_CHECK; /* 0755; 0 or -errno */

#endif
