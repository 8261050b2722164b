/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification of Signature Version 4. Theory of operation: the claim (who, when, which headers,
 * which signature) is parsed from the Authorization header or the query into struct claim; both
 * forms then pass the same checks in AWS's order: completeness, scope, time, key, signature.
 * Nothing of the claim is trusted before the signature matched, but for the key's name, which is
 * only looked up.
 */
#include "auth/sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/canonical.h"
#include "base/encode.h"

#define SKEW_S 300
#define PRESIGN_MAX_S 604800
#define AUTHORIZATION_MAX 4096

struct claim {
    char access_key[129], date[9], region[65], service[17], terminal[17];
    char amz_date[17];
    char signature[65];
    char signed_headers[2049];
    struct slice names[SIGNED_HEADERS_MAX]; /* into signed_headers */
    size_t n_names;
    int64_t expires_s; /* presigned only */
    char payload[81];
};

struct check {
    const struct sigv4_request *r;
    enum sigv4_service service;
    struct sigv4_result *ret;
    struct err *e;
    struct claim claim;
};

/* A name that occurs twice is ambiguous where it decides about trust: not found. */
static bool find_header(const struct sigv4_request *r, const char *name, struct slice *ret)
{
    unsigned found = 0;
    for (size_t i = 0; i < r->n_headers; i++) {
        if (slice_eq_nocase(r->headers[i].name, name)) {
            *ret = r->headers[i].value;
            found++;
        }
    }
    return found == 1;
}

static int refuse(struct check *c, enum sigv4_refusal why, const char *text)
{
    c->ret->refusal = why;
    return err_set(c->e, EACCES, "%s", text);
}

static int incomplete(struct check *c, const char *what)
{
    c->ret->refusal = SIGV4_INCOMPLETE;
    return err_set(c->e, EACCES, "Authorization header requires '%s' parameter.", what);
}

