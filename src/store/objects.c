/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets and objects. */
#include "store/objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/garbage.h"

static void bucket_read(sqlite3_stmt *st, void *row)
{
    struct store_bucket *r = row;
    r->name = db_text(st, 0);
    r->created_at = db_int64(st, 1);
}

void store_bucket_done(struct store_bucket *r)
{
    free(r->name);
    *r = (struct store_bucket){0};
}

static void bucket_row_done(void *row)
{
    store_bucket_done(row);
}

static const struct db_kind bucket_kind = {sizeof(struct store_bucket), bucket_read,
                                           bucket_row_done};

#define OBJECT_COLUMNS "bucket, key, size, etag, content_type, metadata, path, created_at"

static void object_read(sqlite3_stmt *st, void *row)
{
    struct store_object *r = row;
    r->bucket = db_text(st, 0);
    r->key = db_text(st, 1);
    r->size = db_int64(st, 2);
    r->etag = db_text(st, 3);
    r->content_type = db_text(st, 4);
    r->metadata = db_text(st, 5);
    r->path = db_text(st, 6);
    r->created_at = db_int64(st, 7);
}

void store_object_done(struct store_object *r)
{
    free(r->bucket);
    free(r->key);
    free(r->etag);
    free(r->content_type);
    free(r->metadata);
    free(r->path);
    *r = (struct store_object){0};
}

static void object_row_done(void *row)
{
    store_object_done(row);
}

static const struct db_kind object_kind = {sizeof(struct store_object), object_read,
                                           object_row_done};

int bucket_check(struct db *db, const char *name, struct err *e)
{
    int64_t one;
    int rc = db_number(db, &one, e, "SELECT 1 FROM buckets WHERE name = ?", T(name));
    return rc == -ENOENT ? err_set(e, ENXIO, "no bucket named '%s'", name) : rc;
}

int store_bucket_create(struct store *s, const char *name, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "INSERT INTO buckets (name, created_at) VALUES (?, ?)", T(name),
                 N(clock_real_ms()));
    if (rc == -EEXIST)
        rc = err_set(e, EEXIST, "a bucket named '%s' exists already", name);
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_bucket_get(struct store *s, const char *name, struct store_bucket *ret, struct err *e)
{
    struct db *db = &s->reader;
    int rc = db_begin(db, false, e);
    if (rc < 0)
        return rc;
    struct store_bucket r = {0};
    rc = db_row(db, &bucket_kind, &r, e, "SELECT name, created_at FROM buckets WHERE name = ?",
                T(name));
    if (rc == -ENOENT)
        rc = err_set(e, ENXIO, "no bucket named '%s'", name);
    rc = db_end(db, rc, e);
    if (rc < 0)
        store_bucket_done(&r);
    else
        *ret = r;
    return rc;
}

int store_bucket_delete(struct store *s, const char *name, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "DELETE FROM buckets WHERE name = ?", T(name));
    if (rc == 0)
        rc = err_set(e, ENXIO, "no bucket named '%s'", name);
    else if (rc == -ENOENT) /* a foreign key still points here */
        rc = err_set(e, ENOTEMPTY, "bucket '%s' is not empty", name);
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_bucket_list(struct store *s, int (*fn)(const struct store_bucket *r, void *arg),
                      void *arg, struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &bucket_kind, &rows, e,
                        "SELECT name, created_at FROM buckets ORDER BY name");
    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = fn(db_rows_at(&rows, i), arg);
    db_rows_done(&rows);
    return rc;
}

int object_put(struct db *db, const struct store_object *o, struct store_garbage *g, struct err *e)
{
    int rc = bucket_check(db, o->bucket, e);
    if (rc == 0)
        rc = garbage_collect(db, g, e,
                             "SELECT path FROM objects WHERE bucket = ?1 AND key = ?2"
                             " AND path <> ?3",
                             T(o->bucket), T(o->key), T(o->path));
    if (rc == 0)
        rc =
            db_exec(db, e,
                    "INSERT OR REPLACE INTO objects (" OBJECT_COLUMNS ")"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    T(o->bucket), T(o->key), N(o->size), T(o->etag), T(o->content_type),
                    T(o->metadata), T(o->path), N(o->created_at ? o->created_at : clock_real_ms()));
    return rc < 0 ? rc : 0;
}

int store_object_put(struct store *s, const struct store_object *o, struct store_garbage *g,
                     struct err *e)
{
    *g = (struct store_garbage){0};
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return garbage_result(db_end(&s->writer, object_put(&s->writer, o, g, e), e), g);
}

int store_object_get(struct store *s, const char *bucket, const char *key, struct store_object *ret,
                     struct err *e)
{
    struct db *db = &s->reader;
    int rc = db_begin(db, false, e);
    if (rc < 0)
        return rc;
    struct store_object r = {0};
    rc = bucket_check(db, bucket, e);
    if (rc == 0)
        rc = db_row(db, &object_kind, &r, e,
                    "SELECT " OBJECT_COLUMNS " FROM objects WHERE bucket = ? AND key = ?",
                    T(bucket), T(key));
    if (rc == -ENOENT)
        rc = err_set(e, ENOENT, "bucket '%s' has no object '%s'", bucket, key);
    rc = db_end(db, rc, e);
    if (rc < 0)
        store_object_done(&r);
    else
        *ret = r;
    return rc;
}

int store_object_delete(struct store *s, const char *bucket, const char *key,
                        struct store_garbage *g, struct err *e)
{
    struct db *db = &s->writer;
    *g = (struct store_garbage){0};
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = bucket_check(db, bucket, e);
    if (rc == 0)
        rc = garbage_collect(db, g, e, "SELECT path FROM objects WHERE bucket = ? AND key = ?",
                             T(bucket), T(key));
    if (rc == 0)
        rc = db_exec(db, e, "DELETE FROM objects WHERE bucket = ? AND key = ?", T(bucket), T(key));
    return garbage_result(db_end(db, rc < 0 ? rc : 0, e), g);
}

int store_object_list(struct store *s, const char *bucket, const char *prefix,
                      const char *start_after, int limit,
                      int (*fn)(const struct store_object *r, void *arg), void *arg, struct err *e)
{
    struct store_bucket b = {0};
    int rc = store_bucket_get(s, bucket, &b, e);
    store_bucket_done(&b);
    if (rc < 0)
        return rc;
    /* key >= prefix lets the index find the start; substr() ends the range. */
    struct db_rows rows;
    rc =
        db_collect(&s->reader, &object_kind, &rows, e,
                   "SELECT " OBJECT_COLUMNS " FROM objects WHERE bucket = ?1 AND key >= ?2"
                   " AND key > ?3 AND substr(key, 1, length(?2)) = ?2 ORDER BY key LIMIT ?4",
                   T(bucket), T(prefix ? prefix : ""), T(start_after ? start_after : ""), N(limit));
    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = fn(db_rows_at(&rows, i), arg);
    db_rows_done(&rows);
    return rc;
}
