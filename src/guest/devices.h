/* SPDX-License-Identifier: Apache-2.0 */
/* Cgroups of the containers, and the device program on them that keeps the channel out of reach. */
#ifndef GUEST_DEVICES_H
#define GUEST_DEVICES_H

#include <stdbool.h>

#include "base/err.h"

/* Makes the cgroup at path (if missing) with a limit on tasks and a device program. Default
 * capabilities: only Docker's devices may be opened (mknod stays allowed, as there). all: anything
 * but memory, I/O ports, kernel log writing through /dev/kmsg excepted, and the major number of
 * virtio ports. */
int devices_make_cgroup(const char *path, bool all, struct err *e) MUST_CHECK;

#endif
