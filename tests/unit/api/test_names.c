/* SPDX-License-Identifier: Apache-2.0 */
/* ARNs, patterns, versions, routes, queries, pagination tokens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "api/arn.h"
#include "api/page.h"
#include "api/patterns.h"
#include "api/route.h"

#define ACCOUNT "000000000000"
#define LAMBDA "arn:aws:lambda:us-east-1:"

static void test_image_arn(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
        const char *name_or_error;
    } CASES[] = {
        {LAMBDA ACCOUNT ":microvm-image:my_image-1", 0, "my_image-1"},
        {"arn:aws-us-gov:lambda:us-gov-west-1:" ACCOUNT ":microvm-image:n", 0, "n"},
        {"my-image", -EINVAL, "Invalid ARN format: my-image"},
        {"", -EINVAL, "Invalid ARN format: "},
        {LAMBDA ACCOUNT ":microvm-image:", -EINVAL, "Invalid ARN format: "},
        {LAMBDA ACCOUNT ":microvm-image:a/b", -EINVAL, "Invalid ARN format: "},
        {LAMBDA ACCOUNT ":function:f", -EINVAL, "Invalid ARN format: "},
        {"arn:aws:s3:us-east-1:" ACCOUNT ":microvm-image:n", -EINVAL, "Invalid ARN format: "},
        {"arn:aws:lambda:nowhere:" ACCOUNT ":microvm-image:n", -EINVAL, "Invalid ARN format: "},
        {LAMBDA "123:microvm-image:n", -EINVAL, "Invalid ARN format: "},
        {LAMBDA "111111111111:microvm-image:n", -EACCES, "Not authorized"},
        {LAMBDA "aws:microvm-image:n", -EACCES, "Not authorized"},
        {LAMBDA ACCOUNT ":microvm-image/n", -EACCES, "Not authorized"},
        {LAMBDA ACCOUNT
         ":microvm-image:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         -EINVAL, "Invalid ARN format: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char name[IMAGE_NAME_MAX + 1];
        struct err e = {0};
        assert_int_equal(arn_image(CASES[i].text, ACCOUNT, name, &e), CASES[i].result);
        const char *want = CASES[i].name_or_error;
        if (CASES[i].result == 0)
            assert_string_equal(name, want);
        else
            assert_int_equal(strncmp(e.text, want, strlen(want)), 0);
    }
}

static void test_connectors(void **state)
{
    (void)state;
#define MANAGED LAMBDA "aws:network-connector:aws-network-connector:"
    static const struct {
        const char *text;
        bool ingress;
        int result;
    } CASES[] = {
        {MANAGED "INTERNET_EGRESS", false, 0},
        {MANAGED "HTTP_INGRESS", true, 0},
        {MANAGED "SHELL_INGRESS", true, 0},
        {MANAGED "ALL_INGRESS", true, 0},
        {MANAGED "NO_INGRESS", true, 0},
        {MANAGED "HTTP_INGRESS", false, -EINVAL},
        {MANAGED "INTERNET_EGRESS", true, -EINVAL},
        {MANAGED "NO_EGRESS", false, -EINVAL},
        {"ALL_INGRESS", true, -EINVAL},
        {LAMBDA ACCOUNT ":network-connector:nc-1", false, -ENOENT},
        {LAMBDA ACCOUNT ":network-connector:other", false, -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        enum connector c;
        assert_int_equal(arn_connector(CASES[i].text, CASES[i].ingress, &c, NULL), CASES[i].result);
    }
    enum connector c;
    struct err e;
    assert_int_equal(arn_connector("ALL_INGRESS", true, &c, &e), -EINVAL);
    assert_string_equal(e.text, "Malformed network connector ARN: ALL_INGRESS");
    assert_int_equal(arn_connector(MANAGED "NO_EGRESS", false, &c, &e), -EINVAL);
    assert_string_equal(e.text, "Unrecognized managed network connector ARN: " MANAGED "NO_EGRESS");
    char text[ARN_MAX];
    for (int i = CONNECTOR_INTERNET_EGRESS; i <= CONNECTOR_NO_INGRESS; i++) {
        arn_format_connector(text, "eu-west-1", (enum connector)i);
        assert_int_equal(arn_connector(text, i != CONNECTOR_INTERNET_EGRESS, &c, NULL), 0);
        assert_int_equal(c, i);
    }
}

static void test_versions(void **state)
{
    (void)state;
    assert_int_equal(version_parse("1"), 1);
    assert_int_equal(version_parse("1.0"), 1);
    assert_int_equal(version_parse("12.0"), 12);
    assert_int_equal(version_parse("999999999.0"), 999999999);
    static const char *const BAD[] = {"",   "0", "0.0", "1.1",   "1.",   "01",        "-1",
                                      "+1", "x", "1 ",  "1.0.0", "1.00", "9999999999"};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(version_parse(BAD[i]), -EINVAL);
    char text[16];
    version_format(text, 7);
    assert_string_equal(text, "7.0");
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const struct pattern *p;
        const char *text;
        bool fits;
    } CASES[] = {
        {&PATTERN_ROLE_ARN, "arn:aws:iam::123456789012:role/x", true},
        {&PATTERN_ROLE_ARN, "arn:aws-cn:iam::123456789012:role/a/b@c", true},
        {&PATTERN_ROLE_ARN, "arn:aws:iam::123456789012:rolex", true},
        {&PATTERN_ROLE_ARN, "arn:aws:iam::12345678901:role/x", false},
        {&PATTERN_ROLE_ARN, "arn:aws:iam::123456789012:role", false},
        {&PATTERN_ROLE_ARN, "arn:aws:iam::123456789012:role/x y", false},
        {&PATTERN_ROLE_ARN, "xarn:aws:iam::123456789012:role/x", false},
        {&PATTERN_TAGGABLE, LAMBDA ACCOUNT ":microvm-image:n", true},
        {&PATTERN_TAGGABLE, LAMBDA ACCOUNT ":network-connector:nc-1", true},
        {&PATTERN_TAGGABLE, LAMBDA ACCOUNT ":function:f:$LATEST", true},
        {&PATTERN_TAGGABLE, LAMBDA ACCOUNT ":function:f:", false},
        {&PATTERN_TAGGABLE, LAMBDA ACCOUNT ":microvm:microvm-1", false},
        {&PATTERN_TAGGABLE, LAMBDA "aws:microvm-image:n", false},
        {&PATTERN_TAGGABLE, "arn:aws:lambda:us-gov-east-1:" ACCOUNT ":layer:l", true},
        {&PATTERN_TAGGABLE, "arn:aws:lambda:us-iso-east-1:" ACCOUNT ":layer:l", true},
        {&PATTERN_TAGGABLE, "arn:aws:lambda:us-isob-east-1:" ACCOUNT ":layer:l", true},
        {&PATTERN_TAGGABLE, "arn:aws:lambda:eusc-de-east-1:" ACCOUNT ":layer:l", true},
        {&PATTERN_TAGGABLE, "arn:aws:lambda:us-east-12:" ACCOUNT ":layer:l", false},
        {&PATTERN_TAG, "key with spaces_.:/=+-@", true},
        {&PATTERN_TAG, "Größe", true},
        {&PATTERN_TAG, "", true},
        {&PATTERN_TAG, "a#b", false},
        {&PATTERN_TAG, "a\tb", false},
        {&PATTERN_LOG_GROUP, "/aws/x-y_z.#", true},
        {&PATTERN_LOG_GROUP, "a b", false},
        {&PATTERN_LOG_STREAM, "a b", true},
        {&PATTERN_LOG_STREAM, "a:b", false},
        {&PATTERN_NO_SPACE, "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (CASES[i].p->matches(CASES[i].text) != CASES[i].fits)
            fail_msg("%s against %s", CASES[i].text, CASES[i].p->text);
    assert_true(region_valid("us-east-1"));
    assert_true(region_valid("ap-southeast-2"));
    assert_false(region_valid("us-east-1x"));
    assert_false(region_valid("local"));
    assert_false(region_valid(""));
    assert_int_equal(utf8_length("aé€😀"), 4);
    assert_int_equal(utf8_length("\xc0\x80"), -1);
    assert_int_equal(utf8_length("\xed\xa0\x80"), -1);
}

static void test_routes(void **state)
{
    (void)state;
    static const char VM[] = "/2025-09-09/microvms/{microvmIdentifier}/suspend";
    static const struct {
        const char *target;
        int result;
        const char *value;
    } CASES[] = {
        {"/2025-09-09/microvms/microvm-1/suspend", 1, "microvm-1"},
        {"/2025-09-09/microvms/a%3Ab%2Fc/suspend?x=y", 1, "a:b/c"},
        {"/2025-09-09/microvms/a:b/suspend", 1, "a:b"},
        {"/2025-09-09/microvms//suspend", 0, NULL},
        {"/2025-09-09/microvms/a/b/suspend", 0, NULL},
        {"/2025-09-09/microvms/a/suspend/", 0, NULL},
        {"/2025-09-09/microvms/a", 0, NULL},
        {"/2025-09-09/microvms/a%/suspend", -EINVAL, NULL},
        {"/2025-09-09/microvms/a%00/suspend", -EINVAL, NULL},
        {"/2025-09-09/microvms/%ff/suspend", -EINVAL, NULL},
        {"", 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        CLEANUP(cleanup_json)
        json_t *params = json_object();
        assert_int_equal(route_match(VM, CASES[i].target, params), CASES[i].result);
        if (CASES[i].value)
            assert_string_equal(json_get_str(params, "microvmIdentifier"), CASES[i].value);
    }
}

static void test_queries(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        const char *json; /* NULL: refused */
    } CASES[] = {
        {"/p", "{}"},
        {"/p?", "{}"},
        {"/p?a=b&c", "{\"a\":\"b\",\"c\":\"\"}"},
        {"/p?tagKeys=a&tagKeys=b&tagKeys=c", "{\"tagKeys\":[\"a\",\"b\",\"c\"]}"},
        {"/p?a=x%3Dy%26z", "{\"a\":\"x=y&z\"}"},
        {"/p?a=x+y", "{\"a\":\"x+y\"}"},
        {"/p?&&a=1&", "{\"a\":\"1\"}"},
        {"/p?a=b=c", NULL},
        {"/p?=b", NULL},
        {"/p?a=%zz", NULL},
        {"/p?%00=1", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        CLEANUP(cleanup_json)
        json_t *params = json_object();
        int r = route_query(CASES[i].target, params, NULL);
        assert_int_equal(r, CASES[i].json ? 0 : -EINVAL);
        if (!CASES[i].json)
            continue;
        CLEANUP(cleanup_free)
        char *text = json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS);
        assert_string_equal(text, CASES[i].json);
    }
}

