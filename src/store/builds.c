/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of images and their builds. A build's end settles build, version and image at once. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/rows.h"

static void version_read(sqlite3_stmt *st, void *row)
{
    struct store_version *r = row;
    r->image = db_text(st, 0);
    r->number = db_int(st, 1);
    int state = version_state_parse((const char *)sqlite3_column_text(st, 2));
    int status = version_status_parse((const char *)sqlite3_column_text(st, 3));
    assert(state >= 0 && status >= 0);
    r->state = (enum version_state)state;
    r->status = (enum version_status)status;
    r->config = db_text(st, 4);
    r->state_reason = db_text(st, 5);
    r->memory_mib = db_int(st, 6);
    r->created_at = db_int64(st, 7);
    r->updated_at = db_int64(st, 8);
}

static void build_read(sqlite3_stmt *st, void *row)
{
    struct store_build *r = row;
    strncpy(r->id, (const char *)sqlite3_column_text(st, 0), UUID_LEN);
    r->image = db_text(st, 1);
    r->version = db_int(st, 2);
    int state = build_state_parse((const char *)sqlite3_column_text(st, 3));
    assert(state >= 0);
    r->state = (enum build_state)state;
    r->state_reason = db_text(st, 4);
    r->memory_bytes = db_int64(st, 5);
    r->code_bytes = db_int64(st, 6);
    r->disk_bytes = db_int64(st, 7);
    r->created_at = db_int64(st, 8);
    r->updated_at = db_int64(st, 9);
}

void store_version_done(struct store_version *r)
{
    free(r->image);
    free(r->config);
    free(r->state_reason);
    *r = (struct store_version){0};
}

void store_build_done(struct store_build *r)
{
    free(r->image);
    free(r->state_reason);
    *r = (struct store_build){0};
}

static void version_row_done(void *row)
{
    store_version_done(row);
}

static void build_row_done(void *row)
{
    store_build_done(row);
}

const struct db_kind version_kind = {sizeof(struct store_version), version_read, version_row_done};
const struct db_kind build_kind = {sizeof(struct store_build), build_read, build_row_done};

int version_row(struct db *db, const char *name, int number, struct store_version *ret,
                struct err *e)
{
    int rc = db_row(db, &version_kind, ret, e,
                    "SELECT " VERSION_COLUMNS " FROM versions WHERE image = ? AND number = ?",
                    T(name), N(number));
    return rc == -ENOENT ? err_set(e, ENOENT, "image '%s' has no version %d.0", name, number) : rc;
}

int build_row(struct db *db, const char *id, struct store_build *ret, struct err *e)
{
    int rc =
        db_row(db, &build_kind, ret, e, "SELECT " BUILD_COLUMNS " FROM builds WHERE id = ?", T(id));
    return rc == -ENOENT ? err_set(e, ENOENT, "no build '%s'", id) : rc;
}

int version_change(struct db *db, const char *name, int number, int from, enum version_state to,
                   struct err *e)
{
    struct store_version v;
    int rc = version_row(db, name, number, &v, e);
    if (rc < 0)
        return rc;
    enum version_state now = v.state;
    store_version_done(&v);
    if ((from >= 0 && (int)now != from) || !version_state_allows(now, to))
        return err_set(e, EBUSY, "version %d.0 of image '%s' is %s and cannot become %s", number,
                       name, version_state_name(now), version_state_name(to));
    rc = db_exec(db, e,
                 "UPDATE versions SET state = ?, updated_at = ? WHERE image = ? AND number = ?",
                 T(version_state_name(to)), N(clock_real_ms()), T(name), N(number));
    return rc < 0 ? rc : 0;
}

static int build_add(struct db *db, const char *name, int number, char id[UUID_LEN + 1],
                     struct err *e)
{
    uuid_new(id);
    int64_t now = clock_real_ms();
    return db_exec(db, e,
                   "INSERT INTO builds (id, image, version, state, created_at, updated_at)"
                   " VALUES (?, ?, ?, ?, ?, ?)",
                   T(id), T(name), N(number), T(build_state_name(BUILD_PENDING)), N(now), N(now));
}

