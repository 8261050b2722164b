/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoder of S3's "aws-chunked" request bodies (x-amz-content-sha256: STREAMING-...): chunk sizes,
 * chunk signatures, and the trailer with its checksum and signature. Sans-IO: bytes in, decoded
 * bytes out through a callback. One owner; not thread-safe.
 *
 * Decoded bytes are handed out before their chunk's signature can be checked: the caller must keep
 * them apart (a temporary file) and throw them away unless aws_chunked_end() succeeded.
 *
 * Errors: -EACCES a signature does not match, -EBADMSG a checksum does not match, -EINVAL the
 * framing is broken, the body is cut short or has another length than declared, -EMSGSIZE larger
 * than allowed, and whatever the callback returned. After an error the decoder refuses more.
 */
#ifndef AUTH_AWS_CHUNKED_H
#define AUTH_AWS_CHUNKED_H

#include "auth/sigv4.h"

#define AWS_CHUNK_LINE_MAX 256    /* chunk header or trailer line */
#define AWS_CHUNK_TRAILERS_MAX 16 /* fields */

struct aws_chunked;

struct aws_chunked_config {
    const struct sigv4_result *auth; /* what sigv4_verify() found; copied */
    int64_t decoded_length;          /* x-amz-decoded-content-length, -1 = not given */
    uint64_t max;                    /* decoded bytes allowed */
    struct slice trailer; /* value of x-amz-trailer (the announced field), may be empty */
    /* Decoded bytes; negative ends the decoding with that result. */
    int (*sink)(void *arg, const char *p, size_t n);
    void *arg;
};

/* -EINVAL: auth is not chunked, or x-amz-trailer names a checksum we do not know. */
int aws_chunked_new(const struct aws_chunked_config *c, struct aws_chunked **ret,
                    struct err *e) MUST_CHECK;
int aws_chunked_feed(struct aws_chunked *d, const char *p, size_t n, struct err *e) MUST_CHECK;
/* The request body ended. */
int aws_chunked_end(struct aws_chunked *d, struct err *e) MUST_CHECK;
void aws_chunked_free(struct aws_chunked *d); /* NULL is fine */

#endif
