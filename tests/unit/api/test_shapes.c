/* SPDX-License-Identifier: Apache-2.0 */
/* Validation: every operation's table is walked; literal messages of the service are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/patterns.h"
#include "api/shape.h"

static const struct {
    const char *name;
    const struct member *input;
} INPUTS[] = {
    {"CreateMicrovmImage", IN_CREATE_IMAGE},
    {"UpdateMicrovmImage", IN_UPDATE_IMAGE},
    {"GetMicrovmImage", IN_IMAGE},
    {"ListMicrovmImages", IN_LIST_IMAGES},
    {"ListMicrovmImageVersions", IN_LIST_VERSIONS},
    {"GetMicrovmImageVersion", IN_VERSION},
    {"UpdateMicrovmImageVersion", IN_UPDATE_VERSION},
    {"ListMicrovmImageBuilds", IN_LIST_BUILDS},
    {"GetMicrovmImageBuild", IN_BUILD},
    {"ListManagedMicrovmImages", IN_LIST_MANAGED},
    {"RunMicrovm", IN_RUN},
    {"GetMicrovm", IN_MICROVM},
    {"ListMicrovms", IN_LIST_MICROVMS},
    {"CreateMicrovmAuthToken", IN_AUTH_TOKEN},
    {"CreateMicrovmShellAuthToken", IN_SHELL_TOKEN},
    {"ListTags", IN_RESOURCE},
    {"TagResource", IN_TAG},
    {"UntagResource", IN_UNTAG},
    {"TinderboxLogs", IN_LOGS},
    {"TinderboxExec", IN_EXEC},
};

/* A value every shape of the tables accepts, made from the shape alone. */
static json_t *sample(const struct shape *s);

static const char *sample_text(const struct shape *s)
{
    if (s->values)
        return s->values[0];
    if (s->pattern == &PATTERN_ROLE_ARN)
        return "arn:aws:iam::000000000000:role/build";
    if (s->pattern == &PATTERN_TAGGABLE)
        return "arn:aws:lambda:us-east-1:000000000000:microvm-image:n";
    return "a";
}

static json_t *sample_members(const struct shape *s)
{
    json_t *o = json_object();
    for (const struct member *m = s->members; m->name; m++)
        if (m->required || s->kind == SHAPE_UNION) {
            json_object_set_new(o, m->name, sample(m->shape));
            if (s->kind == SHAPE_UNION)
                break;
        }
    return o;
}

static json_t *sample(const struct shape *s)
{
    switch (s->kind) {
    case SHAPE_STRING:
        return json_string(sample_text(s));
    case SHAPE_INTEGER:
        return json_integer(s->min > INT32_MIN ? s->min : 0);
    case SHAPE_BOOLEAN:
        return json_true();
    case SHAPE_STRUCT:
    case SHAPE_UNION:
        return sample_members(s);
    case SHAPE_LIST:
        return json_pack("[o]", sample(s->element));
    case SHAPE_MAP:
        return json_pack("{s:o}", sample_text(s->key), sample(s->element));
    case SHAPE_ANY:
        break;
    }
    return json_object();
}

/* Members by location, as a request would carry them. */
struct request {
    json_t *at[3];
};

static void put(struct request *r, const struct member *m, json_t *v)
{
    if (m->location == IN_QUERY && json_is_integer(v)) {
        json_t *text = json_sprintf("%lld", json_integer_value(v));
        json_decref(v);
        v = text;
    }
    json_object_set_new(r->at[m->location], m->name, v);
}

static struct request make_request(const struct member *input)
{
    struct request r = {{json_object(), json_object(), json_object()}};
    for (const struct member *m = input; m->name; m++)
        put(&r, m, sample(m->shape));
    return r;
}

static void drop_request(struct request *r)
{
    for (int i = 0; i < 3; i++)
        json_decref(r->at[i]);
}

