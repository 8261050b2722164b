/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite connection. Theory of operation: statements are prepared once per connection and found
 * again by the address of their text; a lock per connection makes a transaction one thread's
 * business from begin to end, so SQLite runs without its own mutexes (NOMUTEX). SQLite's result
 * codes become errno values in one place.
 */
#include "store/db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Another process (a backup, a person with the sqlite3 shell) may hold the lock this long. */
#define BUSY_TIMEOUT_MS 10000

/* sqlite3_system_errno() is not set by a failing COMMIT: ask the files themselves. */
static int file_errno(sqlite3 *h, int op)
{
    int code = 0;
    sqlite3_file *f = NULL;
    if (sqlite3_file_control(h, "main", op, &f) == SQLITE_OK && f && f->pMethods)
        f->pMethods->xFileControl(f, SQLITE_FCNTL_LAST_ERRNO, &code);
    return code;
}

static bool is_full(int code)
{
    return code == ENOSPC || code == EDQUOT || code == EFBIG; /* EFBIG: a file size limit */
}

static int io_errno(sqlite3 *h)
{
    bool full = is_full(sqlite3_system_errno(h)) ||
                is_full(file_errno(h, SQLITE_FCNTL_JOURNAL_POINTER)) ||
                is_full(file_errno(h, SQLITE_FCNTL_FILE_POINTER));
    return full ? ENOSPC : EIO;
}

static int error_code(sqlite3 *h, int rc)
{
    switch (rc) {
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_UNIQUE:
        return EEXIST;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return ENOENT;
    }
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_NOMEM:
        return ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EAGAIN;
    case SQLITE_PERM:
    case SQLITE_READONLY:
        return EROFS;
    case SQLITE_CANTOPEN:
        return io_errno(h) == ENOSPC ? ENOSPC : EACCES;
    default:
        return io_errno(h);
    }
}

static int fail(struct db *db, int rc, struct err *e, const char *what)
{
    int extended = db->handle ? sqlite3_extended_errcode(db->handle) : rc;
    const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);
    int code = db->handle ? error_code(db->handle, extended) : EIO;
    return err_set(e, code, "database: %s: %s%s", what, text,
                   code == ENOSPC ? " (no space left on the device)" : "");
}

int db_script(struct db *db, const char *sql, struct err *e)
{
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : fail(db, rc, e, "cannot run a script");
}

int db_open(struct db *db, const char *path, struct err *e)
{
    pthread_mutex_init(&db->lock, NULL);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (rc != SQLITE_OK)
        return fail(db, rc, e, "cannot open");
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    return 0;
}

int db_configure(struct db *db, struct err *e)
{
    /* FULL: a commit is on the disk before the function returns, not merely in order. */
    return db_script(db,
                     "PRAGMA journal_mode = WAL;"
                     "PRAGMA synchronous = FULL;"
                     "PRAGMA foreign_keys = ON;"
                     "PRAGMA trusted_schema = OFF;"
                     "PRAGMA journal_size_limit = 16777216;",
                     e);
}

void db_close(struct db *db)
{
    for (size_t i = 0; i < db->n_statements; i++)
        sqlite3_finalize(db->statements[i].st);
    free(db->statements);
    if (db->handle)
        sqlite3_close(db->handle);
    pthread_mutex_destroy(&db->lock);
    *db = (struct db){0};
}

int db_begin(struct db *db, bool writing, struct err *e)
{
    pthread_mutex_lock(&db->lock);
    sqlite3_stmt *st;
    int rc = db_query_values(db, &st, e, writing ? "BEGIN IMMEDIATE" : "BEGIN", NULL, 0);
    if (rc == 0)
        rc = db_step(db, st, e);
    if (rc < 0)
        pthread_mutex_unlock(&db->lock);
    return rc;
}

int db_end(struct db *db, int rc, struct err *e)
{
    if (rc >= 0) {
        int end = db_exec_values(db, e, "COMMIT", NULL, 0);
        if (end < 0)
            rc = end;
    }
    /* A failed COMMIT may leave the transaction open; some errors have rolled back already. */
    if (rc < 0 && !sqlite3_get_autocommit(db->handle))
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL,
                     NULL); /* the first error is the one to tell */
    pthread_mutex_unlock(&db->lock);
    return rc;
}

static int statement_add(struct db *db, const char *sql, sqlite3_stmt *st)
{
    if (db->n_statements == db->cap_statements) {
        size_t cap = db->cap_statements ? 2 * db->cap_statements : 32;
        struct db_statement *more = realloc(db->statements, cap * sizeof *more);
        if (!more)
            return -ENOMEM;
        db->statements = more;
        db->cap_statements = cap;
    }
    db->statements[db->n_statements++] = (struct db_statement){sql, st};
    return 0;
}

