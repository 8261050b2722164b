/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, names and lent files, for BOOT, RESUMED and builds. Blocking. */
#ifndef GUEST_BOOT_H
#define GUEST_BOOT_H

#include <stdbool.h>

#include "base/err.h"

int boot_check_hostname(const char *name, struct err *e) MUST_CHECK;
/* /dev/vd? of a slot; -ENOENT when the machine has no such disk. */
int boot_device(int slot, char path[16], struct err *e) MUST_CHECK;
/* Mounts a disk's ext4; one that may be written is grown to its disk first. */
int boot_mount(int slot, const char *at, bool read_only, struct err *e) MUST_CHECK;
/* Rewrites a file of GUEST_RUN_DIR in place: containers that have it mounted see it at once. */
int boot_lend(const char *name, const char *text, struct err *e) MUST_CHECK;
/* Keeps the files open from here on, so that rewriting them after a restore looks up no names. */
void boot_keep_lent(void);
int boot_lend_names(const char *hostname, struct err *e) MUST_CHECK; /* hostname and hosts */
int boot_lend_ids(const char *machine_id, const char *boot_id, struct err *e) MUST_CHECK;

#endif
