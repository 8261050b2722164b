/* SPDX-License-Identifier: Apache-2.0 */
/* Images: the name, the state that covers its versions, tags. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/rows.h"

static void image_read(sqlite3_stmt *st, void *row)
{
    struct store_image *r = row;
    r->name = db_text(st, 0);
    strncpy(r->id, (const char *)sqlite3_column_text(st, 1), UUID_LEN);
    int state = image_state_parse((const char *)sqlite3_column_text(st, 2));
    assert(state >= 0);
    r->state = (enum image_state)state;
    r->latest_active = db_int(st, 3);
    r->latest_failed = db_int(st, 4);
    r->next_version = db_int(st, 5);
    r->tags = db_text(st, 6);
    r->created_at = db_int64(st, 7);
    r->updated_at = db_int64(st, 8);
}

void store_image_done(struct store_image *r)
{
    free(r->name);
    free(r->tags);
    *r = (struct store_image){0};
}

static void image_row_done(void *row)
{
    store_image_done(row);
}

const struct db_kind image_kind = {sizeof(struct store_image), image_read, image_row_done};

int image_row(struct db *db, const char *name, struct store_image *ret, struct err *e)
{
    int rc = db_row(db, &image_kind, ret, e, "SELECT " IMAGE_COLUMNS " FROM images WHERE name = ?",
                    T(name));
    return rc == -ENOENT ? err_set(e, ENOENT, "no image named '%s'", name) : rc;
}

int image_change(struct db *db, const char *name, int from, enum image_state to, struct err *e)
{
    struct store_image img;
    int rc = image_row(db, name, &img, e);
    if (rc < 0)
        return rc;
    enum image_state now = img.state;
    store_image_done(&img);
    if ((from >= 0 && (int)now != from) || !image_state_allows(now, to))
        return err_set(e, EBUSY, "image '%s' is %s and cannot become %s", name,
                       image_state_name(now), image_state_name(to));
    rc = db_exec(db, e, "UPDATE images SET state = ?, updated_at = ? WHERE name = ?",
                 T(image_state_name(to)), N(clock_real_ms()), T(name));
    return rc < 0 ? rc : 0;
}

int image_follow_versions(struct db *db, const char *name, struct err *e)
{
    int rc = db_exec(db, e,
                     "UPDATE images SET"
                     " latest_active = (SELECT coalesce(max(number), 0) FROM versions"
                     "  WHERE image = ?1 AND status = 'ACTIVE'),"
                     " latest_failed = (SELECT coalesce(max(number), 0) FROM versions"
                     "  WHERE image = ?1 AND state = 'FAILED') WHERE name = ?1",
                     T(name));
    return rc < 0 ? rc : 0;
}

static int image_add(struct db *db, const char *name, const char *tags, struct err *e)
{
    char id[UUID_LEN + 1];
    uuid_new(id);
    int64_t now = clock_real_ms();
    int rc = db_exec(db, e,
                     "INSERT INTO images (name, id, state, next_version, tags, created_at,"
                     " updated_at) VALUES (?, ?, ?, 2, ?, ?, ?)",
                     T(name), T(id), T(image_state_name(IMAGE_CREATING)), T(tags), N(now), N(now));
    if (rc == -EEXIST)
        return err_set(e, EEXIST, "an image named '%s' exists already", name);
    return rc < 0 ? rc : 0;
}

/* Rows a transaction read are handed over only when it was committed. */
static int image_result(int rc, struct store_image *img, struct store_version *ver,
                        struct store_build *build, struct store_image *ret_img,
                        struct store_version *ret_ver, struct store_build *ret_build)
{
    if (rc >= 0 && ret_img)
        *ret_img = *img;
    else
        store_image_done(img);
    if (rc >= 0 && ret_ver)
        *ret_ver = *ver;
    else
        store_version_done(ver);
    if (rc >= 0 && ret_build)
        *ret_build = *build;
    else
        store_build_done(build);
    return rc;
}

