/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the auth layer: the canonical request, the string to sign and the signing key, shared
 * by verification and signing. */
#ifndef AUTH_CANONICAL_H
#define AUTH_CANONICAL_H

#include "auth/sigv4.h"

#define SIGV4_ALGORITHM "AWS4-HMAC-SHA256"
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#define CANONICAL_MAX (256 * 1024) /* target and headers are bounded by the server before this */
#define SIGNED_HEADERS_MAX 64
#define QUERY_PARAMS_MAX 256

struct canonical {
    enum sigv4_service service;
    struct slice method, target, host;
    const struct http_header *headers;
    size_t n_headers;
    const struct slice *signed_names; /* lower case, in the order to be signed */
    size_t n_signed;
    const char *payload; /* hash or one of the literal payload names */
};

const char *sigv4_service_name(enum sigv4_service s);

/* Splits at the first c: what precedes it is returned, *rest is what follows (empty when absent).
 */
struct slice slice_cut(struct slice s, char c, struct slice *rest);

/* Hex digest of the canonical request. -EINVAL on a bad escape or too many parameters. */
int canonical_digest(const struct canonical *c, char hex[65], struct err *e) MUST_CHECK;
/* HMAC chain over date (first 8 of amz_date), region, service. */
void signing_key(const char *secret, const char *amz_date, const char *region,
                 enum sigv4_service service, unsigned char key[32]);
/* Hex HMAC of "<algorithm>\n<date>\n<scope>\n<tail>". */
int signature_of(const unsigned char key[32], const char *algorithm, const char *amz_date,
                 const char *scope, const char *tail, char hex[65]) MUST_CHECK;

#endif