static enum validate_result check(const struct member *input, const struct request *r,
                                  struct buf *message)
{
    json_t *out = NULL;
    const struct validate_sources in = {{r->at[0], r->at[1], r->at[2]}};
    enum validate_result v = validate_input(input, &in, &out, message);
    if (v == VALIDATE_OK)
        for (const struct member *m = input; m->name; m++)
            if (json_object_get(r->at[m->location], m->name))
                assert_non_null(json_object_get(out, m->name));
    json_decref(out);
    return v;
}

static void expect_refused(const char *operation, const struct member *m,
                           const struct member *input, const struct request *r, const char *words)
{
    CLEANUP(buf_done)
    struct buf message = BUF_INIT(0);
    enum validate_result v = check(input, r, &message);
    if (v == VALIDATE_OK || !message.data || !strstr(message.data, words))
        fail_msg("%s.%s: result %d, text \"%s\", expected \"%s\"", operation, m->name, v,
                 message.data ? message.data : "", words);
}

static json_t *string_of(size_t n)
{
    char *s = malloc(n + 1);
    memset(s, 'a', n);
    s[n] = '\0';
    json_t *v = json_string(s);
    free(s);
    return v;
}

static void walk_member(const char *operation, const struct member *input, const struct member *m)
{
    const struct shape *s = m->shape;
    struct request r = make_request(input);
    if (m->required) {
        json_object_set_new(r.at[m->location], m->name, json_null());
        expect_refused(operation, m, input, &r,
                       "' failed to satisfy constraint: Member must not be "
                       "null");
        json_object_del(r.at[m->location], m->name);
        expect_refused(operation, m, input, &r, m->name);
    }
    if (s->kind == SHAPE_STRING && s->max < 20000 && !s->values) {
        put(&r, m, string_of((size_t)s->max + 1));
        expect_refused(operation, m, input, &r, "length less than or equal to");
    }
    if (s->kind == SHAPE_STRING && s->min > 0) {
        put(&r, m, json_string(""));
        expect_refused(operation, m, input, &r, "length greater than or equal to");
    }
    if (s->kind == SHAPE_STRING && s->pattern == &PATTERN_NO_SPACE) {
        put(&r, m, json_string("a b"));
        expect_refused(operation, m, input, &r, "regular expression pattern: [^\\s]+");
    }
    if (s->values) {
        put(&r, m, json_string("NEITHER"));
        expect_refused(operation, m, input, &r, "Member must satisfy enum value set: [");
    }
    if (s->kind == SHAPE_INTEGER && s->max < INT64_MAX) {
        put(&r, m, json_integer(s->max + 1));
        expect_refused(operation, m, input, &r, "value less than or equal to");
    }
    if (s->kind == SHAPE_INTEGER && s->min > INT32_MIN) {
        put(&r, m, json_integer(s->min - 1));
        expect_refused(operation, m, input, &r, "value greater than or equal to");
    }
    if (m->location == IN_BODY && s->kind != SHAPE_ANY) {
        put(&r, m, s->kind == SHAPE_LIST ? json_true() : json_pack("[i]", 1));
        CLEANUP(buf_done)
        struct buf message = BUF_INIT(0);
        assert_int_equal(check(input, &r, &message), VALIDATE_TYPE);
    }
    drop_request(&r);
}

static void test_every_member(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(INPUTS); i++) {
        struct request r = make_request(INPUTS[i].input);
        CLEANUP(buf_done)
        struct buf message = BUF_INIT(0);
        if (check(INPUTS[i].input, &r, &message) != VALIDATE_OK)
            fail_msg("%s: %s", INPUTS[i].name, message.data);
        drop_request(&r);
        for (const struct member *m = INPUTS[i].input; m->name; m++)
            walk_member(INPUTS[i].name, INPUTS[i].input, m);
    }
}

struct message_case {
    const struct member *input;
    const char *body;
    enum validate_result result;
    const char *text;
};