static int statement_find(struct db *db, const char *sql, sqlite3_stmt **ret, struct err *e)
{
    for (size_t i = 0; i < db->n_statements; i++) {
        if (db->statements[i].sql == sql) {
            *ret = db->statements[i].st;
            return 0;
        }
    }
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK)
        return fail(db, rc, e, "cannot prepare");
    if (statement_add(db, sql, st) < 0) {
        sqlite3_finalize(st);
        return err_set(e, ENOMEM, "database: out of memory");
    }
    *ret = st;
    return 0;
}

int db_query_values(struct db *db, sqlite3_stmt **ret, struct err *e, const char *sql,
                    const struct db_value *v, int n)
{
    sqlite3_stmt *st = NULL;
    int found = statement_find(db, sql, &st, e);
    if (found < 0)
        return found;
    for (int i = 0; i < n; i++) {
        int rc = v[i].is_text ? sqlite3_bind_text(st, i + 1, v[i].text, -1, SQLITE_TRANSIENT)
                              : sqlite3_bind_int64(st, i + 1, v[i].number);
        if (rc != SQLITE_OK) {
            int code = fail(db, rc, e, "cannot bind");
            sqlite3_reset(st);
            return code;
        }
    }
    *ret = st;
    return 0;
}

int db_step(struct db *db, sqlite3_stmt *st, struct err *e)
{
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        return 1;
    int code = rc == SQLITE_DONE ? 0 : fail(db, rc, e, "cannot run a query");
    sqlite3_reset(st);
    sqlite3_clear_bindings(st); /* drops copies of texts, some of them large */
    return code;
}

int db_exec_values(struct db *db, struct err *e, const char *sql, const struct db_value *v, int n)
{
    sqlite3_stmt *st;
    int rc = db_query_values(db, &st, e, sql, v, n);
    if (rc < 0)
        return rc;
    while ((rc = db_step(db, st, e)) > 0)
        ;
    return rc < 0 ? rc : sqlite3_changes(db->handle);
}

int db_number_values(struct db *db, int64_t *ret, struct err *e, const char *sql,
                     const struct db_value *v, int n)
{
    sqlite3_stmt *st;
    int rc = db_query_values(db, &st, e, sql, v, n);
    if (rc == 0)
        rc = db_step(db, st, e);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    *ret = db_int64(st, 0);
    sqlite3_reset(st);
    return 0;
}

int db_row_values(struct db *db, const struct db_kind *k, void *row, struct err *e, const char *sql,
                  const struct db_value *v, int n)
{
    sqlite3_stmt *st;
    int rc = db_query_values(db, &st, e, sql, v, n);
    if (rc == 0)
        rc = db_step(db, st, e);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    memset(row, 0, k->size);
    k->read(st, row);
    sqlite3_reset(st);
    return 0;
}

static int rows_add(struct db_rows *r, sqlite3_stmt *st)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 16;
        char *more = realloc(r->items, cap * r->kind->size);
        if (!more)
            return -ENOMEM;
        r->items = more;
        r->cap = cap;
    }
    void *row = r->items + r->n * r->kind->size;
    memset(row, 0, r->kind->size);
    r->kind->read(st, row);
    r->n++;
    return 0;
}

int db_collect_values(struct db *db, const struct db_kind *k, struct db_rows *ret, struct err *e,
                      const char *sql, const struct db_value *v, int n)
{
    *ret = (struct db_rows){.kind = k};
    int rc = db_begin(db, false, e);
    if (rc < 0)
        return rc;
    sqlite3_stmt *st = NULL;
    rc = db_query_values(db, &st, e, sql, v, n);
    while (rc >= 0 && (rc = db_step(db, st, e)) > 0) {
        if (rows_add(ret, st) < 0) {
            sqlite3_reset(st);
            rc = err_set(e, ENOMEM, "database: out of memory");
        }
    }
    rc = db_end(db, rc, e);
    if (rc < 0)
        db_rows_done(ret);
    return rc;
}

void *db_rows_at(const struct db_rows *r, size_t i)
{
    return r->items + i * r->kind->size;
}

void db_rows_done(struct db_rows *r)
{
    for (size_t i = 0; i < r->n; i++)
        r->kind->done(db_rows_at(r, i));
    free(r->items);
    *r = (struct db_rows){0};
}

char *db_strdup(const char *s)
{
    if (!s)
        return NULL;
    char *copy = strdup(s);
    if (!copy)
        abort();
    return copy;
}

char *db_text(sqlite3_stmt *st, int column)
{
    return db_strdup((const char *)sqlite3_column_text(st, column));
}

int64_t db_int64(sqlite3_stmt *st, int column)
{
    return sqlite3_column_int64(st, column);
}

int db_int(sqlite3_stmt *st, int column)
{
    return sqlite3_column_int(st, column);
}
