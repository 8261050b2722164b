/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of the object store (buckets, objects, multipart uploads). Contents are files ("blobs")
 * named by the path column; this layer never touches them. Order for writers: write and fsync the
 * blob, commit the row, then unlink what the function reports as garbage. A crash in between leaves
 * at most a blob without a row: store_blob_used() tells at start-up which those are.
 *
 * Threads, ownership and errors as in store.h; in addition -ENXIO no such bucket. Keys and names
 * are UTF-8 without NUL and sort by bytes. created_at 0 in a row to be stored means now.
 */
#ifndef STORE_OBJECTS_H
#define STORE_OBJECTS_H

#include "store/store.h"

/* Blob files that no row names any more: the caller unlinks them. Zeroed when there are none. */
struct store_garbage {
    char **paths; /* owned */
    size_t n;
};
void store_garbage_done(struct store_garbage *g);

struct store_bucket {
    char *name;
    int64_t created_at;
};

struct store_object {
    char *bucket, *key;
    int64_t size;
    char *etag;         /* without quotes */
    char *content_type; /* NULL = none given */
    char *metadata;     /* JSON object of x-amz-meta-* and the like; NULL = none */
    char *path;         /* of the blob */
    int64_t created_at;
};

struct store_upload {
    char *id; /* chosen by the caller, unguessable */
    char *bucket, *key;
    char *content_type, *metadata; /* as in store_object */
    int64_t created_at;
};

struct store_part {
    char *upload;
    int number; /* 1..10000 */
    int64_t size;
    char *etag, *path;
    int64_t created_at;
};

void store_bucket_done(struct store_bucket *r);
void store_object_done(struct store_object *r);
void store_upload_done(struct store_upload *r);
void store_part_done(struct store_part *r);

/* ---- buckets ----------------------------------------------------------------------------------
 */

int store_bucket_create(struct store *s, const char *name, struct err *e) MUST_CHECK; /* -EEXIST */
int store_bucket_get(struct store *s, const char *name, struct store_bucket *ret,
                     struct err *e) MUST_CHECK;
/* -ENOTEMPTY while it has objects or uploads. */
int store_bucket_delete(struct store *s, const char *name, struct err *e) MUST_CHECK;
/* By name. */
int store_bucket_list(struct store *s, int (*fn)(const struct store_bucket *r, void *arg),
                      void *arg, struct err *e) MUST_CHECK;

/* ---- objects ----------------------------------------------------------------------------------
 */

/* Creates or replaces. */
int store_object_put(struct store *s, const struct store_object *o, struct store_garbage *g,
                     struct err *e) MUST_CHECK;
/* -ENXIO no such bucket, -ENOENT no such key. */
int store_object_get(struct store *s, const char *bucket, const char *key, struct store_object *ret,
                     struct err *e) MUST_CHECK;
/* A missing key is success. */
int store_object_delete(struct store *s, const char *bucket, const char *key,
                        struct store_garbage *g, struct err *e) MUST_CHECK;
/* Keys that start with prefix (NULL = any) and sort after start_after (NULL = none). */
int store_object_list(struct store *s, const char *bucket, const char *prefix,
                      const char *start_after, int limit,
                      int (*fn)(const struct store_object *r, void *arg), void *arg,
                      struct err *e) MUST_CHECK;

/* ---- multipart uploads ------------------------------------------------------------------------
 */

int store_upload_create(struct store *s, const struct store_upload *u, struct err *e) MUST_CHECK;
int store_upload_get(struct store *s, const char *id, struct store_upload *ret,
                     struct err *e) MUST_CHECK;
/* Uploads of a bucket by (key, id), after the marker pair (NULL = from the start). */
int store_upload_list(struct store *s, const char *bucket, const char *prefix,
                      const char *after_key, const char *after_id, int limit,
                      int (*fn)(const struct store_upload *r, void *arg), void *arg,
                      struct err *e) MUST_CHECK;
/* Creates or replaces a part. -ENOENT no such upload. */
int store_part_put(struct store *s, const struct store_part *p, struct store_garbage *g,
                   struct err *e) MUST_CHECK;
/* By number, after after_number. -ENOENT no such upload. */
int store_part_list(struct store *s, const char *upload, int after_number, int limit,
                    int (*fn)(const struct store_part *r, void *arg), void *arg,
                    struct err *e) MUST_CHECK;
/* Puts the object and forgets the upload in one transaction. Garbage: every part's blob but
 * o->path, and the replaced object's. -ENOENT no such upload; -EBUSY when o is not the upload's
 * bucket and key. */
int store_upload_complete(struct store *s, const char *id, const struct store_object *o,
                          struct store_garbage *g, struct err *e) MUST_CHECK;
int store_upload_abort(struct store *s, const char *id, struct store_garbage *g,
                       struct err *e) MUST_CHECK;

/* Whether an object or a part names this blob. */
int store_blob_used(struct store *s, const char *path, bool *ret, struct err *e) MUST_CHECK;

#endif