static const struct message_case MESSAGES[] = {
    {IN_CREATE_IMAGE, "{\"name\":\"n\"}", VALIDATE_CONSTRAINT,
     "3 validation errors detected: Value null at 'baseImageArn' failed to satisfy constraint: "
     "Member must not be null; Value null at 'codeArtifact' failed to satisfy constraint: Member "
     "must not be null; Value null at 'buildRoleArn' failed to satisfy constraint: Member must not "
     "be null"},
    {IN_CREATE_IMAGE,
     "{\"name\":\"a b\",\"baseImageArn\":\"x\",\"codeArtifact\":{\"uri\":\"s3://b/k\"},"
     "\"buildRoleArn\":\"arn:aws:iam::000000000000:role/x\"}",
     VALIDATE_CONSTRAINT,
     "1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must "
     "satisfy regular expression pattern: [a-zA-Z0-9-_]+"},
    {IN_CREATE_IMAGE,
     "{\"name\":\"n\",\"baseImageArn\":\"x\",\"codeArtifact\":{\"uri\":\"s3://b/k\"},"
     "\"buildRoleArn\":\"arn:aws:iam::000000000000:role/x\",\"environmentVariables\":{\"A "
     "B\":\"c\"}}",
     VALIDATE_CONSTRAINT,
     "1 validation error detected: Value at 'environmentVariables' failed to satisfy constraint: "
     "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [^\\s]+]"},
    {IN_CREATE_IMAGE,
     "{\"name\":\"n\",\"baseImageArn\":\"x\",\"codeArtifact\":{},"
     "\"buildRoleArn\":\"arn:aws:iam::000000000000:role/x\"}",
     VALIDATE_CONSTRAINT,
     "1 validation error detected: Value '{}' at 'codeArtifact' failed to satisfy constraint: "
     "Member must have exactly one of its members set"},
    {IN_RUN, "{\"imageIdentifier\":\"i\",\"idlePolicy\":{\"maxIdleDurationSeconds\":59}}",
     VALIDATE_CONSTRAINT,
     "3 validation errors detected: Value '59' at 'idlePolicy.maxIdleDurationSeconds' failed to "
     "satisfy constraint: Member must have value greater than or equal to 60; Value null at "
     "'idlePolicy.suspendedDurationSeconds' failed to satisfy constraint: Member must not be null; "
     "Value null at 'idlePolicy.autoResumeEnabled' failed to satisfy constraint: Member must not "
     "be "
     "null"},
    {IN_AUTH_TOKEN, "{\"expirationInMinutes\":5,\"allowedPorts\":[{\"allPorts\":true}]}",
     VALIDATE_TYPE, "Expected null"},
    {IN_AUTH_TOKEN, "{\"expirationInMinutes\":\"5\",\"allowedPorts\":[{\"allPorts\":{}}]}",
     VALIDATE_TYPE, "STRING_VALUE can not be converted to an Integer"},
    {IN_AUTH_TOKEN, "{\"expirationInMinutes\":5,\"allowedPorts\":[{\"port\":1},{\"port\":70000}]}",
     VALIDATE_CONSTRAINT,
     "1 validation error detected: Value '70000' at 'allowedPorts.2.member.port' failed to satisfy "
     "constraint: Member must have value less than or equal to 65535"},
    {IN_AUTH_TOKEN, "{\"expirationInMinutes\":5,\"allowedPorts\":[]}", VALIDATE_CONSTRAINT,
     "1 validation error detected: Value '[]' at 'allowedPorts' failed to satisfy constraint: "
     "Member "
     "must have length greater than or equal to 1"},
    {IN_RUN, "[]", VALIDATE_TYPE, "Expected null"},
};

static void test_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(MESSAGES); i++) {
        CLEANUP(cleanup_json)
        json_t *body = NULL, *out = NULL;
        CLEANUP(cleanup_json)
        json_t *path = json_pack("{s:s}", "microvmIdentifier", "microvm-1");
        CLEANUP(buf_done)
        struct buf message = BUF_INIT(0);
        assert_int_equal(
            json_parse(MESSAGES[i].body, strlen(MESSAGES[i].body), 1 << 16, &body, NULL), 0);
        const struct validate_sources in = {{body, path, NULL}};
        assert_int_equal(validate_input(MESSAGES[i].input, &in, &out, &message),
                         MESSAGES[i].result);
        assert_string_equal(message.data, MESSAGES[i].text);
    }
}

