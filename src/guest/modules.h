/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules of the initramfs, loaded in the order a file gives. */
#ifndef GUEST_MODULES_H
#define GUEST_MODULES_H

#include <stddef.h>

#include "base/macros.h"

#define MODULES_DIR "/lib/modules"
#define MODULES_ORDER MODULES_DIR "/load.order"

/* One path per line; blank lines and '#' comments are skipped; a path that is not absolute is below
 * MODULES_DIR. Moves *text on and fills path; 0 at the end; lines that are too long or have ".."
 * in them are skipped. Pure. */
int modules_next(const char **text, char *path, size_t cap) MUST_CHECK;
/* Loads them all; one that fails is logged and does not stop the others. */
void modules_load(void);

#endif
