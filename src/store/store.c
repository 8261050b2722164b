/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the database and bringing its schema up to date. Theory of operation: the schema's number
 * is SQLite's user_version; migrations[n] takes a database from n to n+1, each in its own
 * transaction, so an interrupted start continues where it stopped. A database with a larger number
 * was made by a newer program and is refused untouched. Nothing is ever migrated downwards.
 */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/db.h"

/* The rows of a release are never edited afterwards: a change is a new row. */
static const char *const migrations[] = {
    /* 1: images, microVMs, client tokens, objects */
    "CREATE TABLE images ("
    " name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,"
    " latest_active INTEGER NOT NULL DEFAULT 0, latest_failed INTEGER NOT NULL DEFAULT 0,"
    " next_version INTEGER NOT NULL, tags TEXT,"
    " created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
    "CREATE INDEX images_created ON images (created_at, name);"
    "CREATE TABLE versions ("
    " image TEXT NOT NULL REFERENCES images (name) ON DELETE CASCADE, number INTEGER NOT NULL,"
    " state TEXT NOT NULL, status TEXT NOT NULL, config TEXT NOT NULL, state_reason TEXT,"
    " memory_mib INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
    " PRIMARY KEY (image, number)) STRICT;"
    "CREATE TABLE builds ("
    " id TEXT PRIMARY KEY, image TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,"
    " state_reason TEXT, memory_bytes INTEGER NOT NULL DEFAULT 0,"
    " code_bytes INTEGER NOT NULL DEFAULT 0, disk_bytes INTEGER NOT NULL DEFAULT 0,"
    " created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
    " FOREIGN KEY (image, version) REFERENCES versions (image, number) ON DELETE CASCADE) STRICT;"
    "CREATE INDEX builds_version ON builds (image, version, created_at, id);"
    "CREATE INDEX builds_state ON builds (state);"
    /* No foreign key to images: a terminated VM is remembered longer than its image. */
    "CREATE TABLE microvms ("
    " id TEXT PRIMARY KEY, endpoint TEXT NOT NULL UNIQUE, image TEXT NOT NULL,"
    " version INTEGER NOT NULL, state TEXT NOT NULL, state_reason TEXT, config TEXT,"
    " max_duration_s INTEGER NOT NULL, started_at INTEGER NOT NULL,"
    " terminated_at INTEGER NOT NULL DEFAULT 0, suspended_at INTEGER NOT NULL DEFAULT 0,"
    " memory_mib INTEGER NOT NULL) STRICT;"
    "CREATE INDEX microvms_started ON microvms (started_at, id);"
    "CREATE INDEX microvms_image ON microvms (image, version);"
    "CREATE INDEX microvms_live ON microvms (started_at) WHERE state <> 'TERMINATED';"
    "CREATE TABLE tokens ("
    " operation TEXT NOT NULL, token TEXT NOT NULL, params TEXT NOT NULL, resource TEXT,"
    " created_at INTEGER NOT NULL, PRIMARY KEY (operation, token)) STRICT;"
    "CREATE TABLE buckets (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL) STRICT;"
    "CREATE TABLE objects ("
    " bucket TEXT NOT NULL REFERENCES buckets (name), key TEXT NOT NULL, size INTEGER NOT NULL,"
    " etag TEXT NOT NULL, content_type TEXT, metadata TEXT, path TEXT NOT NULL,"
    " created_at INTEGER NOT NULL, PRIMARY KEY (bucket, key)) STRICT;"
    "CREATE INDEX objects_path ON objects (path);"
    "CREATE TABLE uploads ("
    " id TEXT PRIMARY KEY, bucket TEXT NOT NULL REFERENCES buckets (name), key TEXT NOT NULL,"
    " content_type TEXT, metadata TEXT, created_at INTEGER NOT NULL) STRICT;"
    "CREATE INDEX uploads_key ON uploads (bucket, key, id);"
    "CREATE TABLE parts ("
    " upload TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE, number INTEGER NOT NULL,"
    " size INTEGER NOT NULL, etag TEXT NOT NULL, path TEXT NOT NULL, created_at INTEGER NOT NULL,"
    " PRIMARY KEY (upload, number)) STRICT;"
    "CREATE INDEX parts_path ON parts (path);",
};

static int schema_number(struct db *db, int64_t *ret, struct err *e)
{
    int rc = db_number_values(db, ret, e, "PRAGMA user_version", NULL, 0);
    if (rc < 0)
        return rc;
    if (*ret > (int64_t)ARRAY_LEN(migrations))
        return err_set(e, EPROTO,
                       "the database has schema %lld, made by a newer version; this version knows "
                       "schemas up to %zu",
                       (long long)*ret, ARRAY_LEN(migrations));
    if (*ret > 0)
        return 0;
    int64_t tables = 0;
    rc = db_number_values(db, &tables, e, "SELECT count(*) FROM sqlite_master", NULL, 0);
    if (rc == 0 && tables > 0)
        return err_set(e, EPROTO, "the file is a database of some other program");
    return rc;
}

/* One step upwards; returns 0 when nothing is left to do. */
static int migrate_step(struct db *db, struct err *e)
{
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    int64_t n = 0;
    rc = schema_number(db, &n, e);
    bool more = rc == 0 && n < (int64_t)ARRAY_LEN(migrations);
    if (more)
        rc = db_script(db, migrations[n], e);
    if (rc == 0 && more) {
        char *sql = sqlite3_mprintf("PRAGMA user_version = %lld", (long long)n + 1);
        rc = sql ? db_script(db, sql, e) : err_set(e, ENOMEM, "database: out of memory");
        sqlite3_free(sql);
    }
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : more;
}

/* A call that was running when the process died has no result: the same token may try again. */
static int forget_unfinished_tokens(struct db *db, struct err *e)
{
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec_values(db, e, "DELETE FROM tokens WHERE resource IS NULL", NULL, 0);
    return db_end(db, rc, e);
}

/* SQLite gives its -wal and -shm files the mode of the database. */
static int create_private(const char *path, struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? err_set_errno(e, errno, "cannot open %s", path) : 0;
}

int store_open(const char *path, struct store **ret, struct err *e)
{
    int rc = create_private(path, e);
    if (rc < 0)
        return rc;
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ENOMEM, "out of memory");
    int64_t schema;
    rc = db_open(&s->writer, path, e);
    if (rc == 0)
        rc = schema_number(&s->writer, &schema, e); /* before anything is written */
    if (rc == 0)
        rc = db_configure(&s->writer, e);
    while (rc >= 0 && (rc = migrate_step(&s->writer, e)) > 0)
        ;
    if (rc == 0)
        rc = forget_unfinished_tokens(&s->writer, e);
    if (rc >= 0)
        rc = db_open(&s->reader, path, e);
    if (rc >= 0)
        rc = db_configure(&s->reader, e);
    if (rc < 0) {
        err_wrap(e, "%s", path);
        store_close(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    db_close(&s->reader);
    db_close(&s->writer);
    free(s);
}
