/* SPDX-License-Identifier: Apache-2.0 */
/* Client tokens: the first call with a token claims it, later ones find its result. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/db.h"
#include "store/store.h"

struct claim {
    char *params, *resource; /* owned */
};

static void claim_read(sqlite3_stmt *st, void *row)
{
    struct claim *c = row;
    c->params = db_text(st, 0);
    c->resource = db_text(st, 1);
}

static void claim_done(void *row)
{
    struct claim *c = row;
    free(c->params);
    free(c->resource);
    *c = (struct claim){0};
}

static const struct db_kind kind = {sizeof(struct claim), claim_read, claim_done};

static int claim(struct db *db, const char *operation, const char *token, const char *params,
                 struct claim *found, struct err *e)
{
    int rc = db_exec(db, e,
                     "INSERT INTO tokens (operation, token, params, created_at)"
                     " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                     T(operation), T(token), T(params), N(clock_real_ms()));
    if (rc != 0)
        return rc; /* 1: ours */
    rc = db_row(db, &kind, found, e,
                "SELECT params, resource FROM tokens WHERE operation = ? AND token = ?",
                T(operation), T(token));
    if (rc == 0 && strcmp(found->params, params) != 0)
        rc = err_set(e, EBUSY, "the client token was used before with other parameters");
    return rc;
}

int store_token_claim(struct store *s, const char *operation, const char *token,
                      const char *params_sha256, char **resource, struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    struct claim found = {0};
    rc = db_end(&s->writer, claim(&s->writer, operation, token, params_sha256, &found, e), e);
    if (rc >= 0)
        *resource = TAKE(found.resource);
    claim_done(&found);
    return rc;
}

int store_token_set(struct store *s, const char *operation, const char *token, const char *resource,
                    struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "UPDATE tokens SET resource = ? WHERE operation = ? AND token = ?",
                 T(resource), T(operation), T(token));
    if (rc == 0)
        rc = err_set(e, ENOENT, "the client token is not claimed");
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_token_drop(struct store *s, const char *operation, const char *token, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "DELETE FROM tokens WHERE operation = ? AND token = ?", T(operation),
                 T(token));
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_token_purge(struct store *s, int64_t before, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "DELETE FROM tokens WHERE created_at < ?", N(before));
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}