/* A secret is never repeated, whichever constraint it breaks. */
static void test_sensitive(void **state)
{
    (void)state;
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:s}", "imageIdentifier", "i");
    CLEANUP(cleanup_json)
    json_t *out = NULL;
    CLEANUP(buf_done)
    struct buf message = BUF_INIT(0);
    json_object_set_new(body, "runHookPayload", string_of(4096));
    const struct validate_sources in = {{body, NULL, NULL}};
    assert_int_equal(validate_input(IN_RUN, &in, &out, &message), VALIDATE_OK);
    json_object_set_new(body, "runHookPayload", string_of(4097));
    json_t *none = NULL;
    assert_int_equal(validate_input(IN_RUN, &in, &none, &message), VALIDATE_CONSTRAINT);
    assert_string_equal(message.data,
                        "1 validation error detected: Value at 'runHookPayload' failed to satisfy "
                        "constraint: Member must have length less than or equal to 4096");
}

static void test_unknown_and_null_members(void **state)
{
    (void)state;
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:s, s:n, s:i, s:{s:{}, s:i}}", "imageIdentifier", "i", "logging",
                             "other", 1, "logging", "disabled", "extra", 2);
    CLEANUP(cleanup_json)
    json_t *out = NULL;
    CLEANUP(buf_done)
    struct buf message = BUF_INIT(0);
    const struct validate_sources in = {{body, NULL, NULL}};
    assert_int_equal(validate_input(IN_RUN, &in, &out, &message), VALIDATE_OK);
    CLEANUP(cleanup_free)
    char *text = json_dumps(out, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "{\"imageIdentifier\":\"i\",\"logging\":{\"disabled\":{}}}");
}

/* Many violations are counted, but the text stays bounded. */
static void test_many_violations(void **state)
{
    (void)state;
    CLEANUP(cleanup_json)
    json_t *ports = json_array();
    for (int i = 0; i < 5000; i++)
        json_array_append_new(ports, json_pack("{s:i}", "port", 0));
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:i, s:O}", "expirationInMinutes", 1, "allowedPorts", ports);
    CLEANUP(cleanup_json)
    json_t *path = json_pack("{s:s}", "microvmIdentifier", "m");
    CLEANUP(buf_done)
    struct buf message = BUF_INIT(0);
    json_t *none = NULL;
    const struct validate_sources in = {{body, path, NULL}};
    assert_int_equal(validate_input(IN_AUTH_TOKEN, &in, &none, &message), VALIDATE_CONSTRAINT);
    assert_int_equal(strncmp(message.data, "5000 validation errors detected: ", 33), 0);
    assert_true(message.len < 4096);
}

static void test_query_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum validate_result result;
    } CASES[] = {{"1", VALIDATE_OK},         {"50", VALIDATE_OK},
                 {"0", VALIDATE_CONSTRAINT}, {"51", VALIDATE_CONSTRAINT},
                 {"x", VALIDATE_TYPE},       {"", VALIDATE_TYPE},
                 {" 5", VALIDATE_TYPE},      {"5x", VALIDATE_TYPE},
                 {"+5", VALIDATE_TYPE},      {"99999999999999999999", VALIDATE_TYPE}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        CLEANUP(cleanup_json)
        json_t *query = json_pack("{s:s}", "maxResults", CASES[i].text);
        CLEANUP(cleanup_json)
        json_t *out = NULL;
        CLEANUP(buf_done)
        struct buf message = BUF_INIT(0);
        const struct validate_sources in = {{NULL, NULL, query}};
        assert_int_equal(validate_input(IN_LIST_IMAGES, &in, &out, &message), CASES[i].result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_member),    cmocka_unit_test(test_messages),
        cmocka_unit_test(test_sensitive),       cmocka_unit_test(test_unknown_and_null_members),
        cmocka_unit_test(test_many_violations), cmocka_unit_test(test_query_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
