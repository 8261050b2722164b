/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the store layer: one SQLite connection with its lock and its prepared statements, and
 * the few verbs the queries are written in. Everything between db_begin() and db_end() runs with
 * the connection's lock held, on one thread.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct db_statement {
    const char *sql; /* a literal: compared by address */
    sqlite3_stmt *st;
};

struct db {
    sqlite3 *handle;
    pthread_mutex_t lock;
    struct db_statement *statements; /* owned; grows to the number of distinct queries */
    size_t n_statements, cap_statements;
};

struct store {
    struct db writer; /* every transaction that changes something */
    struct db reader; /* WAL lets it read while the writer waits for the disk */
};

/* A bound value: T(text or NULL), N(integer). */
struct db_value {
    const char *text;
    int64_t number;
    bool is_text;
};
#define T(v) ((struct db_value){.text = (v), .is_text = true})
#define N(v) ((struct db_value){.number = (v)})
#define DB_VALUES(...)                      \
    (const struct db_value[]){__VA_ARGS__}, \
        (int)(sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value))

/* Opens without writing; db_configure() sets the journal and durability. */
int db_open(struct db *db, const char *path, struct err *e) MUST_CHECK;
int db_configure(struct db *db, struct err *e) MUST_CHECK;
void db_close(struct db *db); /* zeroed or half-open is fine */

/* Runs a script of several statements (schema). */
int db_script(struct db *db, const char *sql, struct err *e) MUST_CHECK;

/* Locks and begins (IMMEDIATE when writing). On failure nothing is held. */
int db_begin(struct db *db, bool writing, struct err *e) MUST_CHECK;
/* Commits when rc >= 0, rolls back otherwise; unlocks. Returns rc, or the commit's error. */
int db_end(struct db *db, int rc, struct err *e) MUST_CHECK;

/* Prepares (or reuses) and binds. The statement is the connection's: never finalized by users. */
int db_query_values(struct db *db, sqlite3_stmt **ret, struct err *e, const char *sql,
                    const struct db_value *v, int n) MUST_CHECK;
#define db_query(db, ret, e, sql, ...) db_query_values(db, ret, e, sql, DB_VALUES(__VA_ARGS__))
/* 1 = a row, 0 = no more (the statement is reset), negative = error (reset too). */
int db_step(struct db *db, sqlite3_stmt *st, struct err *e) MUST_CHECK;
/* Runs to the end; returns the number of rows changed. */
int db_exec_values(struct db *db, struct err *e, const char *sql, const struct db_value *v,
                   int n) MUST_CHECK;
#define db_exec(db, e, sql, ...) db_exec_values(db, e, sql, DB_VALUES(__VA_ARGS__))
/* First column of the only row; -ENOENT when there is none (no text is set). */
int db_number_values(struct db *db, int64_t *ret, struct err *e, const char *sql,
                     const struct db_value *v, int n) MUST_CHECK;
#define db_number(db, ret, e, sql, ...) db_number_values(db, ret, e, sql, DB_VALUES(__VA_ARGS__))

/* How rows of one noun are read and freed; both take a pointer to the row structure. */
struct db_kind {
    size_t size;
    void (*read)(sqlite3_stmt *st, void *row);
    void (*done)(void *row);
};

/* The only row of a query into *row, whose former content is not freed; -ENOENT without text. */
int db_row_values(struct db *db, const struct db_kind *k, void *row, struct err *e, const char *sql,
                  const struct db_value *v, int n) MUST_CHECK;
#define db_row(db, k, row, e, sql, ...) db_row_values(db, k, row, e, sql, DB_VALUES(__VA_ARGS__))

/* Rows are collected before a caller's function sees them, so that it may call the store again. */
struct db_rows {
    const struct db_kind *kind;
    char *items; /* owned */
    size_t n, cap;
};
/* A whole read transaction: begin, query, collect, end. */
int db_collect_values(struct db *db, const struct db_kind *k, struct db_rows *ret, struct err *e,
                      const char *sql, const struct db_value *v, int n) MUST_CHECK;
#define db_collect(db, k, ret, e, sql, ...) \
    db_collect_values(db, k, ret, e, sql, DB_VALUES(__VA_ARGS__))
void *db_rows_at(const struct db_rows *r, size_t i);
void db_rows_done(struct db_rows *r);

/* Column readers. db_text() gives a copy or NULL; memory exhaustion aborts. */
char *db_text(sqlite3_stmt *st, int column);
int64_t db_int64(sqlite3_stmt *st, int column);
int db_int(sqlite3_stmt *st, int column);
char *db_strdup(const char *s); /* NULL gives NULL */

#endif