static void test_page_tokens(void **state)
{
    (void)state;
    const unsigned char key[PAGE_KEY_LEN] = {1}, other[PAGE_KEY_LEN] = {2};
    const struct page_cursor c = {.created = 1785412742026, .key = "my-image:with:colons"};
    struct page_cursor back;
    CLEANUP(buf_done)
    struct buf token = BUF_INIT(0);
    assert_int_equal(page_token_make(key, "ListX f", &c, &token), 0);
    assert_int_equal(page_token_open(key, "ListX f", token.data, &back, NULL), 0);
    assert_true(back.created == c.created);
    assert_string_equal(back.key, c.key);
    assert_int_equal(page_token_open(other, "ListX f", token.data, &back, NULL), -EINVAL);
    assert_int_equal(page_token_open(key, "ListY f", token.data, &back, NULL), -EINVAL);
    assert_int_equal(page_token_open(key, "ListX f", "", &back, NULL), -EINVAL);
    assert_int_equal(page_token_open(key, "ListX f", "bm9uc2Vuc2U", &back, NULL), -EINVAL);
    for (size_t i = 0; i < token.len; i++) {
        char saved = token.data[i];
        token.data[i] = saved == 'A' ? 'B' : 'A';
        assert_int_equal(page_token_open(key, "ListX f", token.data, &back, NULL), -EINVAL);
        token.data[i] = saved;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image_arn),   cmocka_unit_test(test_connectors),
        cmocka_unit_test(test_versions),    cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_routes),      cmocka_unit_test(test_queries),
        cmocka_unit_test(test_page_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
