/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Signature Version 4: verification of the Authorization header and of presigned queries, for
 * JSON services (path encoded once more) and S3 (path as sent; UNSIGNED-PAYLOAD and the aws-chunked
 * STREAMING-* payloads), and the signing that a client does. Pure; any thread. Signatures are
 * compared in constant time.
 */
#ifndef AUTH_SIGV4_H
#define AUTH_SIGV4_H

#include <stdbool.h>
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
    struct slice host;           /* authority, used when headers have no "host" (HTTP/2) */
    const struct http_header *headers;
    size_t n_headers;
    /* Hex of the body as received. NULL: not known yet (a body streamed to disk); then the caller
     * compares with sigv4_result.body_sha256 itself when payload is SIGV4_PAYLOAD_SIGNED. */
    const char *body_sha256;
};

enum sigv4_payload {
    SIGV4_PAYLOAD_SIGNED, /* body_sha256 was checked (or is the caller's to check) */
    SIGV4_PAYLOAD_UNSIGNED,
    SIGV4_PAYLOAD_CHUNKED, /* aws-chunked: chunk signatures to be checked by aws_chunked */
    SIGV4_PAYLOAD_CHUNKED_UNSIGNED,
};

/* Why a request was refused, for the exception or S3 error code. */
enum sigv4_refusal {
    SIGV4_ACCEPTED,
    SIGV4_NO_SIGNATURE,  /* nothing to check: MissingAuthenticationToken / AccessDenied */
    SIGV4_INCOMPLETE,    /* malformed or missing parts: IncompleteSignature */
    SIGV4_UNKNOWN_KEY,   /* UnrecognizedClient / InvalidAccessKeyId */
    SIGV4_EXPIRED,       /* InvalidSignature / RequestTimeTooSkewed, AccessDenied when presigned */
    SIGV4_MISMATCH,      /* InvalidSignature / SignatureDoesNotMatch */
    SIGV4_BODY_MISMATCH, /* InvalidSignature / XAmzContentSHA256Mismatch */
};

struct sigv4_result {
    enum sigv4_refusal refusal; /* also set on failure */
    char access_key[129];
    char region[65];
    enum sigv4_payload payload;
    bool trailer; /* chunked: signed or checksummed trailer fields follow */
    bool presigned;
    char body_sha256[65]; /* SIGNED: what the body must hash to, hex */
    /* For SIGV4_PAYLOAD_CHUNKED: what chunk signatures are made with (auth/aws_chunked.h). */
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

/* What a client signs. headers: lower-case names, all of them are signed; host, x-amz-date and
 * x-amz-content-sha256 are added by the function and must not be among them. */
struct sigv4_sign_request {
    struct slice method, target, host;
    const struct http_header *headers;
    size_t n_headers;
    const char *body_sha256; /* hex or "UNSIGNED-PAYLOAD" */
    const char *region;
    enum sigv4_service service;
    int64_t now_s;
};

/* Values of the header fields to send besides those given. */
struct sigv4_signature {
    char date[17]; /* x-amz-date */
    char authorization[1024];
};

int sigv4_sign(const struct sigv4_credential *c, const struct sigv4_sign_request *r,
               struct sigv4_signature *ret, struct err *e) MUST_CHECK;

#endif
