/* SPDX-License-Identifier: Apache-2.0 */
/* MicroVMs. The transition table of states.c is enforced where the row is changed, so no path
 * through the program can record an impossible history. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "store/db.h"
#include "store/store.h"

#define COLUMNS                                                                               \
    "id, endpoint, image, version, state, state_reason, config, max_duration_s, started_at, " \
    "terminated_at, suspended_at, memory_mib"

static void microvm_read(sqlite3_stmt *st, void *row)
{
    struct store_microvm *r = row;
    r->id = db_text(st, 0);
    r->endpoint = db_text(st, 1);
    r->image = db_text(st, 2);
    r->version = db_int(st, 3);
    int state = microvm_state_parse((const char *)sqlite3_column_text(st, 4));
    assert(state >= 0);
    r->state = (enum microvm_state)state;
    r->state_reason = db_text(st, 5);
    r->config = db_text(st, 6);
    r->max_duration_s = db_int64(st, 7);
    r->started_at = db_int64(st, 8);
    r->terminated_at = db_int64(st, 9);
    r->suspended_at = db_int64(st, 10);
    r->memory_mib = db_int(st, 11);
}

void store_microvm_done(struct store_microvm *r)
{
    free(r->id);
    free(r->endpoint);
    free(r->image);
    free(r->state_reason);
    free(r->config);
    *r = (struct store_microvm){0};
}

static void microvm_row_done(void *row)
{
    store_microvm_done(row);
}

static const struct db_kind kind = {sizeof(struct store_microvm), microvm_read, microvm_row_done};

static int microvm_row(struct db *db, const char *id, struct store_microvm *ret, struct err *e)
{
    int rc = db_row(db, &kind, ret, e, "SELECT " COLUMNS " FROM microvms WHERE id = ?", T(id));
    return rc == -ENOENT ? err_set(e, ENOENT, "no microVM '%s'", id) : rc;
}

static int check_memory(struct db *db, int memory_mib, int64_t max_total_mib, struct err *e)
{
    int64_t used = 0, total;
    int rc = db_number(db, &used, e,
                       "SELECT coalesce(sum(memory_mib), 0) FROM microvms"
                       " WHERE state <> 'TERMINATED'");
    if (rc < 0)
        return rc;
    if (ckd_add(&total, used, memory_mib) || total > max_total_mib)
        return err_set(e, EDQUOT,
                       "microVMs hold %lld MiB of the %lld MiB allowed; %d MiB more do not fit",
                       (long long)used, (long long)max_total_mib, memory_mib);
    return 0;
}

int store_microvm_create(struct store *s, const struct store_microvm *r, int64_t max_total_mib,
                         struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = check_memory(db, r->memory_mib, max_total_mib, e);
    if (rc == 0)
        rc = db_exec(db, e,
                     "INSERT INTO microvms (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0,"
                     " ?)",
                     T(r->id), T(r->endpoint), T(r->image), N(r->version),
                     T(microvm_state_name(MICROVM_PENDING)), T(r->state_reason), T(r->config),
                     N(r->max_duration_s), N(r->started_at ? r->started_at : clock_real_ms()),
                     N(r->memory_mib));
    if (rc == -EEXIST)
        rc = err_set(e, EEXIST, "a microVM '%s' exists already", r->id);
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_microvm_get(struct store *s, const char *id, struct store_microvm *ret, struct err *e)
{
    int rc = db_begin(&s->reader, false, e);
    if (rc < 0)
        return rc;
    struct store_microvm r = {0};
    rc = db_end(&s->reader, microvm_row(&s->reader, id, &r, e), e);
    if (rc < 0)
        store_microvm_done(&r);
    else
        *ret = r;
    return rc;
}

int store_microvm_by_endpoint(struct store *s, const char *label, struct store_microvm *ret,
                              struct err *e)
{
    struct db *db = &s->reader;
    int rc = db_begin(db, false, e);
    if (rc < 0)
        return rc;
    struct store_microvm r = {0};
    rc = db_row(db, &kind, &r, e, "SELECT " COLUMNS " FROM microvms WHERE endpoint = ?", T(label));
    if (rc == -ENOENT)
        rc = err_set(e, ENOENT, "no microVM has the endpoint '%s'", label);
    rc = db_end(db, rc, e);
    if (rc < 0)
        store_microvm_done(&r);
    else
        *ret = r;
    return rc;
}

static int set_state(struct db *db, const char *id, enum microvm_state to, const char *reason,
                     struct err *e)
{
    struct store_microvm r;
    int rc = microvm_row(db, id, &r, e);
    if (rc < 0)
        return rc;
    enum microvm_state now = r.state;
    int64_t suspended = r.suspended_at, terminated = r.terminated_at;
    store_microvm_done(&r);
    if (!microvm_state_allows(now, to))
        return err_set(e, EBUSY, "microVM %s is %s and cannot become %s", id,
                       microvm_state_name(now), microvm_state_name(to));
    /* A resume that fell back (PENDING -> SUSPENDED) does not restart the suspended time. */
    if (to == MICROVM_SUSPENDED && !suspended)
        suspended = clock_real_ms();
    else if (to == MICROVM_RUNNING)
        suspended = 0;
    if (to == MICROVM_TERMINATED)
        terminated = clock_real_ms();
    rc = db_exec(db, e,
                 "UPDATE microvms SET state = ?, state_reason = coalesce(?, state_reason),"
                 " terminated_at = ?, suspended_at = ? WHERE id = ?",
                 T(microvm_state_name(to)), T(reason), N(terminated), N(suspended), T(id));
    return rc < 0 ? rc : 0;
}

