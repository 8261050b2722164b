/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's durable truth: one SQLite database (WAL, synchronous=FULL, foreign keys). Every
 * function is one transaction, committed before it returns. Any thread but the loop's; an internal
 * lock serialises writers.
 *
 * Strings in rows are owned by the row: store_*_done() frees them (zeroed rows are fine). Times are
 * Unix milliseconds, 0 = unset. JSON columns hold compact JSON text, NULL = unset.
 *
 * Errors: -ENOENT no such row, -EEXIST unique name taken, -EBUSY the row was not in the expected
 * state, -ENOSPC / -EIO from the database, -EAGAIN another process held it for too long. A failed
 * function changed nothing. Row pointers for results may be NULL where a function fills several.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "store/states.h"

struct store;

/* Opens or creates (0600), runs migrations, forgets client tokens without a result. -EPROTO when
 * made by a newer version or another program; the file is untouched then. */
int store_open(const char *path, struct store **ret, struct err *e) MUST_CHECK;
void store_close(struct store *s);

/* ---- images ---------------------------------------------------------------------------------- */

struct store_image {
    char *name;
    char id[UUID_LEN + 1];
    enum image_state state;
    int latest_active; /* version number, 0 = none */
    int latest_failed;
    int next_version; /* number the next version gets */
    char *tags;       /* JSON object */
    int64_t created_at, updated_at;
};

struct store_version {
    char *image; /* name */
    int number;  /* "N.0" on the wire */
    enum version_state state;
    enum version_status status;
    char *config; /* JSON object: the create/update input minus name, tags, clientToken */
    char *state_reason;
    int memory_mib;
    int64_t created_at, updated_at;
};

struct store_build {
    char id[UUID_LEN + 1];
    char *image;
    int version;
    enum build_state state;
    char *state_reason;
    int64_t memory_bytes, code_bytes, disk_bytes; /* snapshotBuild; 0 = absent */
    int64_t created_at, updated_at;
};

void store_image_done(struct store_image *r);
void store_version_done(struct store_version *r);
void store_build_done(struct store_build *r);

/* Image CREATING + version 1 PENDING + one build PENDING, in one transaction. -EEXIST. */
int store_image_create(struct store *s, const char *name, const char *tags, const char *config,
                       int memory_mib, struct store_image *img, struct store_version *ver,
                       struct store_build *build, struct err *e) MUST_CHECK;
/* Next version PENDING + build PENDING, image UPDATING. -EBUSY unless the image is in a settled
 * state (CREATED, CREATE_FAILED, UPDATED, UPDATE_FAILED). */
int store_version_create(struct store *s, const char *name, const char *config, int memory_mib,
                         struct store_image *img, struct store_version *ver,
                         struct store_build *build, struct err *e) MUST_CHECK;
/* Build and version to IN_PROGRESS; also for a build that is (a restart interrupted it). */
int store_build_start(struct store *s, const char *build_id, struct err *e) MUST_CHECK;
/* Ends build, version and image together: on success SUCCESSFUL/ACTIVE, image CREATED or UPDATED
 * and latest_active; on failure FAILED/INACTIVE, CREATE_FAILED or UPDATE_FAILED, latest_failed. */
int store_build_end(struct store *s, const struct store_build *result, struct err *e) MUST_CHECK;

int store_image_get(struct store *s, const char *name, struct store_image *ret,
                    struct err *e) MUST_CHECK;
int store_version_get(struct store *s, const char *name, int number, struct store_version *ret,
                      struct err *e) MUST_CHECK;
int store_build_get(struct store *s, const char *build_id, struct store_build *ret,
                    struct err *e) MUST_CHECK;
/* Conditional on from (-1 = any); -EBUSY otherwise. */
int store_image_set_state(struct store *s, const char *name, int from, enum image_state to,
                          struct err *e) MUST_CHECK;
int store_version_set_state(struct store *s, const char *name, int number, int from,
                            enum version_state to, struct err *e) MUST_CHECK;
int store_version_set_status(struct store *s, const char *name, int number, enum version_status to,
                             struct store_version *ret, struct err *e) MUST_CHECK;
int store_version_delete(struct store *s, const char *name, int number, struct err *e) MUST_CHECK;
/* Removes the image with versions and builds, and client tokens whose resource is the image's name
 * or "<name>:...". */