int store_image_create(struct store *s, const char *name, const char *tags, const char *config,
                       int memory_mib, struct store_image *img, struct store_version *ver,
                       struct store_build *build, struct err *e)
{
    struct db *db = &s->writer;
    struct store_image i = {0};
    struct store_version v = {0};
    struct store_build b = {0};
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = image_add(db, name, tags, e);
    if (rc == 0)
        rc = version_add(db, name, 1, config, memory_mib, &v, &b, e);
    if (rc == 0)
        rc = image_row(db, name, &i, e);
    rc = db_end(db, rc, e);
    return image_result(rc, &i, &v, &b, img, ver, build);
}

static int next_version(struct db *db, const char *name, int *ret, struct err *e)
{
    int rc = image_change(db, name, -1, IMAGE_UPDATING, e);
    int64_t number = 0;
    if (rc == 0)
        rc = db_number(db, &number, e, "SELECT next_version FROM images WHERE name = ?", T(name));
    if (rc == 0)
        rc = db_exec(db, e, "UPDATE images SET next_version = next_version + 1 WHERE name = ?",
                     T(name));
    *ret = (int)number;
    return rc < 0 ? rc : 0;
}

int store_version_create(struct store *s, const char *name, const char *config, int memory_mib,
                         struct store_image *img, struct store_version *ver,
                         struct store_build *build, struct err *e)
{
    struct db *db = &s->writer;
    struct store_image i = {0};
    struct store_version v = {0};
    struct store_build b = {0};
    int number = 0;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = next_version(db, name, &number, e);
    if (rc == 0)
        rc = version_add(db, name, number, config, memory_mib, &v, &b, e);
    if (rc == 0)
        rc = image_row(db, name, &i, e);
    rc = db_end(db, rc, e);
    return image_result(rc, &i, &v, &b, img, ver, build);
}

int store_image_get(struct store *s, const char *name, struct store_image *ret, struct err *e)
{
    int rc = db_begin(&s->reader, false, e);
    if (rc < 0)
        return rc;
    struct store_image r = {0};
    rc = db_end(&s->reader, image_row(&s->reader, name, &r, e), e);
    if (rc < 0)
        store_image_done(&r);
    else
        *ret = r;
    return rc;
}

int store_image_set_state(struct store *s, const char *name, int from, enum image_state to,
                          struct err *e)
{
    int rc = db_begin(&s->writer, true, e);
    if (rc < 0)
        return rc;
    return db_end(&s->writer, image_change(&s->writer, name, from, to, e), e);
}

int store_image_set_tags(struct store *s, const char *name, const char *tags, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "UPDATE images SET tags = ?, updated_at = ? WHERE name = ?", T(tags),
                 N(clock_real_ms()), T(name));
    if (rc == 0)
        rc = err_set(e, ENOENT, "no image named '%s'", name);
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_image_delete(struct store *s, const char *name, struct err *e)
{
    struct db *db = &s->writer;
    int rc = db_begin(db, true, e);
    if (rc < 0)
        return rc;
    rc = db_exec(db, e, "DELETE FROM images WHERE name = ?", T(name));
    if (rc == 0)
        rc = err_set(e, ENOENT, "no image named '%s'", name);
    /* Replaying a create after the image is gone would name a phantom. Image names have no ':'. */
    if (rc > 0)
        rc = db_exec(db, e,
                     "DELETE FROM tokens WHERE operation <> 'RunMicrovm' AND"
                     " (resource = ?1 OR substr(resource, 1, length(?1) + 1) = ?1 || ':')",
                     T(name));
    rc = db_end(db, rc, e);
    return rc < 0 ? rc : 0;
}

int store_image_list(struct store *s, const struct store_page *p,
                     int (*fn)(const struct store_image *r, void *arg), void *arg, struct err *e)
{
    struct db_rows rows;
    int rc = db_collect(&s->reader, &image_kind, &rows, e,
                        "SELECT " IMAGE_COLUMNS " FROM images WHERE (created_at, name) < (?, ?)"
                        " ORDER BY created_at DESC, name DESC LIMIT ?",
                        N(p->before_created ? p->before_created : INT64_MAX),
                        T(p->before_key ? p->before_key : ""), N(p->limit));
    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = fn(db_rows_at(&rows, i), arg);
    db_rows_done(&rows);
    return rc;
}
