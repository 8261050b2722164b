/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The canonical request of Signature Version 4. The path is never decoded: JSON services encode
 * each segment of the path on the wire once more; S3 signs it as sent, where characters that a
 * client left bare but had to encode are encoded. Query parameters are decoded and encoded again,
 * which makes every spelling of the same parameters equal.
 */
#include "auth/canonical.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/encode.h"

const char *sigv4_service_name(enum sigv4_service s)
{
    return s == SIGV4_S3 ? "s3" : "lambda";
}

struct slice slice_cut(struct slice s, char c, struct slice *rest)
{
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
    if (!at) {
        *rest = SLICE("");
        return s;
    }
    size_t n = (size_t)(at - s.p);
    *rest = (struct slice){at + 1, s.n - n - 1};
    return (struct slice){s.p, n};
}

static bool is_escape(struct slice s, size_t i)
{
    return s.p[i] == '%' && s.n - i >= 3 && isxdigit((unsigned char)s.p[i + 1]) &&
           isxdigit((unsigned char)s.p[i + 2]);
}

static int add_s3_path(struct buf *out, struct slice path)
{
    int rc = 0;
    for (size_t i = 0; i < path.n && rc == 0;) {
        if (is_escape(path, i)) {
            rc = buf_add(out, path.p + i, 3);
            i += 3;
        } else {
            rc = percent_encode(out, path.p + i, 1, "/");
            i++;
        }
    }
    return rc;
}

static int add_path(struct buf *out, const struct canonical *c)
{
    struct slice query;
    struct slice path = slice_cut(c->target, '?', &query);
    if (path.n == 0)
        return buf_adds(out, "/");
    return c->service == SIGV4_S3 ? add_s3_path(out, path)
                                  : percent_encode(out, path.p, path.n, "/");
}

struct param {
    char *name, *value; /* owned, encoded */
};

static int by_name_and_value(const void *a, const void *b)
{
    const struct param *x = a, *y = b;
    int d = strcmp(x->name, y->name);
    return d ? d : strcmp(x->value, y->value);
}

static int recode(struct slice s, char **ret)
{
    struct buf plain = BUF_INIT(CANONICAL_MAX), out = BUF_INIT(CANONICAL_MAX);
    int rc = percent_decode(&plain, s.p, s.n);
    if (rc == 0)
        rc = percent_encode(&out, plain.data, plain.len, "");
    buf_done(&plain);
    if (rc == 0)
        *ret = buf_take(&out);
    buf_done(&out);
    return rc;
}

static int split_query(struct slice query, struct param *params, size_t *n)
{
    while (query.n) {
        struct slice value;
        struct slice name = slice_cut(slice_cut(query, '&', &query), '=', &value);
        if (name.n == 0 && value.n == 0)
            continue;
        if (slice_eq(name, "X-Amz-Signature"))
            continue;
        if (*n == QUERY_PARAMS_MAX)
            return -E2BIG;
        struct param *p = &params[(*n)++];
        int rc = recode(name, &p->name);
        if (rc == 0)
            rc = recode(value, &p->value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_query(struct buf *out, struct slice target)
{
    struct slice query;
    slice_cut(target, '?', &query);
    struct param *params = calloc(QUERY_PARAMS_MAX, sizeof *params);
    if (!params)
        return -ENOMEM;
    size_t n = 0;
    int rc = split_query(query, params, &n);
    if (rc == 0)
        qsort(params, n, sizeof *params, by_name_and_value);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = buf_addf(out, "%s%s=%s", i ? "&" : "", params[i].name, params[i].value);
    for (size_t i = 0; i < n; i++) {
        free(params[i].name);
        free(params[i].value);
    }
    free(params);
    return rc;
}

/* Trimmed, runs of blanks collapsed. */
static int add_value(struct buf *out, struct slice v)
{
    bool blank = false, any = false;
    int rc = 0;
    for (size_t i = 0; i < v.n && rc == 0; i++) {
        if (v.p[i] == ' ' || v.p[i] == '\t') {
            blank = true;
            continue;
        }
        if (blank && any)
            rc = buf_add(out, " ", 1);
        blank = false;
        any = true;
        if (rc == 0)
            rc = buf_add(out, v.p + i, 1);
    }
    return rc;
}

static int add_header(struct buf *out, const struct canonical *c, struct slice name)
{
    unsigned found = 0;
    int rc = buf_add(out, name.p, name.n);
    if (rc == 0)
        rc = buf_add(out, ":", 1);
    for (size_t i = 0; i < c->n_headers && rc == 0; i++) {
        const struct http_header *h = &c->headers[i];
        if (h->name.n != name.n || strncasecmp(h->name.p, name.p, name.n) != 0)
            continue;
        if (found++)
            rc = buf_add(out, ",", 1);
        if (rc == 0)
            rc = add_value(out, h->value);
    }
    if (rc == 0 && !found && slice_eq(name, "host"))
        rc = add_value(out, c->host);
    return rc == 0 ? buf_add(out, "\n", 1) : rc;
}

static int add_headers(struct buf *out, const struct canonical *c)
{
    int rc = 0;
    for (size_t i = 0; i < c->n_signed && rc == 0; i++)
        rc = add_header(out, c, c->signed_names[i]);
    if (rc == 0)
        rc = buf_add(out, "\n", 1);
    for (size_t i = 0; i < c->n_signed && rc == 0; i++) {
        if (i)
            rc = buf_add(out, ";", 1);
        if (rc == 0)
            rc = buf_add(out, c->signed_names[i].p, c->signed_names[i].n);
    }
    return rc;
}

int canonical_digest(const struct canonical *c, char hex[65], struct err *e)
{
    struct buf out = BUF_INIT(CANONICAL_MAX);
    int rc = buf_add(&out, c->method.p, c->method.n);
    if (rc == 0)
        rc = buf_add(&out, "\n", 1);
    if (rc == 0)
        rc = add_path(&out, c);
    if (rc == 0)
        rc = buf_add(&out, "\n", 1);
    if (rc == 0)
        rc = add_query(&out, c->target);
    if (rc == 0)
        rc = buf_add(&out, "\n", 1);
    if (rc == 0)
        rc = add_headers(&out, c);
    if (rc == 0)
        rc = buf_addf(&out, "\n%s", c->payload);
    if (rc == 0)
        sha256_hex_of(out.data, out.len, hex);
    buf_done(&out);
    return rc < 0
               ? err_set(e, EINVAL, "the request target cannot be signed: bad escape or too long")
               : 0;
}

void signing_key(const char *secret, const char *amz_date, const char *region,
                 enum sigv4_service service, unsigned char key[32])
{
    char start[4 + 128 + 1];
    snprintf(start, sizeof start, "AWS4%.128s", secret);
    const char *name = sigv4_service_name(service);
    hmac_sha256(start, strlen(start), amz_date, 8, key);
    hmac_sha256(key, 32, region, strlen(region), key);
    hmac_sha256(key, 32, name, strlen(name), key);
    hmac_sha256(key, 32, "aws4_request", 12, key);
    OPENSSL_cleanse(start, sizeof start);
}

int signature_of(const unsigned char key[32], const char *algorithm, const char *amz_date,
                 const char *scope, const char *tail, char hex[65])
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s\n%s\n%s\n%s", algorithm, amz_date, scope, tail);
    if (n < 0 || (size_t)n >= sizeof text)
        return -EMSGSIZE;
    unsigned char mac[SHA256_LEN];
    hmac_sha256(key, 32, text, (size_t)n, mac);
    hex_encode(hex, mac, sizeof mac);
    return 0;
}
