/* SPDX-License-Identifier: Apache-2.0 */
/* The service's own refusals, by their literal texts, and the defaults it fills in. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "api/rules.h"

#define BASE "\"baseImageArn\":\"arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1\","
#define CODE "\"codeArtifact\":{\"uri\":\"s3://bucket/code.zip\"},"
#define READY                                                                                      \
    "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook (run, " \
    "resume, suspend, or terminate) is enabled. The ready hook signals when the application has "  \
    "finished initializing so the snapshot is taken in a ready state."
#define MANAGED "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:"

static const struct {
    const char *input;
    const char *error; /* NULL: accepted */
} CASES[] = {
    {"{" BASE CODE "\"name\":\"n\"}", NULL},
    {"{\"baseImageArn\":\"arn:aws:lambda:eu-west-1:aws:microvm-image:debian-12\"," CODE
     "\"baseImageVersion\":\"1.0\"}",
     NULL},
    {"{" BASE CODE "\"baseImageVersion\":\"999\"}",
     "No managed MicroVM Image with arn arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1 and "
     "version 999 is available"},
    {"{\"baseImageArn\":\"debian-12\"," CODE "\"name\":\"n\"}", "Invalid ARN format: debian-12"},
    {"{" BASE "\"codeArtifact\":{\"uri\":\"123.dkr.ecr/x\"}}",
     "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"},
    {"{" BASE "\"codeArtifact\":{\"uri\":\"s3://bucket/\"}}",
     "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"},
    {"{" BASE "\"codeArtifact\":{\"uri\":\"s3://b/k\"}}",
     "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"},
    {"{" BASE CODE "\"resources\":[{\"minimumMemoryInMiB\":3000}]}",
     "The requested memory size of 3000 MiB is not supported by base MicroVM image "
     "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1. Supported memory sizes in MiB are: "
     "[512, "
     "1024, 2048, 4096, 8192]."},
    {"{" BASE CODE "\"hooks\":{\"port\":80,\"microvmHooks\":{\"run\":\"ENABLED\"}}}", READY},
    {"{" BASE CODE "\"hooks\":{\"port\":80,\"microvmHooks\":{\"run\":\"DISABLED\"}}}", NULL},
    {"{" BASE CODE "\"hooks\":{\"microvmImageHooks\":{\"ready\":\"ENABLED\"}}}",
     "The hooks port must be specified when any hook is enabled."},
    {"{" BASE CODE "\"hooks\":{\"port\":80,\"microvmImageHooks\":{\"ready\":\"ENABLED\"},"
     "\"microvmHooks\":{\"suspend\":\"ENABLED\"}}}",
     NULL},
    {"{" BASE CODE "\"egressNetworkConnectors\":[\"X\"]}", "Malformed network connector ARN: X"},
    {"{" BASE CODE "\"egressNetworkConnectors\":[\"" MANAGED "NO_EGRESS\"]}",
     "Unrecognized managed network connector ARN: " MANAGED "NO_EGRESS"},
    {"{" BASE CODE "\"environmentVariables\":{\"AWS_REGION\":\"x\"}}",
     "Environment variable key 'AWS_REGION' is reserved"},
    {"{" BASE CODE "\"environmentVariables\":{\"A=B\":\"x\"}}",
     "Environment variable key 'A=B' contains '='"},
};

static json_t *parse(const char *text)
{
    json_t *v = NULL;
    assert_int_equal(json_parse(text, strlen(text), 1 << 16, &v, NULL), 0);
    return v;
}

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        CLEANUP(cleanup_json)
        json_t *in = parse(CASES[i].input), *out = NULL;
        struct err e = {0};
        int r = rules_image_input(in, "us-east-1", &out, &e);
        if (!CASES[i].error && r < 0)
            fail_msg("%s: %s", CASES[i].input, e.text);
        if (CASES[i].error) {
            assert_true(r < 0);
            assert_string_equal(e.text, CASES[i].error);
        }
    }
}

static void test_defaults(void **state)
{
    (void)state;
    CLEANUP(cleanup_json)
    json_t *in =
        parse("{" BASE CODE "\"name\":\"n\",\"clientToken\":\"t\",\"imageIdentifier\":\"i\","
              "\"egressNetworkConnectors\":[]}");
    CLEANUP(cleanup_json)
    json_t *out = NULL;
    assert_int_equal(rules_image_input(in, "eu-west-1", &out, NULL), 0);
    assert_string_equal(json_get_str(out, "baseImageVersion"), "1.0");
    assert_null(json_object_get(out, "clientToken"));
    assert_null(json_object_get(out, "imageIdentifier"));
    assert_string_equal(json_get_str(out, "name"), "n");
    const json_t *first = json_array_get(json_object_get(out, "resources"), 0);
    assert_int_equal(json_get_int(first, "minimumMemoryInMiB", 0), 2048);
    const json_t *egress = json_array_get(json_object_get(out, "egressNetworkConnectors"), 0);
    assert_string_equal(json_string_value(egress),
                        "arn:aws:lambda:eu-west-1:aws:network-connector:aws-network-connector:"
                        "INTERNET_EGRESS");
}

static void test_ingress_alone(void **state)
{
    (void)state;
    CLEANUP(cleanup_json)
    json_t *both = json_pack("[s, s]", MANAGED "ALL_INGRESS", MANAGED "SHELL_INGRESS");
    CLEANUP(cleanup_json)
    json_t *good = json_pack("[s, s]", MANAGED "HTTP_INGRESS", MANAGED "SHELL_INGRESS");
    struct err e;
    assert_int_equal(rules_connectors(both, true, &e), -EINVAL);
    assert_string_equal(e.text, "ALL_INGRESS cannot be combined with other ingress network "
                                "connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead");
    assert_int_equal(rules_connectors(good, true, NULL), 0);
    assert_true(rules_has_connector(good, CONNECTOR_SHELL_INGRESS));
    assert_false(rules_has_connector(good, CONNECTOR_ALL_INGRESS));
    assert_int_equal(rules_connectors(NULL, true, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_ingress_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
