/* SPDX-License-Identifier: Apache-2.0 */
/* Whole requests: the examples of the S3 reference, our own signer against our own verifier, and
 * each way a request can be wrong. */
#include "common.h"

#include "base/digest.h"
#include "base/encode.h"
#include "s3_example.h"

static const struct s3_vector {
    const char *method, *target;
    struct http_header headers[7];
    size_t n;
    const char *body;
    enum sigv4_payload payload;
} s3_vectors[] = {
    {"GET",
     "/test.txt",
     {S3_HEADER("host", "examplebucket.s3.amazonaws.com"), S3_HEADER("range", "bytes=0-9"),
      S3_HEADER("x-amz-content-sha256", S3_EMPTY), S3_HEADER("x-amz-date", S3_DATE),
      S3_HEADER("authorization",
                S3_AUTH("host;range;x-amz-content-sha256;x-amz-date",
                        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"))},
     5,
     "",
     SIGV4_PAYLOAD_SIGNED},
    {"PUT",
     "/test$file.text",
     {S3_HEADER("host", "examplebucket.s3.amazonaws.com"),
      S3_HEADER("date", "Fri, 24 May 2013 00:00:00 GMT"),
      S3_HEADER("x-amz-content-sha256",
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
      S3_HEADER("x-amz-date", S3_DATE), S3_HEADER("x-amz-storage-class", "REDUCED_REDUNDANCY"),
      S3_HEADER("authorization",
                S3_AUTH("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"))},
     6,
     "Welcome to Amazon S3.",
     SIGV4_PAYLOAD_SIGNED},
    {"GET",
     "/?lifecycle",
     {S3_HEADER("host", "examplebucket.s3.amazonaws.com"),
      S3_HEADER("x-amz-content-sha256", S3_EMPTY), S3_HEADER("x-amz-date", S3_DATE),
      S3_HEADER("authorization",
                S3_AUTH("host;x-amz-content-sha256;x-amz-date",
                        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"))},
     4,
     "",
     SIGV4_PAYLOAD_SIGNED},
    {"GET",
     "/?max-keys=2&prefix=J",
     {S3_HEADER("host", "examplebucket.s3.amazonaws.com"),
      S3_HEADER("x-amz-content-sha256", S3_EMPTY), S3_HEADER("x-amz-date", S3_DATE),
      S3_HEADER("authorization",
                S3_AUTH("host;x-amz-content-sha256;x-amz-date",
                        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"))},
     4,
     "",
     SIGV4_PAYLOAD_SIGNED},
    {"GET",
     "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524"
     "%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
     "&X-Amz-SignedHeaders=host&X-Amz-Signature="
     "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
     {S3_HEADER("host", "examplebucket.s3.amazonaws.com")},
     1,
     "",
     SIGV4_PAYLOAD_UNSIGNED},
};

static void s3_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(s3_vectors); i++) {
        const struct s3_vector *v = &s3_vectors[i];
        struct err e;
        struct sigv4_result r;
        char body[65];
        sha256_hex_of(v->body, strlen(v->body), body);
        struct sigv4_request q = {.method = slice_from(v->method),
                                  .target = slice_from(v->target),
                                  .headers = v->headers,
                                  .n_headers = v->n,
                                  .body_sha256 = body};
        print_message("%s %s\n", v->method, v->target);
        assert_ok(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, &r, &e), e);
        assert_int_equal(r.payload, v->payload);
        assert_int_equal(r.refusal, SIGV4_ACCEPTED);
        assert_string_equal(r.access_key, s3_account.access_key);
        assert_string_equal(r.region, "us-east-1");
        /* one thing changed */
        q.method = SLICE("DELETE");
        assert_int_equal(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, &r, &e), -EACCES);
        assert_int_equal(r.refusal, SIGV4_MISMATCH);
    }
}

static void s3_streaming(void **state)
{
    (void)state;
    struct err e;
    struct sigv4_result r;
    struct sigv4_request q = {.method = SLICE("PUT"),
                              .target = SLICE("/examplebucket/chunkObject.txt"),
                              .headers = s3_chunked_headers,
                              .n_headers = ARRAY_LEN(s3_chunked_headers)};
    assert_ok(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, &r, &e), e);
    assert_int_equal(r.payload, SIGV4_PAYLOAD_CHUNKED);
    assert_false(r.trailer);
    q.headers = s3_trailer_headers;
    q.n_headers = ARRAY_LEN(s3_trailer_headers);
    assert_ok(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, &r, &e), e);
    assert_int_equal(r.payload, SIGV4_PAYLOAD_CHUNKED);
    assert_true(r.trailer);
}

/* ---- our signer -------------------------------------------------------------------------------
 */

static const struct sigv4_credential us = {"AKIATEST", "secret"};

static const struct sigv4_credential *lookup_us(const char *access_key, void *arg)
{
    (void)arg;
    return strcmp(access_key, us.access_key) == 0 ? &us : NULL;
}

/* A signed request in one piece, so that a test can damage any part of it. */
struct signed_request {
    struct sigv4_signature s;
    char body[65], target[200];
    struct http_header h[8];
    struct sigv4_request q;
};

static void sign(struct signed_request *r, enum sigv4_service service, const char *target,
                 int64_t at)
{
    struct err e;
    memset(r, 0, sizeof *r);
    sha256_hex_of("{}", 2, r->body);
    snprintf(r->target, sizeof r->target, "%s", target);
    r->h[0] = (struct http_header)S3_HEADER("content-type", "application/json");
    struct sigv4_sign_request sr = {.method = SLICE("POST"),
                                    .target = slice_from(r->target),
                                    .host = SLICE("127.0.0.1:8000"),
                                    .headers = r->h,
                                    .n_headers = 1,
                                    .body_sha256 = r->body,
                                    .region = "eu-west-1",
                                    .service = service,
                                    .now_s = at};
    assert_ok(sigv4_sign(&us, &sr, &r->s, &e), e);
    r->h[1] = (struct http_header){SLICE("x-amz-date"), slice_from(r->s.date)};
    r->h[2] = (struct http_header){SLICE("authorization"), slice_from(r->s.authorization)};
    r->h[3] = (struct http_header){SLICE("x-amz-content-sha256"), slice_from(r->body)};
    r->q = (struct sigv4_request){.method = SLICE("POST"),
                                  .target = slice_from(r->target),
                                  .host = SLICE("127.0.0.1:8000"),
                                  .headers = r->h,
                                  .n_headers = 4,
                                  .body_sha256 = r->body};
}

static void refused(struct signed_request *r, enum sigv4_service service, int64_t now,
                    enum sigv4_refusal why, const char *text)
{
    struct err e;
    struct sigv4_result res;
    assert_int_equal(sigv4_verify(&r->q, service, lookup_us, NULL, now, &res, &e), -EACCES);
    assert_int_equal(res.refusal, why);
    if (!strstr(e.text, text))
        fail_msg("'%s' is not in '%s'", text, e.text);
    static const unsigned char zero[32];
    assert_memory_equal(res.signing_key, zero, 32); /* nothing secret is left behind */
}

static void own_signatures(void **state)
{
    (void)state;
    static const char *const targets[] = {"/", "/2025-09-09/microvm-images/arn%3Aaws%3Alambda%3Ax",
                                          "/a:b/c?x=1&y=%20z", "/b/k$ey?q"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        for (int service = SIGV4_LAMBDA; service <= SIGV4_S3; service++) {
            struct signed_request r;
            struct sigv4_result res;
            struct err e;
            sign(&r, (enum sigv4_service)service, targets[i], 1000000000);
            assert_ok(sigv4_verify(&r.q, (enum sigv4_service)service, lookup_us, NULL,
                                   1000000000 + 300, &res, &e),
                      e);
            assert_string_equal(res.region, "eu-west-1");
            assert_string_equal(res.body_sha256, r.body);
            refused(&r, service == SIGV4_S3 ? SIGV4_LAMBDA : SIGV4_S3, 1000000000, SIGV4_MISMATCH,
                    "correct service");
        }
    }
}

static void refusals(void **state)
{
    (void)state;
    const int64_t t = 1440938160; /* 20150830T123600Z */
    struct signed_request r;
    sign(&r, SIGV4_LAMBDA, "/x", t);
    refused(&r, SIGV4_LAMBDA, t + 301, SIGV4_EXPIRED,
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z "
            "(20150830T124101Z - 5 min.)");
    refused(&r, SIGV4_LAMBDA, t - 301, SIGV4_EXPIRED, "Signature not yet current");
    r.q.target = SLICE("/y");
    refused(&r, SIGV4_LAMBDA, t, SIGV4_MISMATCH, "does not match the signature you provided");
    sign(&r, SIGV4_LAMBDA, "/x", t);
    r.q.host = SLICE("evil");
    refused(&r, SIGV4_LAMBDA, t, SIGV4_MISMATCH, "does not match");
    sign(&r, SIGV4_LAMBDA, "/x", t);
    r.h[0].value = SLICE("text/plain");
    refused(&r, SIGV4_LAMBDA, t, SIGV4_MISMATCH, "does not match");
    sign(&r, SIGV4_LAMBDA, "/x", t);
    char other[65];
    sha256_hex_of("[]", 2, other);
    r.q.body_sha256 = other; /* the body was replaced on the way */
    refused(&r, SIGV4_LAMBDA, t, SIGV4_BODY_MISMATCH, "x-amz-content-sha256");
    r.q.n_headers = 3; /* ... and the header that said so was dropped */
    refused(&r, SIGV4_LAMBDA, t, SIGV4_MISMATCH, "does not match");
    sign(&r, SIGV4_LAMBDA, "/x", t);
    memcpy(strstr(r.s.authorization, "AKIATEST"), "AKIANONE", 8);
    refused(&r, SIGV4_LAMBDA, t, SIGV4_UNKNOWN_KEY, "security token included in the request");
    sign(&r, SIGV4_LAMBDA, "/x", t);
    r.q.n_headers = 2;
    refused(&r, SIGV4_LAMBDA, t, SIGV4_NO_SIGNATURE, "Missing Authentication Token");
    sign(&r, SIGV4_S3, "/x", t);
    r.h[4] = (struct http_header)S3_HEADER("x-amz-acl", "public-read");
    r.q.n_headers = 5;
    refused(&r, SIGV4_S3, t, SIGV4_MISMATCH, "not signed: x-amz-acl");
    sign(&r, SIGV4_S3, "/x", t);
    r.h[4] = r.h[2]; /* two authorizations */
    r.q.n_headers = 5;
    refused(&r, SIGV4_S3, t, SIGV4_NO_SIGNATURE, "Missing");
}

static void malformed(void **state)
{
    (void)state;
    static const struct {
        const char *authorization, *text;
    } rows[] = {
        {"Bearer x", "Unsupported authorization type"},
        {"AWS4-HMAC-SHA256", "'Credential'"},
        {"AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00", "'Credential'"},
        {"AWS4-HMAC-SHA256 Credential=a/20150830/r/lambda/aws4_request, Signature=00",
         "'SignedHeaders'"},
        {"AWS4-HMAC-SHA256 Credential=a/20150830/r/lambda/aws4_request, SignedHeaders=Host, "
         "Signature=00",
         "'SignedHeaders'"},
        {"AWS4-HMAC-SHA256 Credential=a/20150830/r/lambda/aws4_request, SignedHeaders=host, "
         "Signature=00",
         "'Signature'"},
        {"AWS4-HMAC-SHA256 Credential=a/20150830/r/lambda/aws5_request, SignedHeaders=host, "
         "Signature=00",
         "'Credential'"},
        {"AWS4-HMAC-SHA256 Credential=a/20150831/r/lambda/aws4_request, SignedHeaders=host, "
         "Signature=0000000000000000000000000000000000000000000000000000000000000000",
         "Date in Credential scope"},
        {"AWS4-HMAC-SHA256 Credential=a/20150830/r/lambda/aws4_request, SignedHeaders=x, "
         "Signature=0000000000000000000000000000000000000000000000000000000000000000",
         "'Host' must be"},
    };
    struct signed_request r;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        sign(&r, SIGV4_LAMBDA, "/x", 1440938160);
        r.h[2].value = slice_from(rows[i].authorization);
        struct err e;
        struct sigv4_result res;
        assert_int_equal(sigv4_verify(&r.q, SIGV4_LAMBDA, lookup_us, NULL, 1440938160, &res, &e),
                         -EACCES);
        if (!strstr(e.text, rows[i].text))
            fail_msg("'%s' is not in '%s'", rows[i].text, e.text);
    }
    sign(&r, SIGV4_LAMBDA, "/x", 1440938160);
    r.h[1].value = SLICE("20150230T123600ZZ");
    refused(&r, SIGV4_LAMBDA, 1440938160, SIGV4_INCOMPLETE, "Date");
}

static void presigned_limits(void **state)
{
    (void)state;
    struct err e;
    struct sigv4_result r;
    const struct s3_vector *v = &s3_vectors[4];
    struct sigv4_request q = {.method = SLICE("GET"),
                              .target = slice_from(v->target),
                              .headers = v->headers,
                              .n_headers = 1};
    assert_ok(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME + 86400, &r, &e), e);
    assert_true(r.presigned);
    assert_int_equal(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME + 86401, &r, &e), -EACCES);
    assert_string_equal(e.text, "Request has expired");
    char target[600];
    snprintf(target, sizeof target, "%s&X-Amz-Expires=1", v->target); /* twice */
    q.target = slice_from(target);
    assert_int_equal(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, &r, &e), -EACCES);
    assert_int_equal(r.refusal, SIGV4_INCOMPLETE);
    snprintf(target, sizeof target, "%s&x=1", v->target); /* a parameter added */
    q.target = slice_from(target);
    assert_int_equal(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, &r, &e), -EACCES);
    assert_int_equal(r.refusal, SIGV4_MISMATCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s3_reference),   cmocka_unit_test(s3_streaming),
        cmocka_unit_test(own_signatures), cmocka_unit_test(refusals),
        cmocka_unit_test(malformed),      cmocka_unit_test(presigned_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
