/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object store artifacts are uploaded to: the part of S3 that the AWS CLI, boto3 and the AWS
 * SDKs use to put, get, list and delete objects, multipart included. Path-style addresses, and
 * "<bucket>.localhost". Its own listener; the same credential as the API.
 *
 * s3_call() is an http_call_fn: worker threads, several at a time, blocking.
 */
#ifndef API_S3_H
#define API_S3_H

#include "auth/keys.h"
#include "http/service.h"
#include "store/store.h"

struct s3_config {
    struct store *store; /* borrowed, as keys, until s3_close() */
    const struct auth_keys *keys;
    const char *dir; /* "<data>/s3": made when missing; nothing else may be kept in it */
};

struct s3;
/* Removes files that no object names (left by a crash). */
int s3_open(const struct s3_config *c, struct s3 **ret, struct err *e) MUST_CHECK;
void s3_close(struct s3 *s); /* after the last call; NULL is fine */
void s3_call(struct http_call *c, void *s3);
bool s3_admit(const struct http_call *c, void *s3); /* an http_admit_fn: signed by us, in time? */

/* A microvm_artifact_open: a descriptor open for reading, or -ENOENT with a text that starts with
 * "S3_NO_SUCH_BUCKET: " or "S3_NO_SUCH_KEY: ". The contents stay what they are while it is open. */
int s3_open_artifact(void *s3, const char *bucket, const char *key, struct err *e) MUST_CHECK;

#define S3_MAX_BODY (5ull * 1024 * 1024 * 1024) /* one PUT, as in S3 */

#endif
