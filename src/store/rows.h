/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the store layer: how rows of images, versions and builds are read (images.c,
 * builds.c share them because a build's end changes all three). */
#ifndef STORE_ROWS_H
#define STORE_ROWS_H

#include "store/db.h"
#include "store/store.h"

extern const struct db_kind image_kind, version_kind, build_kind;

/* Column lists in the order the kinds read them. */
#define IMAGE_COLUMNS \
    "name, id, state, latest_active, latest_failed, next_version, tags, created_at, updated_at"
#define VERSION_COLUMNS \
    "image, number, state, status, config, state_reason, memory_mib, created_at, updated_at"
#define BUILD_COLUMNS                                                                             \
    "id, image, version, state, state_reason, memory_bytes, code_bytes, disk_bytes, created_at, " \
    "updated_at"

/* Inside a transaction: the row, or -ENOENT with a text. */
int image_row(struct db *db, const char *name, struct store_image *ret, struct err *e) MUST_CHECK;
int version_row(struct db *db, const char *name, int number, struct store_version *ret,
                struct err *e) MUST_CHECK;
int build_row(struct db *db, const char *id, struct store_build *ret, struct err *e) MUST_CHECK;

/* Inside a transaction: checked against the transition table; -EBUSY with a text. */
int image_change(struct db *db, const char *name, int from, enum image_state to,
                 struct err *e) MUST_CHECK;
/* Inside a transaction: latest_active and latest_failed follow the versions that exist. */
int image_follow_versions(struct db *db, const char *name, struct err *e) MUST_CHECK;
int version_change(struct db *db, const char *name, int number, int from, enum version_state to,
                   struct err *e) MUST_CHECK;
/* Inside a transaction: version PENDING with one build PENDING. */
int version_add(struct db *db, const char *name, int number, const char *config, int memory_mib,
                struct store_version *ver, struct store_build *build, struct err *e) MUST_CHECK;

#endif
