/* SPDX-License-Identifier: Apache-2.0 */
/* Tar files for cp. One that comes from a microVM is hostile. Blocking; one thread. */
#ifndef CLI_TAR_H
#define CLI_TAR_H

#include <stdbool.h>

#include "base/err.h"

/* Writes src (a file, link or directory) to fd as a tar whose topmost member is called name; "."
 * when it is to become the contents of the target. Owners are 0:0 unless archive. */
int tar_make(int fd, const char *src, const char *name, bool archive, struct err *e) MUST_CHECK;
/* Whether the first member is a directory. */
int tar_is_dir(int fd, bool *ret, struct err *e) MUST_CHECK;
/* Unpacks into dir with the topmost member called name. Nothing is written outside of dir, and
 * nothing through a link. archive: also owners, set-id bits and device files. Changes the working
 * directory. -EBADMSG for members that belong to another tree. */
int tar_unpack(int fd, const char *dir, const char *name, bool archive, struct err *e) MUST_CHECK;

#endif