int version_add(struct db *db, const char *name, int number, const char *config, int memory_mib,
                struct store_version *ver, struct store_build *build, struct err *e)
{
    int64_t now = clock_real_ms();
    int rc =
        db_exec(db, e,
                "INSERT INTO versions (image, number, state, status, config, memory_mib,"
                " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                T(name), N(number), T(version_state_name(VERSION_PENDING)),
                T(version_status_name(VERSION_INACTIVE)), T(config), N(memory_mib), N(now), N(now));
    char id[UUID_LEN + 1];
    if (rc >= 0)
        rc = build_add(db, name, number, id, e);
    if (rc >= 0)
        rc = version_row(db, name, number, ver, e);
    if (rc >= 0)
        rc = build_row(db, id, build, e);
    return rc;
}

static int build_change(struct db *db, const struct store_build *b, enum build_state to,
                        const struct store_build *result, struct err *e)
{
    if (!build_state_allows(b->state, to))
        return err_set(e, EBUSY, "build %s is %s and cannot become %s", b->id,
                       build_state_name(b->state), build_state_name(to));
    int rc = db_exec(db, e,
                     "UPDATE builds SET state = ?, state_reason = ?, memory_bytes = ?,"
                     " code_bytes = ?, disk_bytes = ?, updated_at = ? WHERE id = ?",
                     T(build_state_name(to)), T(result ? result->state_reason : NULL),
                     N(result ? result->memory_bytes : 0), N(result ? result->code_bytes : 0),
                     N(result ? result->disk_bytes : 0), N(clock_real_ms()), T(b->id));
    return rc < 0 ? rc : 0;
}

static int build_start(struct db *db, const char *build_id, struct err *e)
{
    struct store_build b;
    int rc = build_row(db, build_id, &b, e);
    if (rc < 0)
        return rc;
    /* A build that a restart of the service interrupted starts again. */
    if (b.state != BUILD_IN_PROGRESS) {
        rc = build_change(db, &b, BUILD_IN_PROGRESS, NULL, e);
        if (rc == 0)
            rc = version_change(db, b.image, b.version, -1, VERSION_IN_PROGRESS, e);
    }
    store_build_done(&b);
    return rc;
}

int store_build_start(struct store *s, const char *build_id, struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return db_end(&s->writer, build_start(&s->writer, build_id, e), e);
}

static int version_settle(struct db *db, const struct store_build *b, bool ok, const char *reason,
                          struct err *e)
{
    int rc =
        version_change(db, b->image, b->version, -1, ok ? VERSION_SUCCESSFUL : VERSION_FAILED, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e,
                 "UPDATE versions SET status = ?, state_reason = ? WHERE image = ? AND number = ?",
                 T(version_status_name(ok ? VERSION_ACTIVE : VERSION_INACTIVE)),
                 T(ok ? NULL : reason), T(b->image), N(b->version));
    return rc < 0 ? rc : 0;
}

static int image_settle(struct db *db, const struct store_build *b, bool ok, struct err *e)
{
    struct store_image img;
    int rc = image_row(db, b->image, &img, e);
    if (rc < 0)
        return rc;
    enum image_state now = img.state;
    store_image_done(&img);
    if (now == IMAGE_CREATING)
        rc = image_change(db, b->image, -1, ok ? IMAGE_CREATED : IMAGE_CREATE_FAILED, e);
    else if (now == IMAGE_UPDATING)
        rc = image_change(db, b->image, -1, ok ? IMAGE_UPDATED : IMAGE_UPDATE_FAILED, e);
    /* Any other state (a deletion) is not the build's to change. */
    return rc < 0 ? rc : image_follow_versions(db, b->image, e);
}

static int build_end(struct db *db, const struct store_build *result, struct err *e)
{
    bool ok = result->state == BUILD_SUCCESSFUL;
    if (!ok && result->state != BUILD_FAILED)
        return err_set(e, EINVAL, "a build cannot end as %s", build_state_name(result->state));
    struct store_build b;
    int rc = build_row(db, result->id, &b, e);
    if (rc < 0)
        return rc;
    rc = build_change(db, &b, result->state, result, e);
    if (rc == 0)
        rc = version_settle(db, &b, ok, result->state_reason, e);
    if (rc == 0)
        rc = image_settle(db, &b, ok, e);
    store_build_done(&b);
    return rc;
}

int store_build_end(struct store *s, const struct store_build *result, struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return db_end(&s->writer, build_end(&s->writer, result, e), e);
}

