/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Signature Version 4 verification: Authorization header and presigned query, for JSON services
 * (path encoded once more) and S3 (path as sent; UNSIGNED-PAYLOAD and the aws-chunked
 * STREAMING-* payloads). Pure; any thread. Comparison of signatures is constant-time.
 */
#ifndef AUTH_SIGV4_H
#define AUTH_SIGV4_H

#include <stdint.h>

#include "base/err.h"
#include "http/server.h"

struct sigv4_credential {
    char access_key[129];
    char secret_key[129]; /* secret */
};

enum sigv4_service { SIGV4_LAMBDA, SIGV4_S3 };

struct sigv4_request {
    struct slice method, target; /* as received, undecoded */
    const struct http_header *headers;
    size_t n_headers;
    const char *body_sha256; /* hex of the body as received */
};

enum sigv4_payload {
    SIGV4_PAYLOAD_SIGNED,        /* body_sha256 was checked */
    SIGV4_PAYLOAD_UNSIGNED,
    SIGV4_PAYLOAD_CHUNKED,       /* aws-chunked: chunk signatures / trailer still to be checked */
    SIGV4_PAYLOAD_CHUNKED_UNSIGNED,
};

struct sigv4_result {
    char access_key[129];
    char region[65];
    enum sigv4_payload payload;
    /* For SIGV4_PAYLOAD_CHUNKED: what sigv4_chunk() needs. */
    unsigned char signing_key[32];
    char seed_signature[65];
    char scope_date[17], scope[160];
};

/* Looks the key up; NULL = unknown. */
typedef const struct sigv4_credential *(*sigv4_lookup)(const char *access_key, void *arg);

/* -EACCES with the text AWS uses ("The request signature we calculated does not match ...", "The
 * security token included in the request is invalid.", "Signature expired: ...", "Missing
 * Authentication Token"). now_s: Unix seconds; the allowed skew is 5 minutes. */
int sigv4_verify(const struct sigv4_request *r, enum sigv4_service service, sigv4_lookup lookup,
                 void *arg, int64_t now_s, struct sigv4_result *ret, struct err *e) MUST_CHECK;

#endif
