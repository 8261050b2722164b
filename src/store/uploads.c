/* SPDX-License-Identifier: Apache-2.0 */
/* Multipart uploads, their parts, and blobs that became garbage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/garbage.h"

#define UPLOAD_COLUMNS "id, bucket, key, content_type, metadata, created_at"
#define PART_COLUMNS "upload, number, size, etag, path, created_at"

static void upload_read(sqlite3_stmt *st, void *row)
{
    struct store_upload *r = row;
    r->id = db_text(st, 0);
    r->bucket = db_text(st, 1);
    r->key = db_text(st, 2);
    r->content_type = db_text(st, 3);
    r->metadata = db_text(st, 4);
    r->created_at = db_int64(st, 5);
}

static void part_read(sqlite3_stmt *st, void *row)
{
    struct store_part *r = row;
    r->upload = db_text(st, 0);
    r->number = db_int(st, 1);
    r->size = db_int64(st, 2);
    r->etag = db_text(st, 3);
    r->path = db_text(st, 4);
    r->created_at = db_int64(st, 5);
}

void store_upload_done(struct store_upload *r)
{
    free(r->id);
    free(r->bucket);
    free(r->key);
    free(r->content_type);
    free(r->metadata);
    *r = (struct store_upload){0};
}

void store_part_done(struct store_part *r)
{
    free(r->upload);
    free(r->etag);
    free(r->path);
    *r = (struct store_part){0};
}

static void upload_row_done(void *row)
{
    store_upload_done(row);
}

static void part_row_done(void *row)
{
    store_part_done(row);
}

static const struct db_kind upload_kind = {sizeof(struct store_upload), upload_read,
                                           upload_row_done};
static const struct db_kind part_kind = {sizeof(struct store_part), part_read, part_row_done};

void store_garbage_done(struct store_garbage *g)
{
    for (size_t i = 0; i < g->n; i++)
        free(g->paths[i]);
    free(g->paths);
    *g = (struct store_garbage){0};
}

static int garbage_add(struct store_garbage *g, char *path)
{
    char **more = realloc(g->paths, (g->n + 1) * sizeof *more);
    if (!more) {
        free(path);
        return -ENOMEM;
    }
    g->paths = more;
    g->paths[g->n++] = path;
    return 0;
}

int garbage_collect_values(struct db *db, struct store_garbage *g, struct err *e, const char *sql,
                           const struct db_value *v, int n)
{
    sqlite3_stmt *st;
    int rc = db_query_values(db, &st, e, sql, v, n);
    while (rc >= 0 && (rc = db_step(db, st, e)) > 0) {
        if (garbage_add(g, db_text(st, 0)) < 0) {
            sqlite3_reset(st);
            rc = err_set(e, ENOMEM, "database: out of memory");
        }
    }
    return rc;
}

int garbage_result(int rc, struct store_garbage *g)
{
    if (rc < 0)
        store_garbage_done(g);
    return rc < 0 ? rc : 0;
}

static int upload_row(struct db *db, const char *id, struct store_upload *ret, struct err *e)
{
    int rc = db_row(db, &upload_kind, ret, e, "SELECT " UPLOAD_COLUMNS " FROM uploads WHERE id = ?",
                    T(id));
    return rc == -ENOENT ? err_set(e, ENOENT, "no upload '%s'", id) : rc;
}

static int upload_check(struct db *db, const char *id, struct err *e)
{
    struct store_upload u;
    int rc = upload_row(db, id, &u, e);
    if (rc == 0)
        store_upload_done(&u);
    return rc;
}

int store_upload_create(struct store *s, const struct store_upload *u, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = bucket_check(db, u->bucket, e);
    if (rc == 0)
        rc = db_exec(db, e, "INSERT INTO uploads (" UPLOAD_COLUMNS ") VALUES (?, ?, ?, ?, ?, ?)",
                     T(u->id), T(u->bucket), T(u->key), T(u->content_type), T(u->metadata),
                     N(u->created_at ? u->created_at : clock_real_ms()));
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_upload_get(struct store *s, const char *id, struct store_upload *ret, struct err *e)
{
    int rc = db_begin(&s->reader, false, e);
    if (rc < 0)
        return rc;
    struct store_upload r = {0};
    rc = db_end(&s->reader, upload_row(&s->reader, id, &r, e), e);
    if (rc < 0)
        store_upload_done(&r);
    else
        *ret = r;
    return rc;
}

int store_upload_list(struct store *s, const char *bucket, const char *prefix,
                      const char *after_key, const char *after_id, int limit,
                      int (*fn)(const struct store_upload *r, void *arg), void *arg, struct err *e)
{
    struct store_bucket b = {0};
    int rc = store_bucket_get(s, bucket, &b, e);
    store_bucket_done(&b);
    if (rc < 0)
        return rc;
    struct db_rows rows;
    rc = db_collect(&s->reader, &upload_kind, &rows, e,
                    "SELECT " UPLOAD_COLUMNS " FROM uploads WHERE bucket = ?1"
                    " AND substr(key, 1, length(?2)) = ?2 AND (key, id) > (?3, ?4)"
                    " ORDER BY key, id LIMIT ?5",
                    T(bucket), T(prefix ? prefix : ""), T(after_key ? after_key : ""),
                    T(after_id ? after_id : ""), N(limit));
    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = fn(db_rows_at(&rows, i), arg);
    db_rows_done(&rows);
    return rc;
}

static int part_put(struct db *db, const struct store_part *p, struct store_garbage *g,
                    struct err *e)
{
    int rc = upload_check(db, p->upload, e);
    if (rc == 0)
        rc = garbage_collect(db, g, e,
                             "SELECT path FROM parts WHERE upload = ?1 AND number = ?2"
                             " AND path <> ?3",
                             T(p->upload), N(p->number), T(p->path));
    if (rc == 0)
        rc = db_exec(db, e,
                     "INSERT OR REPLACE INTO parts (" PART_COLUMNS ")"
                     " VALUES (?, ?, ?, ?, ?, ?)",
                     T(p->upload), N(p->number), N(p->size), T(p->etag), T(p->path),
                     N(p->created_at ? p->created_at : clock_real_ms()));
    return rc < 0 ? rc : 0;
}

int store_part_put(struct store *s, const struct store_part *p, struct store_garbage *g,
                   struct err *e)
{
    *g = (struct store_garbage){0};
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return garbage_result(db_end(&s->writer, part_put(&s->writer, p, g, e), e), g);
}

int store_part_list(struct store *s, const char *upload, int after_number, int limit,
                    int (*fn)(const struct store_part *r, void *arg), void *arg, struct err *e)
{
    struct store_upload u = {0};
    int rc = store_upload_get(s, upload, &u, e);
    store_upload_done(&u);
    if (rc < 0)
        return rc;
    struct db_rows rows;
    rc = db_collect(&s->reader, &part_kind, &rows, e,
                    "SELECT " PART_COLUMNS " FROM parts WHERE upload = ? AND number > ?"
                    " ORDER BY number LIMIT ?",
                    T(upload), N(after_number), N(limit));
    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = fn(db_rows_at(&rows, i), arg);
    db_rows_done(&rows);
    return rc;
}

/* The upload, its parts and (but for the blob kept) their files. */
static int upload_remove(struct db *db, const char *id, const char *keep, struct store_garbage *g,
                         struct err *e)
{
    int rc = garbage_collect(db, g, e, "SELECT path FROM parts WHERE upload = ?1 AND path <> ?2",
                             T(id), T(keep));
    if (rc == 0)
        rc = db_exec(db, e, "DELETE FROM uploads WHERE id = ?", T(id));
    return rc < 0 ? rc : 0;
}

