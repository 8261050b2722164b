/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs: the files objects and parts are kept in, "<dir>/<uuid>". A blob is written and synced
 * before a row names it, so a row never names a half-written file; a blob without a row is removed
 * when it was not taken over (s3_blob_done) or at the next start.
 */
#ifndef API_S3_BLOB_H
#define API_S3_BLOB_H

#include "api/s3_checksum.h"
#include "api/s3_int.h"

struct s3_blob {
    struct s3 *s3;
    int fd;
    char name[UUID_LEN + 1];
    uint64_t size;
    struct s3_checksum md5;
    bool kept;
};

int s3_blob_create(struct s3 *s, struct s3_blob *ret, struct err *e) MUST_CHECK;
int s3_blob_add(struct s3_blob *b, const char *p, size_t n, struct err *e) MUST_CHECK;
/* Makes the contents durable. */
int s3_blob_sync(struct s3_blob *b, struct err *e) MUST_CHECK;
/* Closes; removes the file unless kept. */
void s3_blob_done(struct s3_blob *b);
int s3_blob_open(const struct s3 *s, const char *name, struct err *e) MUST_CHECK; /* read-only fd */
void s3_blob_remove(const struct s3 *s, const char *name);

/* What a request's payload turned out to be. */
struct s3_payload {
    char md5_hex[33];
    unsigned char md5[EVP_MAX_MD_SIZE];   /* 16 bytes of it */
    const struct s3_algorithm *algorithm; /* NULL = no checksum was given */
    char checksum[96];                    /* base64, checked */
};

/* Reads the whole request payload into a new synced blob: plain or aws-chunked, with signatures,
 * trailer, Content-MD5 and x-amz-checksum-* verified as far as they are present. */
int s3_payload_store(struct s3_request *q, struct s3_blob *ret, struct s3_payload *info,
                     struct err *e) MUST_CHECK;

#endif
