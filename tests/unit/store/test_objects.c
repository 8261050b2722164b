/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets, objects, multipart uploads, and what becomes garbage. */
#include "common.h"

#include <errno.h>
#include <string.h>

#include "store/objects.h"

static int put(struct store *s, const char *bucket, const char *key, const char *path,
               struct store_garbage *g, struct err *e)
{
    struct store_object o = {.bucket = (char *)bucket,
                             .key = (char *)key,
                             .size = 5,
                             .etag = (char *)"abc",
                             .content_type = (char *)"text/plain",
                             .path = (char *)path};
    return store_object_put(s, &o, g, e);
}

static void expect_garbage(struct store_garbage *g, const char *paths)
{
    char text[512] = "";
    for (size_t i = 0; i < g->n; i++) {
        strcat(text, g->paths[i]);
        strcat(text, " ");
    }
    assert_string_equal(text, paths);
    store_garbage_done(g);
}

static int see_bucket(const struct store_bucket *r, void *arg)
{
    strcat(arg, r->name);
    strcat(arg, " ");
    return 0;
}

static int see_object(const struct store_object *r, void *arg)
{
    strcat(arg, r->key);
    strcat(arg, " ");
    return 0;
}

static int see_upload(const struct store_upload *r, void *arg)
{
    strcat(arg, r->id);
    strcat(arg, " ");
    return 0;
}

static int see_part(const struct store_part *r, void *arg)
{
    char text[32];
    snprintf(text, sizeof text, "%d=%s ", r->number, r->path);
    strcat(arg, text);
    return 0;
}

static void buckets(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_garbage g;
    assert_ok(store_bucket_create(s, "beta", &e), e);
    assert_ok(store_bucket_create(s, "alpha", &e), e);
    assert_int_equal(store_bucket_create(s, "alpha", &e), -EEXIST);
    char names[64] = "";
    assert_ok(store_bucket_list(s, see_bucket, names, &e), e);
    assert_string_equal(names, "alpha beta ");
    struct store_bucket b = {0};
    assert_ok(store_bucket_get(s, "beta", &b, &e), e);
    assert_true(b.created_at > 0);
    store_bucket_done(&b);
    assert_int_equal(store_bucket_get(s, "gamma", &b, &e), -ENXIO);
    assert_ok(put(s, "beta", "k", "p1", &g, &e), e);
    assert_int_equal(store_bucket_delete(s, "beta", &e), -ENOTEMPTY);
    assert_ok(store_object_delete(s, "beta", "k", &g, &e), e);
    expect_garbage(&g, "p1 ");
    assert_ok(store_bucket_delete(s, "beta", &e), e);
    assert_int_equal(store_bucket_delete(s, "beta", &e), -ENXIO);
}

static void objects(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_garbage g;
    struct store_object o = {0};
    bool used = false;
    assert_int_equal(put(s, "none", "k", "p0", &g, &e), -ENXIO);
    assert_ok(store_bucket_create(s, "b", &e), e);
    assert_ok(put(s, "b", "k", "p1", &g, &e), e);
    expect_garbage(&g, "");
    assert_ok(put(s, "b", "k", "p2", &g, &e), e);
    expect_garbage(&g, "p1 ");
    assert_ok(put(s, "b", "k", "p2", &g, &e), e); /* same file: not garbage */
    expect_garbage(&g, "");
    assert_ok(store_object_get(s, "b", "k", &o, &e), e);
    assert_string_equal(o.path, "p2");
    assert_string_equal(o.content_type, "text/plain");
    assert_null(o.metadata);
    assert_int_equal(o.size, 5);
    store_object_done(&o);
    assert_int_equal(store_object_get(s, "b", "x", &o, &e), -ENOENT);
    assert_int_equal(store_object_get(s, "x", "k", &o, &e), -ENXIO);
    assert_ok(store_blob_used(s, "p2", &used, &e), e);
    assert_true(used);
    assert_ok(store_blob_used(s, "p1", &used, &e), e);
    assert_false(used);
    assert_ok(store_object_delete(s, "b", "x", &g, &e), e);
    expect_garbage(&g, "");
    assert_ok(store_object_delete(s, "b", "k", &g, &e), e);
    expect_garbage(&g, "p2 ");
}

static void list_is(struct store *s, const char *prefix, const char *after, int limit,
                    const char *want)
{
    struct err e;
    char keys[512] = "";
    assert_ok(store_object_list(s, "b", prefix, after, limit, see_object, keys, &e), e);
    assert_string_equal(keys, want);
}