int store_version_get(struct store *s, const char *name, int number, struct store_version *ret,
                      struct err *e)
{
    int rc = db_begin(&s->reader, false, e);
    if (rc < 0)
        return rc;
    struct store_version r = {0};
    rc = db_end(&s->reader, version_row(&s->reader, name, number, &r, e), e);
    if (rc < 0)
        store_version_done(&r);
    else
        *ret = r;
    return rc;
}

int store_build_get(struct store *s, const char *build_id, struct store_build *ret, struct err *e)
{
    int rc = db_begin(&s->reader, false, e);
    if (rc < 0)
        return rc;
    struct store_build r = {0};
    rc = db_end(&s->reader, build_row(&s->reader, build_id, &r, e), e);
    if (rc < 0)
        store_build_done(&r);
    else
        *ret = r;
    return rc;
}

int store_version_set_state(struct store *s, const char *name, int number, int from,
                            enum version_state to, struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return db_end(&s->writer, version_change(&s->writer, name, number, from, to, e), e);
}

static int set_status(struct db *db, const char *name, int number, enum version_status to,
                      struct store_version *ret, struct err *e)
{
    struct store_version v;
    int rc = version_row(db, name, number, &v, e);
    if (rc < 0)
        return rc;
    enum version_state state = v.state;
    store_version_done(&v);
    if (to == VERSION_ACTIVE && state != VERSION_SUCCESSFUL)
        return err_set(e, EBUSY, "version %d.0 of image '%s' is %s: it cannot be ACTIVE", number,
                       name, version_state_name(state));
    rc = db_exec(db, e,
                 "UPDATE versions SET status = ?, updated_at = ? WHERE image = ? AND number = ?",
                 T(version_status_name(to)), N(clock_real_ms()), T(name), N(number));
    if (rc >= 0)
        rc = image_follow_versions(db, name, e);
    return rc < 0 ? rc : version_row(db, name, number, ret, e);
}

int store_version_set_status(struct store *s, const char *name, int number, enum version_status to,
                             struct store_version *ret, struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    struct store_version r = {0};
    rc = db_end(&s->writer, set_status(&s->writer, name, number, to, &r, e), e);
    if (rc >= 0 && ret)
        *ret = r;
    else
        store_version_done(&r);
    return rc;
}

int store_version_delete(struct store *s, const char *name, int number, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "DELETE FROM versions WHERE image = ? AND number = ?", T(name), N(number));
    if (rc == 0)
        rc = err_set(e, ENOENT, "image '%s' has no version %d.0", name, number);
    if (rc > 0)
        rc = image_follow_versions(db, name, e);
    return db_end(db, rc, e);
}

int store_version_list(struct store *s, const char *name, int before_number, int limit,
                       int (*fn)(const struct store_version *r, void *arg), void *arg,
                       struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &version_kind, &rows, e,
                        "SELECT " VERSION_COLUMNS " FROM versions WHERE image = ? AND number < ?"
                        " ORDER BY number DESC LIMIT ?",
                        T(name), N(before_number ? before_number : INT64_MAX), N(limit));
    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = fn(db_rows_at(&rows, i), arg);
    db_rows_done(&rows);
    return rc;
}

static int walk_builds(int rc, struct db_rows *rows,
                       int (*fn)(const struct store_build *r, void *arg), void *arg)
{
    for (size_t i = 0; rc == 0 && i < rows->n; i++)
        rc = fn(db_rows_at(rows, i), arg);
    db_rows_done(rows);
    return rc;
}

int store_build_list(struct store *s, const char *name, int version, const struct store_page *p,
                     int (*fn)(const struct store_build *r, void *arg), void *arg, struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &build_kind, &rows, e,
                        "SELECT " BUILD_COLUMNS " FROM builds WHERE image = ? AND version = ?"
                        " AND (created_at, id) < (?, ?)"
                        " ORDER BY created_at DESC, id DESC LIMIT ?",
                        T(name), N(version), N(p->before_created ? p->before_created : INT64_MAX),
                        T(p->before_key ? p->before_key : ""), N(p->limit));
    return walk_builds(rc, &rows, fn, arg);
}

int store_build_unfinished(struct store *s, int (*fn)(const struct store_build *r, void *arg),
                           void *arg, struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &build_kind, &rows, e,
                        "SELECT " BUILD_COLUMNS " FROM builds"
                        " WHERE state IN ('PENDING', 'IN_PROGRESS') ORDER BY created_at, rowid");
    return walk_builds(rc, &rows, fn, arg);
}