static bool copy_text(char *out, size_t cap, struct slice s)
{
    if (s.n == 0 || s.n >= cap || memchr(s.p, '\0', s.n))
        return false;
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

static struct slice trim(struct slice s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = (struct slice){s.p + 1, s.n - 1};
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* access-key/date/region/service/aws4_request */
static bool parse_credential(struct claim *k, struct slice s)
{
    struct slice rest = s;
    return copy_text(k->access_key, sizeof k->access_key, slice_cut(rest, '/', &rest)) &&
           copy_text(k->date, sizeof k->date, slice_cut(rest, '/', &rest)) &&
           copy_text(k->region, sizeof k->region, slice_cut(rest, '/', &rest)) &&
           copy_text(k->service, sizeof k->service, slice_cut(rest, '/', &rest)) &&
           copy_text(k->terminal, sizeof k->terminal, rest) &&
           strcmp(k->terminal, "aws4_request") == 0;
}

static bool parse_signed_headers(struct claim *k, struct slice s)
{
    if (!copy_text(k->signed_headers, sizeof k->signed_headers, s))
        return false;
    struct slice rest = slice_from(k->signed_headers);
    while (rest.n) {
        if (k->n_names == SIGNED_HEADERS_MAX)
            return false;
        struct slice name = slice_cut(rest, ';', &rest);
        if (name.n == 0)
            return false;
        for (size_t i = 0; i < name.n; i++) {
            if (isupper((unsigned char)name.p[i]))
                return false;
        }
        k->names[k->n_names++] = name;
    }
    return true;
}

static bool parse_signature(struct claim *k, struct slice s)
{
    unsigned char bytes[32];
    return s.n == 64 && copy_text(k->signature, sizeof k->signature, s) &&
           hex_decode(bytes, sizeof bytes, k->signature) == 0;
}

static int parse_authorization(struct check *c, struct slice value)
{
    struct claim *k = &c->claim;
    struct slice rest;
    if (value.n > AUTHORIZATION_MAX)
        return refuse(c, SIGV4_INCOMPLETE, "The Authorization header is too long.");
    if (!slice_eq(slice_cut(trim(value), ' ', &rest), SIGV4_ALGORITHM))
        return refuse(c, SIGV4_INCOMPLETE,
                      "Unsupported authorization type: only " SIGV4_ALGORITHM " is accepted.");
    bool credential = false, headers = false, signature = false;
    while (rest.n) {
        struct slice v;
        struct slice name = trim(slice_cut(trim(slice_cut(rest, ',', &rest)), '=', &v));
        if (slice_eq(name, "Credential"))
            credential = !credential && parse_credential(k, v);
        else if (slice_eq(name, "SignedHeaders"))
            headers = !headers && parse_signed_headers(k, v);
        else if (slice_eq(name, "Signature"))
            signature = !signature && parse_signature(k, v);
    }
    if (!credential)
        return incomplete(c, "Credential");
    if (!headers)
        return incomplete(c, "SignedHeaders");
    return signature ? 0 : incomplete(c, "Signature");
}

static int header_claim(struct check *c, struct slice authorization)
{
    struct slice v;
    int rc = parse_authorization(c, authorization);
    if (rc < 0)
        return rc;
    if (!find_header(c->r, "x-amz-date", &v) ||
        !copy_text(c->claim.amz_date, sizeof c->claim.amz_date, trim(v)))
        return refuse(c, SIGV4_INCOMPLETE,
                      "Authorization header requires existence of a valid 'X-Amz-Date' header.");
    if (find_header(c->r, "x-amz-content-sha256", &v)) {
        if (!copy_text(c->claim.payload, sizeof c->claim.payload, trim(v)))
            return refuse(c, SIGV4_INCOMPLETE, "The x-amz-content-sha256 header is invalid.");
    } else if (c->service == SIGV4_S3) {
        return refuse(c, SIGV4_INCOMPLETE,
                      "Missing required header for this request: x-amz-content-sha256");
    }
    return 0;
}

/* The decoded value of a query parameter that occurs exactly once. */
static bool query_param(struct slice target, const char *name, struct buf *out)
{
    struct slice query;
    unsigned found = 0;
    slice_cut(target, '?', &query);
    while (query.n) {
        struct slice v;
        if (!slice_eq(slice_cut(slice_cut(query, '&', &query), '=', &v), name))
            continue;
        buf_clear(out);
        if (found++ || percent_decode(out, v.p, v.n) < 0)
            return false;
    }
    return found == 1;
}

static struct slice text_of(const struct buf *b)
{
    return b->len ? (struct slice){b->data, b->len} : SLICE("");
}

static int query_claim(struct check *c)
{
    struct claim *k = &c->claim;
    struct slice target = c->r->target;
    CLEANUP(buf_done)
    struct buf v = BUF_INIT(AUTHORIZATION_MAX);
    c->ret->presigned = true;
    if (!query_param(target, "X-Amz-Algorithm", &v) || !slice_eq(text_of(&v), SIGV4_ALGORITHM))
        return incomplete(c, "X-Amz-Algorithm");
    if (!query_param(target, "X-Amz-Credential", &v) || !parse_credential(k, text_of(&v)))
        return incomplete(c, "X-Amz-Credential");
    if (!query_param(target, "X-Amz-SignedHeaders", &v) || !parse_signed_headers(k, text_of(&v)))
        return incomplete(c, "X-Amz-SignedHeaders");
    if (!query_param(target, "X-Amz-Signature", &v) || !parse_signature(k, text_of(&v)))
        return incomplete(c, "X-Amz-Signature");
    if (!query_param(target, "X-Amz-Date", &v) ||
        !copy_text(k->amz_date, sizeof k->amz_date, text_of(&v)))
        return incomplete(c, "X-Amz-Date");
    char expires[8], *end;
    if (!query_param(target, "X-Amz-Expires", &v) ||
        !copy_text(expires, sizeof expires, text_of(&v)) || !isdigit((unsigned char)expires[0]))
        return incomplete(c, "X-Amz-Expires");
    k->expires_s = strtol(expires, &end, 10);
    if (*end || k->expires_s < 1 || k->expires_s > PRESIGN_MAX_S)
        return refuse(c, SIGV4_INCOMPLETE, "X-Amz-Expires must be between 1 and 604800 seconds.");
    if (query_param(target, "X-Amz-Content-Sha256", &v) &&
        !copy_text(k->payload, sizeof k->payload, text_of(&v)))
        return incomplete(c, "X-Amz-Content-Sha256");
    if (!k->payload[0] && c->service == SIGV4_S3)
        snprintf(k->payload, sizeof k->payload, "UNSIGNED-PAYLOAD");
    return 0;
}

static int read_claim(struct check *c)
{
    struct slice v;
    CLEANUP(buf_done)
    struct buf scratch = BUF_INIT(AUTHORIZATION_MAX);
    if (find_header(c->r, "authorization", &v))
        return header_claim(c, v);
    if (query_param(c->r->target, "X-Amz-Algorithm", &scratch) ||
        query_param(c->r->target, "X-Amz-Signature", &scratch))
        return query_claim(c);
    return refuse(c, SIGV4_NO_SIGNATURE, "Missing Authentication Token");
}

/* "YYYYMMDDTHHMMSSZ" to Unix seconds. */
static bool parse_date(const char *s, int64_t *ret)
{
    if (strlen(s) != 16 || s[8] != 'T' || s[15] != 'Z')
        return false;
    for (int i = 0; i < 15; i++) {
        if (i != 8 && !isdigit((unsigned char)s[i]))
            return false;
    }
    struct tm tm = {0};
    if (!strptime(s, "%Y%m%dT%H%M%SZ", &tm))
        return false;
    *ret = timegm(&tm);
    return true;
}

static void format_date(int64_t at, char out[17])
{
    struct tm tm;
    time_t t = (time_t)at;
    gmtime_r(&t, &tm);
    strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm);
}

static int check_scope(struct check *c, int64_t *signed_at)
{
    struct claim *k = &c->claim;
    if (!parse_date(k->amz_date, signed_at))
        return refuse(c, SIGV4_INCOMPLETE,
                      "Date must be in ISO-8601 'basic format', for example 20260131T120000Z.");
    c->ret->refusal = SIGV4_MISMATCH;
    if (strcmp(k->service, sigv4_service_name(c->service)) != 0)
        return err_set(c->e, EACCES, "Credential should be scoped to correct service: '%s'.",
                       sigv4_service_name(c->service));
    if (strncmp(k->date, k->amz_date, 8) != 0 || strlen(k->date) != 8)
        return err_set(c->e, EACCES,
                       "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of "
                       "date from HTTP: '%s' != '%.8s', from '%s'.",
                       k->date, k->amz_date, k->amz_date);
    return 0;
}

static int check_time(struct check *c, int64_t signed_at, int64_t now_s)
{
    char now[17], limit[17];
    int64_t lifetime = c->ret->presigned ? c->claim.expires_s : SKEW_S;
    format_date(now_s, now);
    c->ret->refusal = SIGV4_EXPIRED;
    if (signed_at > now_s + SKEW_S) {
        format_date(now_s + SKEW_S, limit);
        return err_set(c->e, EACCES,
                       "Signature not yet current: %s is still later than %s (%s + 5 min.)",
                       c->claim.amz_date, limit, now);
    }
    if (signed_at + lifetime >= now_s)
        return 0;
    if (c->ret->presigned)
        return err_set(c->e, EACCES, "Request has expired");
    format_date(now_s - SKEW_S, limit);
    return err_set(c->e, EACCES, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
                   c->claim.amz_date, limit, now);
}

static bool is_signed(const struct claim *k, struct slice name)
{
    for (size_t i = 0; i < k->n_names; i++) {
        if (k->names[i].n == name.n && strncasecmp(k->names[i].p, name.p, name.n) == 0)
            return true;
    }
    return false;
}

/* Host must be signed, or a signature could be moved to another service. For S3, where x-amz-*
 * fields change what a request does, none may be added to a signed request. */
static int check_signed_headers(struct check *c)
{
    c->ret->refusal = SIGV4_MISMATCH;
    if (!is_signed(&c->claim, SLICE("host")))
        return err_set(c->e, EACCES, "'Host' must be a 'SignedHeader' in the AWS Authorization.");
    for (size_t i = 0; i < c->r->n_headers && c->service == SIGV4_S3; i++) {
        struct slice name = c->r->headers[i].name;
        if (name.n > 6 && strncasecmp(name.p, "x-amz-", 6) == 0 && !is_signed(&c->claim, name))
            return err_set(c->e, EACCES,
                           "There were headers present in the request which were not signed: %.*s",
                           (int)(name.n < 100 ? name.n : 100), name.p);
    }
    return 0;
}

static const struct payload_row {
    const char *name;
    enum sigv4_payload payload;
    bool trailer;
} payloads[] = {
    {"UNSIGNED-PAYLOAD", SIGV4_PAYLOAD_UNSIGNED, false},
    {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", SIGV4_PAYLOAD_CHUNKED, false},
    {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", SIGV4_PAYLOAD_CHUNKED, true},
    {"STREAMING-UNSIGNED-PAYLOAD-TRAILER", SIGV4_PAYLOAD_CHUNKED_UNSIGNED, true},
};

/* Decides what the payload line of the canonical request is and what is left to check. */
static int check_payload(struct check *c)
{
    struct claim *k = &c->claim;
    const char *body = c->r->body_sha256;
    unsigned char bytes[32];
    for (size_t i = 0; i < ARRAY_LEN(payloads) && c->service == SIGV4_S3; i++) {
        if (strcmp(k->payload, payloads[i].name) == 0) {
            c->ret->payload = payloads[i].payload;
            c->ret->trailer = payloads[i].trailer;
            return 0;
        }
    }
    if (!k->payload[0] && body)
        snprintf(k->payload, sizeof k->payload, "%.64s", body);
    if (strlen(k->payload) != 64 || hex_decode(bytes, sizeof bytes, k->payload) < 0)
        return refuse(c, SIGV4_INCOMPLETE,
                      "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- value, or the "
                      "hexadecimal SHA-256 of the body.");
    c->ret->payload = SIGV4_PAYLOAD_SIGNED;
    memcpy(c->ret->body_sha256, k->payload, 65);
    return 0;
}

static int check_signature(struct check *c, const struct sigv4_credential *cred)
{
    struct claim *k = &c->claim;
    struct canonical canon = {.service = c->service,
                              .method = c->r->method,
                              .target = c->r->target,
                              .host = c->r->host,
                              .headers = c->r->headers,
                              .n_headers = c->r->n_headers,
                              .signed_names = k->names,
                              .n_signed = k->n_names,
                              .payload = k->payload};
    struct sigv4_result *ret = c->ret;
    char digest[65], want[65];
    if (canonical_digest(&canon, digest, c->e) < 0)
        return refuse(c, SIGV4_INCOMPLETE, "The request target cannot be parsed.");
    snprintf(ret->scope, sizeof ret->scope, "%s/%s/%s/aws4_request", k->date, k->region,
             k->service);
    signing_key(cred->secret_key, k->amz_date, k->region, c->service, ret->signing_key);
    if (signature_of(ret->signing_key, SIGV4_ALGORITHM, k->amz_date, ret->scope, digest, want) < 0)
        return refuse(c, SIGV4_INCOMPLETE, "The credential scope is too long.");
    bool same = CRYPTO_memcmp(want, k->signature, 64) == 0;
    OPENSSL_cleanse(want, sizeof want);
    if (!same)
        return refuse(c, SIGV4_MISMATCH,
                      "The request signature we calculated does not match the signature you "
                      "provided. Check your AWS Secret Access Key and signing method. Consult the "
                      "service documentation for details.");
    memcpy(ret->seed_signature, k->signature, 65);
    memcpy(ret->scope_date, k->amz_date, 17);
    memcpy(ret->access_key, k->access_key, sizeof ret->access_key);
    memcpy(ret->region, k->region, sizeof ret->region);
    return 0;
}

static int check_body(struct check *c)
{
    const char *body = c->r->body_sha256;
    if (c->ret->payload != SIGV4_PAYLOAD_SIGNED || !body || strcasecmp(body, c->claim.payload) == 0)
        return 0;
    return refuse(c, SIGV4_BODY_MISMATCH,
                  "The provided 'x-amz-content-sha256' header does not match what was computed.");
}

static int verify(struct check *c, sigv4_lookup lookup, void *arg, int64_t now_s)
{
    int64_t signed_at = 0;
    int rc = read_claim(c);
    if (rc == 0)
        rc = check_scope(c, &signed_at);
    if (rc == 0)
        rc = check_time(c, signed_at, now_s);
    if (rc == 0)
        rc = check_signed_headers(c);
    if (rc == 0)
        rc = check_payload(c);
    if (rc < 0)
        return rc;
    const struct sigv4_credential *cred = lookup(c->claim.access_key, arg);
    if (!cred)
        return refuse(c, SIGV4_UNKNOWN_KEY,
                      "The security token included in the request is invalid.");
    rc = check_signature(c, cred);
    return rc == 0 ? check_body(c) : rc;
}

int sigv4_verify(const struct sigv4_request *r, enum sigv4_service service, sigv4_lookup lookup,
                 void *arg, int64_t now_s, struct sigv4_result *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    struct check c = {.r = r, .service = service, .ret = ret, .e = e};
    int rc = verify(&c, lookup, arg, now_s);
    if (rc < 0)
        OPENSSL_cleanse(ret->signing_key, sizeof ret->signing_key);
    else
        ret->refusal = SIGV4_ACCEPTED;
    return rc;
}
