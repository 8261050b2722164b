/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "api/s3_xml.h"

#define PART(n, tag) "<Part><PartNumber>" n "</PartNumber><ETag>" tag "</ETag></Part>"
#define COMPLETE(parts) "<CompleteMultipartUpload>" parts "</CompleteMultipartUpload>"

static int complete(const char *text, struct xml_part *parts, int max)
{
    struct err e = {0};
    int r = xml_parse_complete(text, strlen(text), parts, max, &e);
    assert_true(r >= 0 || e.text[0]);
    return r;
}

static void test_complete(void **state)
{
    (void)state;
    struct xml_part p[3];
    assert_int_equal(complete(COMPLETE(PART("1", "&quot;aa&quot;") PART("2", "bb")), p, 3), 2);
    assert_int_equal(p[0].number, 1);
    assert_string_equal(p[0].etag, "aa");
    assert_string_equal(p[1].etag, "bb");
    assert_int_equal(complete("<?xml version=\"1.0\"?>\n<s:CompleteMultipartUpload xmlns:s=\"u\" "
                              "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part>"
                              "<ChecksumCRC32>x</ChecksumCRC32><ETag>\"a\"</ETag><PartNumber>7"
                              "</PartNumber></Part></s:CompleteMultipartUpload>",
                              p, 3),
                     1);
    assert_int_equal(p[0].number, 7);
    assert_int_equal(complete(COMPLETE(""), p, 3), 0);
}

static void test_complete_refused(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "",
        "x",
        "<CompleteMultipartUpload>",
        "<Delete></Delete>",
        COMPLETE(PART("0", "a")),
        COMPLETE(PART("10001", "a")),
        COMPLETE(PART("1x", "a")),
        COMPLETE("<Part><PartNumber>1</PartNumber></Part>"),
        COMPLETE("<Part><ETag>a</ETag></Part>"),
        COMPLETE(PART("1", "a") PART("2", "a") PART("3", "a") PART("4", "a")),
        COMPLETE("<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>"),
        "<!DOCTYPE x [<!ENTITY a \"aaaa\">]>" COMPLETE(PART("1", "&a;")),
        "<!DOCTYPE CompleteMultipartUpload SYSTEM \"file:///etc/passwd\">" COMPLETE(""),
        COMPLETE(PART("1", "a")) "trailing",
    };
    struct xml_part p[3];
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        if (complete(BAD[i], p, 3) != -EINVAL)
            fail_msg("accepted: %s", BAD[i]);
}

static int on_key(const char *key, void *arg)
{
    struct buf *b = arg;
    return buf_addf(b, "[%s]", key);
}

static void test_delete(void **state)
{
    (void)state;
    static const char TEXT[] = "<Delete><Quiet>true</Quiet><Object><Key>a/&amp;b</Key></Object>"
                               "<Object><Key>c</Key><VersionId>x</VersionId></Object></Delete>";
    CLEANUP(buf_done)
    struct buf keys = BUF_INIT(0);
    bool quiet;
    assert_int_equal(xml_parse_delete(TEXT, strlen(TEXT), 2, &quiet, on_key, &keys, NULL), 0);
    assert_string_equal(keys.data, "[a/&b][c]");
    assert_true(quiet);
    assert_int_equal(xml_parse_delete(TEXT, strlen(TEXT), 1, &quiet, on_key, &keys, NULL), -EINVAL);
}

static void test_text(void **state)
{
    (void)state;
    CLEANUP(buf_done)
    struct buf out = BUF_INIT(0);
    assert_int_equal(xml_element(&out, "Key", "a<b>&\"c\n"), 0);
    assert_string_equal(out.data, "<Key>a&lt;b&gt;&amp;&quot;c&#xa;</Key>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_complete_refused),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