static void listing(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_garbage g;
    static const char *const keys[] = {"b/2", "a", "b/1", "b", "Z", "b%", "b_x", "\u00e4", "c"};
    assert_ok(store_bucket_create(s, "b", &e), e);
    assert_ok(store_bucket_create(s, "other", &e), e);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_ok(put(s, "b", keys[i], keys[i], &g, &e), e);
    assert_ok(put(s, "other", "b/3", "q", &g, &e), e);
    list_is(s, NULL, NULL, 100, "Z a b b% b/1 b/2 b_x c \u00e4 "); /* by bytes */
    list_is(s, "b", NULL, 100, "b b% b/1 b/2 b_x ");
    list_is(s, "b/", NULL, 100, "b/1 b/2 ");
    list_is(s, "b%", NULL, 100, "b% "); /* no wildcard */
    list_is(s, "b/", "b/1", 100, "b/2 ");
    list_is(s, "b", "b/1", 1, "b/2 ");
    list_is(s, NULL, "c", 100, "\u00e4 ");
    list_is(s, "zz", NULL, 100, "");
    char none[8] = "";
    assert_int_equal(store_object_list(s, "no", NULL, NULL, 9, see_object, none, &e), -ENXIO);
}

static void part(struct store *s, const char *upload, int number, const char *path,
                 const char *garbage)
{
    struct err e;
    struct store_garbage g;
    struct store_part p = {.upload = (char *)upload,
                           .number = number,
                           .size = 5,
                           .etag = (char *)"e",
                           .path = (char *)path};
    assert_ok(store_part_put(s, &p, &g, &e), e);
    expect_garbage(&g, garbage);
}

static void multipart(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_garbage g;
    struct store_object got = {0};
    assert_ok(store_bucket_create(s, "b", &e), e);
    struct store_upload u = {.id = (char *)"u1", .bucket = (char *)"b", .key = (char *)"k"};
    assert_ok(store_upload_create(s, &u, &e), e);
    assert_int_equal(store_upload_create(s, &u, &e), -EEXIST);
    u.id = (char *)"u2";
    assert_ok(store_upload_create(s, &u, &e), e);
    u.bucket = (char *)"none";
    assert_int_equal(store_upload_create(s, &u, &e), -ENXIO);
    char ids[64] = "";
    assert_ok(store_upload_list(s, "b", NULL, NULL, NULL, 10, see_upload, ids, &e), e);
    assert_string_equal(ids, "u1 u2 ");
    ids[0] = 0;
    assert_ok(store_upload_list(s, "b", "k", "k", "u1", 10, see_upload, ids, &e), e);
    assert_string_equal(ids, "u2 ");

    part(s, "u1", 2, "p2", "");
    part(s, "u1", 1, "p1", "");
    part(s, "u1", 1, "p1b", "p1 ");
    char parts[64] = "";
    assert_ok(store_part_list(s, "u1", 0, 10, see_part, parts, &e), e);
    assert_string_equal(parts, "1=p1b 2=p2 ");
    parts[0] = 0;
    assert_ok(store_part_list(s, "u1", 1, 10, see_part, parts, &e), e);
    assert_string_equal(parts, "2=p2 ");
    assert_int_equal(store_part_list(s, "u9", 0, 10, see_part, parts, &e), -ENOENT);

    struct store_object o = {.bucket = (char *)"b",
                             .key = (char *)"wrong",
                             .etag = (char *)"e-2",
                             .path = (char *)"whole",
                             .metadata = (char *)"{\"a\":\"b\"}"};
    assert_int_equal(store_upload_complete(s, "u1", &o, &g, &e), -EBUSY);
    expect_garbage(&g, "");
    o.key = (char *)"k";
    assert_ok(put(s, "b", "k", "old", &g, &e), e);
    assert_ok(store_upload_complete(s, "u1", &o, &g, &e), e);
    expect_garbage(&g, "old p1b p2 ");
    assert_int_equal(store_upload_complete(s, "u1", &o, &g, &e), -ENOENT);
    assert_ok(store_object_get(s, "b", "k", &got, &e), e);
    assert_string_equal(got.path, "whole");
    assert_string_equal(got.metadata, "{\"a\":\"b\"}");
    store_object_done(&got);

    /* a single part may be kept as the object's own blob */
    part(s, "u2", 1, "only", "");
    o.path = (char *)"only";
    assert_ok(store_upload_complete(s, "u2", &o, &g, &e), e);
    expect_garbage(&g, "whole ");
}

static void aborted_upload(void **state)
{
    struct store *s = ((struct scratch *)*state)->s;
    struct err e;
    struct store_garbage g;
    bool used = true;
    assert_ok(store_bucket_create(s, "b", &e), e);
    struct store_upload u = {.id = (char *)"u1", .bucket = (char *)"b", .key = (char *)"k"};
    assert_ok(store_upload_create(s, &u, &e), e);
    part(s, "u1", 1, "p1", "");
    assert_int_equal(store_bucket_delete(s, "b", &e), -ENOTEMPTY);
    assert_ok(store_blob_used(s, "p1", &used, &e), e);
    assert_true(used);
    assert_ok(store_upload_abort(s, "u1", &g, &e), e);
    expect_garbage(&g, "p1 ");
    assert_int_equal(store_upload_abort(s, "u1", &g, &e), -ENOENT);
    assert_ok(store_blob_used(s, "p1", &used, &e), e);
    assert_false(used);
    struct store_part p = {
        .upload = (char *)"u1", .number = 1, .etag = (char *)"", .path = (char *)"x"};
    assert_int_equal(store_part_put(s, &p, &g, &e), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(buckets), TEST(objects), TEST(listing), TEST(multipart), TEST(aborted_upload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
