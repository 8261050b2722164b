/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the store layer: what objects.c and uploads.c share. */
#ifndef STORE_GARBAGE_H
#define STORE_GARBAGE_H

#include "store/db.h"
#include "store/objects.h"

/* Inside a transaction: appends the first column of every row. 0 or negative. */
int garbage_collect_values(struct db *db, struct store_garbage *g, struct err *e, const char *sql,
                           const struct db_value *v, int n) MUST_CHECK;
#define garbage_collect(db, g, e, sql, ...) \
    garbage_collect_values(db, g, e, sql, DB_VALUES(__VA_ARGS__))
/* After the transaction: nothing became garbage when it failed. Returns rc. */
int garbage_result(int rc, struct store_garbage *g) MUST_CHECK;

/* Inside a transaction: -ENXIO with a text. */
int bucket_check(struct db *db, const char *name, struct err *e) MUST_CHECK;
int object_put(struct db *db, const struct store_object *o, struct store_garbage *g,
               struct err *e) MUST_CHECK;

#endif
