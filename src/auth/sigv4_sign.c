/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of Signature Version 4. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/canonical.h"

static int by_name(const void *a, const void *b)
{
    const struct http_header *x = a, *y = b;
    size_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
    int d = memcmp(x->name.p, y->name.p, n);
    return d ? d : (x->name.n > y->name.n) - (x->name.n < y->name.n);
}

static int authorization(const struct sigv4_credential *c, const struct sigv4_sign_request *r,
                         const struct slice *names, size_t n, const char *digest,
                         struct sigv4_signature *ret, struct err *e)
{
    char scope[160], signature[65];
    unsigned char key[32];
    const char *service = sigv4_service_name(r->service);
    snprintf(scope, sizeof scope, "%.8s/%.64s/%s/aws4_request", ret->date, r->region, service);
    signing_key(c->secret_key, ret->date, r->region, r->service, key);
    int rc = signature_of(key, SIGV4_ALGORITHM, ret->date, scope, digest, signature);
    OPENSSL_cleanse(key, sizeof key);
    struct buf out = BUF_INIT(sizeof ret->authorization - 1);
    if (rc == 0)
        rc = buf_addf(&out, SIGV4_ALGORITHM " Credential=%s/%s, SignedHeaders=", c->access_key,
                      scope);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = buf_addf(&out, "%s%.*s", i ? ";" : "", (int)names[i].n, names[i].p);
    if (rc == 0)
        rc = buf_addf(&out, ", Signature=%s", signature);
    if (rc == 0)
        memcpy(ret->authorization, out.data, out.len + 1);
    buf_done(&out);
    return rc < 0 ? err_set(e, EINVAL, "the request has too many headers to sign") : 0;
}

int sigv4_sign(const struct sigv4_credential *c, const struct sigv4_sign_request *r,
               struct sigv4_signature *ret, struct err *e)
{
    struct http_header all[SIGNED_HEADERS_MAX];
    struct slice names[SIGNED_HEADERS_MAX];
    size_t n = r->n_headers;
    if (n > SIGNED_HEADERS_MAX - 3)
        return err_set(e, EINVAL, "the request has too many headers to sign");
    struct tm tm;
    time_t now = (time_t)r->now_s;
    gmtime_r(&now, &tm);
    strftime(ret->date, sizeof ret->date, "%Y%m%dT%H%M%SZ", &tm);
    if (n)
        memcpy(all, r->headers, n * sizeof *all);
    all[n++] = (struct http_header){SLICE("host"), r->host};
    all[n++] = (struct http_header){SLICE("x-amz-date"), slice_from(ret->date)};
    all[n++] = (struct http_header){SLICE("x-amz-content-sha256"), slice_from(r->body_sha256)};
    qsort(all, n, sizeof *all, by_name);
    for (size_t i = 0; i < n; i++)
        names[i] = all[i].name;
    struct canonical canon = {.service = r->service,
                              .method = r->method,
                              .target = r->target,
                              .headers = all,
                              .n_headers = n,
                              .signed_names = names,
                              .n_signed = n,
                              .payload = r->body_sha256};
    char digest[65];
    int rc = canonical_digest(&canon, digest, e);
    return rc < 0 ? rc : authorization(c, r, names, n, digest, ret, e);
}
