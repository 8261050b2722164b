/* SPDX-License-Identifier: Apache-2.0 */
/* The canonical request and the signature against AWS's published Signature Version 4 test suite
 * (names are the suite's). The suite's service is called "service", so the layers are tested one by
 * one: hash of the canonical request, signing key, signature. */
#include "common.h"

#include "auth/canonical.h"
#include "base/digest.h"
#include "base/encode.h"

#define DATE "20150830T123600Z"
#define SCOPE "20150830/us-east-1/service/aws4_request"

struct vector {
    const char *name, *method, *target;
    struct http_header headers[6]; /* the first n are present */
    size_t n;
    const char *signed_names[5];
    const char *payload; /* NULL = empty */
    const char *digest, *signature;
};

#define HOST                                          \
    {                                                 \
        SLICE("Host"), SLICE("example.amazonaws.com") \
    }
#define AT                               \
    {                                    \
        SLICE("X-Amz-Date"), SLICE(DATE) \
    }

static const struct vector vectors[] = {
    {"get-vanilla",
     "GET",
     "/",
     {HOST, AT},
     2,
     {"host", "x-amz-date"},
     NULL,
     "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"get-header-key-duplicate",
     "GET",
     "/",
     {HOST,
      {SLICE("My-Header1"), SLICE("value2")},
      {SLICE("My-Header1"), SLICE("value2")},
      {SLICE("My-Header1"), SLICE("value1")},
      AT},
     5,
     {"host", "my-header1", "x-amz-date"},
     NULL,
     "dc7f04a3abfde8d472b0ab1a418b741b7c67174dad1551b4117b15527fbe966c",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
    {"get-header-value-trim",
     "GET",
     "/",
     {HOST,
      {SLICE("My-Header1"), SLICE(" value1")},
      {SLICE("My-Header2"), SLICE(" \"a   b   c\" ")},
      AT},
     4,
     {"host", "my-header1", "my-header2", "x-amz-date"},
     NULL,
     "a726db9b0df21c14f559d0a978e563112acb1b9e05476f0a6a1c7d68f28605c7",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"get-vanilla-query-order-key-case",
     "GET",
     "/?Param2=value2&Param1=value1",
     {HOST, AT},
     2,
     {"host", "x-amz-date"},
     NULL,
     "816cd5b414d056048ba4f7c5386d6e0533120fb1fcfa93762cf0fc39e2cf19e0",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-utf8-query",
     "GET",
     "/?\u1234=bar",
     {HOST, AT},
     2,
     {"host", "x-amz-date"},
     NULL,
     "eb30c5bed55734080471a834cc727ae56beb50e5f39d1bff6d0d38cb192a7073",
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
    {"get-utf8",
     "GET",
     "/\u1234",
     {HOST, AT},
     2,
     {"host", "x-amz-date"},
     NULL,
     "2a0a97d02205e45ce2e994789806b19270cfbbb0921b278ccf58f5249ac42102",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"post-x-www-form-urlencoded",
     "POST",
     "/",
     {{SLICE("Content-Type"), SLICE("application/x-www-form-urlencoded")}, HOST, AT},
     3,
     {"content-type", "host", "x-amz-date"},
     "Param1=value1",
     "42a5e5bb34198acb3e84da4f085bb7927f2bc277ca766e6d19c73c2154021281",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

static void suite_key(unsigned char key[32])
{
    static const char start[] = "AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    hmac_sha256(start, sizeof start - 1, "20150830", 8, key);
    hmac_sha256(key, 32, "us-east-1", 9, key);
    hmac_sha256(key, 32, "service", 7, key);
    hmac_sha256(key, 32, "aws4_request", 12, key);
}

static void published_suite(void **state)
{
    (void)state;
    struct err e;
    unsigned char key[32];
    suite_key(key);
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        struct slice names[5];
        size_t n = 0;
        while (n < 5 && v->signed_names[n]) {
            names[n] = slice_from(v->signed_names[n]);
            n++;
        }
        char payload[65], digest[65], signature[65];
        sha256_hex_of(v->payload ? v->payload : "", v->payload ? strlen(v->payload) : 0, payload);
        struct canonical c = {.service = SIGV4_LAMBDA,
                              .method = slice_from(v->method),
                              .target = slice_from(v->target),
                              .headers = v->headers,
                              .n_headers = v->n,
                              .signed_names = names,
                              .n_signed = n,
                              .payload = payload};
        print_message("%s\n", v->name);
        assert_ok(canonical_digest(&c, digest, &e), e);
        assert_string_equal(digest, v->digest);
        assert_int_equal(signature_of(key, SIGV4_ALGORITHM, DATE, SCOPE, digest, signature), 0);
        assert_string_equal(signature, v->signature);
    }
}

/* Two spellings of a request have one canonical form, or they have two: both ways are a table. */
static void spellings(void **state)
{
    (void)state;
    static const struct {
        enum sigv4_service service;
        const char *a, *b;
        bool same;
    } rows[] = {
        {SIGV4_LAMBDA, "/a:b", "/a%3Ab", false}, /* never decoded: %3A and %253A */
        {SIGV4_LAMBDA, "/a%3Ab", "/a%3ab", false},
        {SIGV4_S3, "/a$b", "/a%24b", true},  /* left bare by the client */
        {SIGV4_S3, "/a%2Fb", "/a/b", false}, /* another key */
        {SIGV4_S3, "/a~b", "/a~b", true},
        {SIGV4_S3, "/x?b=1&a=2", "/x?a=2&b=1", true},
        {SIGV4_S3, "/x?a=2&a=1", "/x?a=1&a=2", true},
        {SIGV4_S3, "/x?acl", "/x?acl=", true},
        {SIGV4_S3, "/x?a=%7E", "/x?a=~", true},
        {SIGV4_S3, "/x?a=b=c", "/x?a=b%3Dc", true},
        {SIGV4_S3, "/x?a&&b", "/x?a&b", true},
        {SIGV4_S3, "/x?a=1", "/x?A=1", false},
        {SIGV4_S3, "", "/", true},
        {SIGV4_S3, "/x?a=1&X-Amz-Signature=q", "/x?a=1", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char a[65], b[65];
        struct err e;
        struct canonical c = {.service = rows[i].service, .method = SLICE("GET"), .payload = "x"};
        c.target = slice_from(rows[i].a);
        assert_ok(canonical_digest(&c, a, &e), e);
        c.target = slice_from(rows[i].b);
        assert_ok(canonical_digest(&c, b, &e), e);
        if ((strcmp(a, b) == 0) != rows[i].same)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
    }
}

static void refused_targets(void **state)
{
    (void)state;
    struct err e;
    char hex[65];
    struct canonical c = {.method = SLICE("GET"), .payload = "x"};
    static const char *const bad[] = {"/x?a=%", "/x?a=%4", "/x?%zz=1", "/x?a=%00"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        c.target = slice_from(bad[i]);
        assert_int_equal(canonical_digest(&c, hex, &e), -EINVAL);
    }
    struct buf many = BUF_INIT(0);
    assert_int_equal(buf_adds(&many, "/?"), 0);
    for (int i = 0; i <= QUERY_PARAMS_MAX; i++)
        assert_int_equal(buf_addf(&many, "&p%d=1", i), 0);
    c.target = (struct slice){many.data, many.len};
    assert_int_equal(canonical_digest(&c, hex, &e), -EINVAL);
    buf_done(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_suite),
        cmocka_unit_test(spellings),
        cmocka_unit_test(refused_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