int store_image_delete(struct store *s, const char *name, struct err *e) MUST_CHECK;
int store_image_set_tags(struct store *s, const char *name, const char *tags,
                         struct err *e) MUST_CHECK;

/* Newest first; rows strictly after the cursor (created_at, key), at most limit. Each fn call gets
 * a row that is freed after it returned, and may call the store; non-zero ends the walk and is
 * returned. The same holds for every list below. */
struct store_page {
    int64_t before_created; /* 0 = from the start */
    const char *before_key; /* image name, build id or microvm id at that time; NULL = none */
    int limit;              /* 1..1000 */
};
int store_image_list(struct store *s, const struct store_page *p,
                     int (*fn)(const struct store_image *r, void *arg), void *arg,
                     struct err *e) MUST_CHECK;
int store_version_list(struct store *s, const char *name, int before_number, int limit,
                       int (*fn)(const struct store_version *r, void *arg), void *arg,
                       struct err *e) MUST_CHECK;
int store_build_list(struct store *s, const char *name, int version, const struct store_page *p,
                     int (*fn)(const struct store_build *r, void *arg), void *arg,
                     struct err *e) MUST_CHECK;
/* Builds PENDING or IN_PROGRESS, oldest first (start-up recovery). */
int store_build_unfinished(struct store *s, int (*fn)(const struct store_build *r, void *arg),
                           void *arg, struct err *e) MUST_CHECK;

/* ---- microVMs ---------------------------------------------------------------------------------
 */

struct store_microvm {
    char *id;       /* "microvm-<uuid>" */
    char *endpoint; /* label: the uuid in "<uuid>.microvm.localhost" */
    char *image;
    int version;
    enum microvm_state state;
    char *state_reason;
    char *config; /* JSON: executionRoleArn, idlePolicy, logging, connectors, ... */
    int64_t max_duration_s;
    int64_t started_at, terminated_at, suspended_at;
    int memory_mib;
};

void store_microvm_done(struct store_microvm *r);
/* PENDING. max_total_mib: -EDQUOT when the memory of all VMs not TERMINATED would exceed it. */
int store_microvm_create(struct store *s, const struct store_microvm *r, int64_t max_total_mib,
                         struct err *e) MUST_CHECK;
int store_microvm_get(struct store *s, const char *id, struct store_microvm *ret,
                      struct err *e) MUST_CHECK;
int store_microvm_by_endpoint(struct store *s, const char *label, struct store_microvm *ret,
                              struct err *e) MUST_CHECK;
/* reason may be NULL (kept). Sets terminated_at / suspended_at when entering those states; RUNNING
 * clears suspended_at. Only the transitions of the table in states.c are possible: -EBUSY
 * otherwise. */
int store_microvm_set_state(struct store *s, const char *id, enum microvm_state to,
                            const char *reason, struct err *e) MUST_CHECK;
int store_microvm_list(struct store *s, const char *image /* NULL */, int version /* 0 */,
                       const struct store_page *p,
                       int (*fn)(const struct store_microvm *r, void *arg), void *arg,
                       struct err *e) MUST_CHECK;
/* Every VM that is not TERMINATED (start-up recovery). */
int store_microvm_live(struct store *s, int (*fn)(const struct store_microvm *r, void *arg),
                       void *arg, struct err *e) MUST_CHECK;
/* VMs not TERMINATED of an image (version 0 = any). */
int store_microvm_count(struct store *s, const char *image, int version, int *ret,
                        struct err *e) MUST_CHECK;
/* Forgets VMs TERMINATED before the given time. */
int store_microvm_purge(struct store *s, int64_t terminated_before, struct err *e) MUST_CHECK;

/* ---- client tokens ----------------------------------------------------------------------------
 */

/* Claims (operation, token) for these parameters. Returns 1 when it is new, 0 when the same
 * parameters were seen before and *resource (owned by the caller) names the result (NULL while the
 * first call is still running), -EBUSY when the parameters differ. */
int store_token_claim(struct store *s, const char *operation, const char *token,
                      const char *params_sha256, char **resource, struct err *e) MUST_CHECK;
int store_token_set(struct store *s, const char *operation, const char *token, const char *resource,
                    struct err *e) MUST_CHECK;
int store_token_drop(struct store *s, const char *operation, const char *token,
                     struct err *e) MUST_CHECK;
int store_token_purge(struct store *s, int64_t before, struct err *e) MUST_CHECK;

#endif
