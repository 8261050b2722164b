/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the S3 listener: one call in progress and what its parts share. Worker threads. */
#ifndef API_S3_INT_H
#define API_S3_INT_H

#include "api/s3.h"
#include "auth/sigv4.h"
#include "base/json.h"
#include "store/objects.h"

#define S3_KEY_MAX 1024
#define S3_NAME_MAX 63
#define S3_PART_MIN (5u * 1024 * 1024) /* every part but the last */
#define S3_PARTS_MAX 10000
#define S3_LIST_MAX 1000

enum s3_error {
    S3_INTERNAL, /* the default of a failed call */
    S3_ACCESS_DENIED,
    S3_SIGNATURE,
    S3_ACCESS_KEY,
    S3_TIME_SKEW,
    S3_PAYLOAD_HASH,
    S3_NO_SUCH_BUCKET,
    S3_NO_SUCH_KEY,
    S3_NO_SUCH_UPLOAD,
    S3_BUCKET_OWNED,
    S3_BUCKET_NOT_EMPTY,
    S3_BUCKET_NAME,
    S3_KEY_TOO_LONG,
    S3_INVALID_ARGUMENT,
    S3_INVALID_DIGEST,
    S3_BAD_DIGEST,
    S3_INVALID_PART,
    S3_PART_ORDER,
    S3_TOO_SMALL,
    S3_TOO_LARGE,
    S3_INCOMPLETE_BODY,
    S3_MALFORMED_XML,
    S3_INVALID_RANGE,
    S3_PRECONDITION,
    S3_METHOD,
    S3_NOT_IMPLEMENTED,
    S3_STORAGE_FULL,
    S3_ERROR_COUNT,
};

struct s3_error_row {
    const char *code;
    int status;
    const char *text; /* used when a call gives none of its own */
};
const struct s3_error_row *s3_error_row(enum s3_error x);
enum s3_error s3_error_of_refusal(enum sigv4_refusal r);

struct s3 {
    struct store *store;
    const struct auth_keys *keys;
    char dir[3072];
};

struct s3_request {
    struct s3 *s3;
    struct http_call *http;
    struct sigv4_result auth;
    char bucket[S3_NAME_MAX + 1]; /* "" = the service itself */
    char key[S3_KEY_MAX + 1];     /* "" = the bucket itself */
    json_t *query;                /* strings; owned by s3_call() */
    enum s3_error error;
    char request_id[UUID_LEN + 1];
};

/* Fails the call with this error; a NULL text means the row's own. Always -EINVAL. */
int s3_fail(struct s3_request *q, enum s3_error x, struct err *e, const char *text) MUST_CHECK;
/* Maps -ENXIO, -ENOENT, -ENOSPC, ... of the store or the file system; other codes are internal. */
int s3_fail_code(struct s3_request *q, int code, struct err *e) MUST_CHECK;

const char *s3_query(const struct s3_request *q, const char *name); /* NULL = absent */
/* Number in the query within [lo, hi]; otherwise when absent; -EINVAL fails the call. */
int s3_query_int(struct s3_request *q, const char *name, int lo, int hi, int otherwise,
                 struct err *e) MUST_CHECK;
/* Copies a request header, "" when absent; false when it is longer than cap - 1. */
bool s3_header(const struct s3_request *q, const char *name, char *out, size_t cap);
/* Answers with an XML body built by the caller; steals its contents. */
void s3_reply_xml(struct s3_request *q, struct buf *xml);

/* ---- operations (s3_bucket.c, s3_list.c, s3_object.c, s3_multipart.c)
 * ---------------------------- */

int s3_list_buckets(struct s3_request *q, struct err *e);
int s3_create_bucket(struct s3_request *q, struct err *e);
int s3_head_bucket(struct s3_request *q, struct err *e);
int s3_bucket_location(struct s3_request *q, struct err *e);
int s3_delete_bucket(struct s3_request *q, struct err *e);
int s3_list_objects(struct s3_request *q, struct err *e);
int s3_delete_objects(struct s3_request *q, struct err *e);
int s3_put_object(struct s3_request *q, struct err *e);
int s3_get_object(struct s3_request *q, struct err *e); /* and HEAD */
int s3_delete_object(struct s3_request *q, struct err *e);
int s3_create_upload(struct s3_request *q, struct err *e);
int s3_list_uploads(struct s3_request *q, struct err *e);
int s3_put_part(struct s3_request *q, struct err *e);
int s3_list_parts(struct s3_request *q, struct err *e);
int s3_complete_upload(struct s3_request *q, struct err *e);
int s3_abort_upload(struct s3_request *q, struct err *e);

/* Unlinks blobs the store reported as garbage, and frees the list. */
void s3_sweep(const struct s3 *s, struct store_garbage *g);
/* Content headers and x-amz-meta-* of a request as the metadata column; NULL out = none. */
int s3_metadata(struct s3_request *q, char **ret, struct err *e) MUST_CHECK;
/* "2026-01-02T03:04:05.678Z" */
void s3_time(char out[32], int64_t ms);

#endif
