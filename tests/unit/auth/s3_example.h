/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the Amazon S3 API reference ("Authenticating Requests"), with the example account. */
#ifndef TESTS_UNIT_AUTH_S3_EXAMPLE_H
#define TESTS_UNIT_AUTH_S3_EXAMPLE_H

#include "auth/sigv4.h"

#define S3_DATE "20130524T000000Z"
#define S3_TIME 1369353600
#define S3_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define S3_CREDENTIAL "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
#define S3_AUTH(names, signature) \
    "AWS4-HMAC-SHA256 Credential=" S3_CREDENTIAL ",SignedHeaders=" names ",Signature=" signature

static const struct sigv4_credential s3_account = {"AKIAIOSFODNN7EXAMPLE",
                                                   "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

static inline const struct sigv4_credential *s3_lookup(const char *access_key, void *arg)
{
    (void)arg;
    return strcmp(access_key, s3_account.access_key) == 0 ? &s3_account : NULL;
}

#define S3_HEADER(n, v)    \
    {                      \
        SLICE(n), SLICE(v) \
    }

/* "Example: PUT object" of "Chunked upload", without and with trailer. */
static const struct http_header s3_chunked_headers[] = {
    S3_HEADER("host", "s3.amazonaws.com"),
    S3_HEADER("x-amz-date", S3_DATE),
    S3_HEADER("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    S3_HEADER("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    S3_HEADER("content-encoding", "aws-chunked"),
    S3_HEADER("x-amz-decoded-content-length", "66560"),
    S3_HEADER("content-length", "66824"),
    S3_HEADER("authorization",
              S3_AUTH("content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
                      "x-amz-decoded-content-length;x-amz-storage-class",
                      "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")),
};
static const struct http_header s3_trailer_headers[] = {
    S3_HEADER("host", "s3.amazonaws.com"),
    S3_HEADER("x-amz-date", S3_DATE),
    S3_HEADER("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    S3_HEADER("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
    S3_HEADER("content-encoding", "aws-chunked"),
    S3_HEADER("x-amz-decoded-content-length", "66560"),
    S3_HEADER("x-amz-trailer", "x-amz-checksum-crc32c"),
    S3_HEADER("authorization",
              S3_AUTH("content-encoding;host;x-amz-content-sha256;x-amz-date;"
                      "x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
                      "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")),
};

#endif