int store_microvm_set_state(struct store *s, const char *id, enum microvm_state to,
                            const char *reason, struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return db_end(&s->writer, set_state(&s->writer, id, to, reason, e), e);
}

static int walk(int rc, struct db_rows *rows, int (*fn)(const struct store_microvm *r, void *arg),
                void *arg)
{
    for (size_t i = 0; rc == 0 && i < rows->n; i++)
        rc = fn(db_rows_at(rows, i), arg);
    db_rows_done(rows);
    return rc;
}

int store_microvm_list(struct store *s, const char *image, int version, const struct store_page *p,
                       int (*fn)(const struct store_microvm *r, void *arg), void *arg,
                       struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &kind, &rows, e,
                        "SELECT " COLUMNS " FROM microvms WHERE (started_at, id) < (?1, ?2)"
                        " AND (?3 IS NULL OR image = ?3) AND (?4 = 0 OR version = ?4)"
                        " ORDER BY started_at DESC, id DESC LIMIT ?5",
                        N(p->before_created ? p->before_created : INT64_MAX),
                        T(p->before_key ? p->before_key : ""), T(image), N(version), N(p->limit));
    return walk(rc, &rows, fn, arg);
}

int store_microvm_live(struct store *s, int (*fn)(const struct store_microvm *r, void *arg),
                       void *arg, struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &kind, &rows, e,
                        "SELECT " COLUMNS " FROM microvms WHERE state <> 'TERMINATED'"
                        " ORDER BY started_at, id");
    return walk(rc, &rows, fn, arg);
}

int store_microvm_count(struct store *s, const char *image, int version, int *ret, struct err *e)
{
    struct db *db = &s->reader;
    int rc = db_begin(db, false, e);
    if (rc < 0)
        return rc;
    int64_t n = 0;
    rc = db_number(db, &n, e,
                   "SELECT count(*) FROM microvms WHERE state <> 'TERMINATED' AND image = ?1"
                   " AND (?2 = 0 OR version = ?2)",
                   T(image), N(version));
    rc = db_end(db, rc, e);
    if (rc >= 0)
        *ret = (int)n;
    return rc;
}

int store_microvm_purge(struct store *s, int64_t terminated_before, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "DELETE FROM microvms WHERE state = 'TERMINATED' AND terminated_at < ?",
                 N(terminated_before));
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}