static int upload_complete(struct db *db, const char *id, const struct store_object *o,
                           struct store_garbage *g, struct err *e)
{
    struct store_upload u;
    int rc = upload_row(db, id, &u, e);
    if (rc < 0)
        return rc;
    if (strcmp(u.bucket, o->bucket) != 0 || strcmp(u.key, o->key) != 0)
        rc = err_set(e, EBUSY, "upload '%s' is for another object", id);
    store_upload_done(&u);
    if (rc == 0)
        rc = object_put(db, o, g, e);
    if (rc == 0)
        rc = upload_remove(db, id, o->path, g, e);
    return rc;
}

int store_upload_complete(struct store *s, const char *id, const struct store_object *o,
                          struct store_garbage *g, struct err *e)
{
    *g = (struct store_garbage){0};
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return garbage_result(db_end(&s->writer, upload_complete(&s->writer, id, o, g, e), e), g);
}

int store_upload_abort(struct store *s, const char *id, struct store_garbage *g, struct err *e)
{
    struct db *db = &s->writer;
    *g = (struct store_garbage){0};
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = upload_check(db, id, e);
    if (rc == 0)
        rc = upload_remove(db, id, "", g, e);
    return garbage_result(db_end(db, rc, e), g);
}

int store_blob_used(struct store *s, const char *path, bool *ret, struct err *e)
{
    struct db *db = &s->reader;
    int rc = db_begin(db, false, e);
    if (rc < 0)
        return rc;
    int64_t n = 0;
    rc = db_number(db, &n, e,
                   "SELECT EXISTS (SELECT 1 FROM objects WHERE path = ?1)"
                   " OR EXISTS (SELECT 1 FROM parts WHERE path = ?1)",
                   T(path));
    rc = db_end(db, rc, e);
    if (rc >= 0)
        *ret = n != 0;
    return rc;
}
