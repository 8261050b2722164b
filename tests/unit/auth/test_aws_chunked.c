/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums against their published check values, and aws-chunked bodies: the examples of the S3
 * reference in pieces of every kind, then one damage each. */
#include "common.h"

#include "auth/aws_chunked.h"
#include "auth/checksum.h"
#include "s3_example.h"

static void checksums(void **state)
{
    (void)state;
    static const struct {
        enum checksum_kind kind;
        const char *text;
    } rows[] = {
        /* of "123456789": cbf43926, e3069283, ae8b14860a799888, f7c3bc1d..., 15e2b0d3... */
        {CHECKSUM_CRC32, "y/Q5Jg=="},
        {CHECKSUM_CRC32C, "4waSgw=="},
        {CHECKSUM_CRC64NVME, "rosUhgp5mIg="},
        {CHECKSUM_SHA1, "98O8HYCOBHMq32eZZczDTKeuNEE="},
        {CHECKSUM_SHA256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[CHECKSUM_TEXT_MAX];
        for (size_t cut = 0; cut <= 9; cut++) {
            struct checksum *c = checksum_new(rows[i].kind);
            checksum_add(c, "123456789", cut);
            checksum_add(c, &"123456789"[cut], 9 - cut);
            checksum_end(c, text);
            assert_string_equal(text, rows[i].text);
        }
        assert_int_equal(checksum_kind_of(slice_from(checksum_field(rows[i].kind))), rows[i].kind);
    }
    assert_int_equal(checksum_kind_of(SLICE("X-Amz-Checksum-CRC32C")), CHECKSUM_CRC32C);
    assert_int_equal(checksum_kind_of(SLICE("x-amz-checksum-md5")), -EINVAL);
}

static int collect(void *arg, const char *p, size_t n)
{
    return buf_add(arg, p, n);
}

static void authenticate(const struct http_header *h, size_t n, struct sigv4_result *r)
{
    struct err e;
    struct sigv4_request q = {.method = SLICE("PUT"),
                              .target = SLICE("/examplebucket/chunkObject.txt"),
                              .headers = h,
                              .n_headers = n};
    assert_ok(sigv4_verify(&q, SIGV4_S3, s3_lookup, NULL, S3_TIME, r, &e), e);
}

/* Feeds body in pieces of step bytes. */
static int decode(const struct sigv4_result *auth, struct slice trailer, int64_t length,
                  uint64_t max, const char *body, size_t n, size_t step, struct buf *out,
                  struct err *e)
{
    struct aws_chunked_config c = {.auth = auth,
                                   .decoded_length = length,
                                   .max = max,
                                   .trailer = trailer,
                                   .sink = collect,
                                   .arg = out};
    struct aws_chunked *d = NULL;
    int rc = aws_chunked_new(&c, &d, e);
    for (size_t i = 0; rc == 0 && i < n; i += step)
        rc = aws_chunked_feed(d, body + i, n - i < step ? n - i : step, e);
    if (rc == 0)
        rc = aws_chunked_end(d, e);
    aws_chunked_free(d);
    return rc;
}

#define CHUNK(size, signature) size ";chunk-signature=" signature "\r\n"

static void add_example(struct buf *b, bool trailer)
{
    static char a[65536];
    memset(a, 'a', sizeof a);
    static const char *const signatures[2][3] = {
        {CHUNK("10000", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
         CHUNK("400", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
         CHUNK("0", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9")},
        {CHUNK("10000", "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
         CHUNK("400", "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
         CHUNK("0", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992")}};
    assert_int_equal(buf_adds(b, signatures[trailer][0]), 0);
    assert_int_equal(buf_add(b, a, 65536), 0);
    assert_int_equal(buf_adds(b, "\r\n"), 0);
    assert_int_equal(buf_adds(b, signatures[trailer][1]), 0);
    assert_int_equal(buf_add(b, a, 1024), 0);
    assert_int_equal(buf_adds(b, "\r\n"), 0);
    assert_int_equal(buf_adds(b, signatures[trailer][2]), 0);
    if (trailer)
        assert_int_equal(
            buf_adds(b, "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
                        "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"),
            0);
    assert_int_equal(buf_adds(b, "\r\n"), 0);
}

static void published_examples(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 90, 1000, 65536, 1 << 20};
    struct sigv4_result auth[2];
    authenticate(s3_chunked_headers, ARRAY_LEN(s3_chunked_headers), &auth[0]);
    authenticate(s3_trailer_headers, ARRAY_LEN(s3_trailer_headers), &auth[1]);
    for (int trailer = 0; trailer < 2; trailer++) {
        struct buf body = BUF_INIT(0);
        add_example(&body, trailer);
        struct slice name = trailer ? SLICE("x-amz-checksum-crc32c") : SLICE("");
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            struct err e;
            struct buf out = BUF_INIT(0);
            assert_ok(decode(&auth[trailer], name, 66560, 1 << 20, body.data, body.len, steps[i],
                             &out, &e),
                      e);
            assert_int_equal(out.len, 66560);
            assert_int_equal(strspn(out.data, "a"), 66560);
            buf_done(&out);
        }
        buf_done(&body);
    }
}

/* Each byte of the framing matters; each flipped bit of the data is noticed. */
static void damaged_examples(void **state)
{
    (void)state;
    struct sigv4_result auth;
    authenticate(s3_trailer_headers, ARRAY_LEN(s3_trailer_headers), &auth);
    struct buf body = BUF_INIT(0);
    add_example(&body, true);
    for (size_t at = 0; at<body.len; at += at> 100 && at < 65000 ? 9973 : 1) {
        struct err e;
        struct buf out = BUF_INIT(0);
        char old = body.data[at];
        body.data[at] ^= 1;
        int rc = decode(&auth, SLICE("x-amz-checksum-crc32c"), 66560, 1 << 20, body.data, body.len,
                        4096, &out, &e);
        body.data[at] = old;
        buf_done(&out);
        /* a CR before LF, and the very last line end, carry no meaning */
        if (rc >= 0 && old != '\r' && at < body.len - 2)
            fail_msg("byte %zu ('%c') may be changed", at, old);
    }
    for (size_t n = 0; n<body.len - 2; n += n> 100 && n < 65000 ? 9973 : 1) {
        struct err e;
        struct buf out = BUF_INIT(0);
        int rc = decode(&auth, SLICE("x-amz-checksum-crc32c"), 66560, 1 << 20, body.data, n, 4096,
                        &out, &e);
        buf_done(&out);
        if (rc >= 0)
            fail_msg("cut after %zu bytes is accepted", n);
    }
    buf_done(&body);
}

static void unsigned_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *body, *trailer;
        int64_t length;
        int rc;
    } rows[] = {
        {"9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n", "x-amz-checksum-crc32", 9,
         0},
        {"9\r\n123456789\r\n0\r\nX-Amz-Checksum-Crc32:y/Q5Jg==\r\n\r\n", "x-amz-checksum-crc32", 9,
         0},
        {"4\r\n1234\r\n5\r\n56789\r\n0\r\nx-amz-checksum-crc64nvme:rosUhgp5mIg=\r\n\r\n",
         "x-amz-checksum-crc64nvme", 9, 0},
        {"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "x-amz-checksum-crc32", 0, 0},
        {"9\r\n123456789\r\n0\r\n\r\n", "", 9, 0},
        {"9\r\n123456789\r\n0\r\n\r\n", "", -1, 0},
        {"9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jw==\r\n\r\n", "x-amz-checksum-crc32", 9,
         -EBADMSG},
        {"9\r\n123456789\r\n0\r\n\r\n", "x-amz-checksum-crc32", 9, -EINVAL}, /* trailer missing */
        {"9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n", "", 9, -EINVAL},
        {"9\r\n123456789\r\n0\r\nx-amz-meta-x:1\r\n\r\n", "x-amz-checksum-crc32", 9, -EINVAL},
        {"9\r\n123456789\r\n0\r\n\r\n", "", 8, -EINVAL}, /* declared length */
        {"9\r\n123456789\r\n0\r\n\r\nmore", "", 9, -EINVAL},
        {"9\r\n1234567890\r\n0\r\n\r\n", "", 9, -EINVAL},
        {"9;chunk-signature=00\r\n123456789\r\n0\r\n\r\n", "", 9, -EINVAL},
        {"\r\n", "", 0, -EINVAL},
        {"-1\r\n", "", 0, -EINVAL},
        {"0x9\r\n123456789\r\n0\r\n\r\n", "", 9, -EINVAL},
        {"ffffffffffffffff\r\n", "", -1, -EMSGSIZE},
        {"fffffffffffffffff\r\n", "", -1, -EINVAL},
        {"101\r\n", "", -1, -EMSGSIZE},
        {"", "", 0, -EINVAL},
    };
    struct sigv4_result auth = {.payload = SIGV4_PAYLOAD_CHUNKED_UNSIGNED, .trailer = true};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step < 100; step += 49) {
            struct err e = {0};
            struct buf out = BUF_INIT(0);
            int rc = decode(&auth, slice_from(rows[i].trailer), rows[i].length, 256, rows[i].body,
                            strlen(rows[i].body), step, &out, &e);
            if (rc != rows[i].rc)
                fail_msg("%s: %d instead of %d (%s)", rows[i].body, rc, rows[i].rc, e.text);
            buf_done(&out);
        }
    }
}

static int fail_sink(void *arg, const char *p, size_t n)
{
    (void)arg, (void)p, (void)n;
    return -ENOSPC;
}

static void limits(void **state)
{
    (void)state;
    struct err e;
    struct aws_chunked *d = NULL;
    struct sigv4_result auth = {.payload = SIGV4_PAYLOAD_SIGNED};
    struct aws_chunked_config c = {.auth = &auth, .max = 100, .sink = fail_sink};
    assert_int_equal(aws_chunked_new(&c, &d, &e), -EINVAL);
    auth.payload = SIGV4_PAYLOAD_CHUNKED_UNSIGNED;
    c.trailer = SLICE("x-amz-checksum-md5");
    assert_int_equal(aws_chunked_new(&c, &d, &e), -EINVAL);
    c.trailer = SLICE("");
    assert_ok(aws_chunked_new(&c, &d, &e), e);
    assert_int_equal(aws_chunked_feed(d, "1\r\nx", 4, &e), -ENOSPC); /* the disk's error */
    assert_int_equal(aws_chunked_feed(d, "\r\n", 2, &e), -EINVAL);   /* and never more */
    assert_int_equal(aws_chunked_end(d, &e), -EINVAL);
    aws_chunked_free(d);
    assert_ok(aws_chunked_new(&c, &d, &e), e);
    char line[AWS_CHUNK_LINE_MAX + 1];
    memset(line, '0', sizeof line);
    assert_int_equal(aws_chunked_feed(d, line, sizeof line, &e), -EINVAL);
    aws_chunked_free(d);
    aws_chunked_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums),        cmocka_unit_test(published_examples),
        cmocka_unit_test(damaged_examples), cmocka_unit_test(unsigned_bodies),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
