/* SPDX-License-Identifier: Apache-2.0 */
/* reference.h and config.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "image/config.h"
#include "image/reference.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *text, *want; /* NULL: malformed */
} references[] = {
    {"debian", "docker.io/library/debian:latest"},
    {"debian:12", "docker.io/library/debian:12"},
    {"a/b", "docker.io/a/b:latest"},
    {"docker.io/debian", "docker.io/library/debian:latest"},
    {"index.docker.io/library/debian:12", "docker.io/library/debian:12"},
    {"ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"},
    {"GHCR.io/a/b", "ghcr.io/a/b:latest"},
    {"localhost/x", "localhost/x:latest"},
    {"localhost:5000/x:1", "localhost:5000/x:1"},
    {"host:5000/x", "host:5000/x:latest"},
    {"debian@sha256:" HEX, "docker.io/library/debian@sha256:" HEX},
    {"debian:12@sha256:" HEX, "docker.io/library/debian:12@sha256:" HEX},
    {"a_b/c-d.e__f", "docker.io/a_b/c-d.e__f:latest"},
    {"", NULL},
    {":12", NULL},
    {"debian:", NULL},
    {"debian:-x", NULL},
    {"debian:a b", NULL},
    {"Debian", NULL},
    {"a//b", NULL},
    {"/a", NULL},
    {"a/", NULL},
    {"a/../b", NULL},
    {"-a", NULL},
    {"a@sha256:"
     "00",
     NULL},
    {"a@md5:" HEX, NULL},
    {"a@sha256:" HEX "0", NULL},
    {"ghcr.io/", NULL},
    {"a b", NULL},
    {"a\x01", NULL},
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(references); i++) {
        struct reference r;
        struct err e = {0};
        char text[REFERENCE_MAX + 32] = "";
        if (reference_parse(references[i].text, &r, &e) == 0)
            reference_text(&r, text, sizeof text);
        else
            assert_int_equal(e.code, EINVAL);
        assert_string_equal(text, references[i].want ? references[i].want : "");
    }
    char big[REFERENCE_MAX + 2];
    struct reference r;
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(reference_parse(big, &r, NULL), -EINVAL);
    big[300] = '\0';
    assert_int_equal(reference_parse(big, &r, NULL), -EINVAL);
}

static const struct {
    const char *text;
    int r;
    const char *says; /* a part of the error */
} managed[] = {
    {"debian:12", 0, NULL},
    {"debian:bookworm", 0, NULL},
    {"debian:12-slim", 0, NULL},
    {"debian:bookworm-slim", 0, NULL},
    {"library/debian:12", 0, NULL},
    {"docker.io/library/debian:12", 0, NULL},
    {"docker.io/debian:12-slim", 0, NULL},
    {"public.ecr.aws/docker/library/debian:12", 0, NULL},
    {"public.ecr.aws/debian/debian:bookworm-slim", 0, NULL},
    {"my/base:1", 0, NULL},
    {"docker.io/my/base:1", 0, NULL},
    {"debian", -ENOENT, "debian:latest is Debian 13 (trixie)"},
    {"debian:latest", -ENOENT, "write debian:12"},
    {"debian:13", -ENOENT, "debian:13 is not available here: write debian:12"},
    {"debian:12@sha256:" HEX, -ENOENT, "pinned by digest"},
    {"scratch", -ENOENT, "'scratch' is not available"},
    {"python:3.12", -ENOENT, "base image 'python:3.12' is not available: there is debian:12"},
    {"public.ecr.aws/lambda/microvms:al2023-minimal", -ENOENT,
     "configure an alias from 'public.ecr.aws/lambda/microvms:al2023-minimal'"},
    {"someone/debian:12", -ENOENT, "is not available"},
    {"ghcr.io/library/debian:12", -ENOENT, "is not available"},
    {"bad/alias", -ENOENT, "alias of 'bad/alias': base image 'alpine' is not available"},
    {"chain", -ENOENT, "alias of 'chain': base image 'my/base:1' is not available"},
    {"A", -EINVAL, "'A': malformed repository name"},
};

static void test_managed(void **state)
{
    (void)state;
    const struct reference_alias aliases[] = {
        {"My::Broken", "debian:12"},
        {"my/base:1", "debian:12"},
        {"bad/alias", "alpine"},
        {"chain", "my/base:1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(managed); i++) {
        const char *name = NULL;
        struct err e = {0};
        int r = reference_managed(managed[i].text, aliases, ARRAY_LEN(aliases), &name, &e);
        if (r != managed[i].r || (r < 0 && !strstr(e.text, managed[i].says)))
            fail_msg("%s: %d %s", managed[i].text, r, e.text);
        if (r == 0)
            assert_string_equal(name, "debian:12");
    }
}

static const struct {
    const char *config, *argv; /* NULL: nothing to start */
} argvs[] = {
    {"{\"Cmd\":[\"a\",\"b\"]}", "[\"a\",\"b\"]"},
    {"{\"Entrypoint\":[\"e\"]}", "[\"e\"]"},
    {"{\"Entrypoint\":[\"e\",\"x\"],\"Cmd\":[\"a\"]}", "[\"e\",\"x\",\"a\"]"},
    {"{\"Entrypoint\":[],\"Cmd\":[\"a\"]}", "[\"a\"]"},
    {"{\"Entrypoint\":null,\"Cmd\":[\"a\"]}", "[\"a\"]"},
    {"{\"Entrypoint\":[\"/bin/sh\",\"-c\",\"e\"],\"Cmd\":[\"/bin/sh\",\"-c\",\"c\"]}",
     "[\"/bin/sh\",\"-c\",\"e\",\"/bin/sh\",\"-c\",\"c\"]"},
    {"{}", NULL},
    {"{\"Entrypoint\":[],\"Cmd\":[]}", NULL},
    {"{\"Cmd\":[\"\"]}", NULL},
};

static void test_argv(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(argvs); i++) {
        CLEANUP(cleanup_json)
        json_t *config = json_loads(argvs[i].config, 0, NULL);
        json_t *argv = NULL;
        struct err e = {0};
        int r = config_argv(config, &argv, &e);
        if (!argvs[i].argv) {
            assert_int_equal(r, -EINVAL);
            continue;
        }
        char *text = json_text(argv);
        assert_string_equal(text, argvs[i].argv);
        free(text);
        json_decref(argv);
    }
}

static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        int r;
    } table[] = {
        {"{}", 0},
        {"{\"Env\":[\"A=\",\"B=c=d\"],\"Cmd\":null,\"Extra\":7}", 0},
        {"{\"ExposedPorts\":{\"1/tcp\":{}},\"Labels\":{\"a\":\"b\"}}", 0},
        {"[]", -EINVAL},
        {"{\"Env\":[\"A\"]}", -EINVAL},
        {"{\"Env\":[\"=A\"]}", -EINVAL},
        {"{\"Env\":{}}", -EINVAL},
        {"{\"Cmd\":\"a\"}", -EINVAL},
        {"{\"Cmd\":[1]}", -EINVAL},
        {"{\"User\":0}", -EINVAL},
        {"{\"Labels\":{\"a\":1}}", -EINVAL},
        {"{\"ExposedPorts\":{\"1\":{\"a\":1}}}", -EINVAL},
        {"{\"ExposedPorts\":[]}", -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        CLEANUP(cleanup_json)
        json_t *config = json_loads(table[i].config, 0, NULL);
        assert_int_equal(config_check(config, NULL), table[i].r);
    }
    CLEANUP(cleanup_json)
    json_t *c = json_loads("{\"Env\":[\"AB=1\",\"A=2\"]}", 0, NULL);
    assert_string_equal(config_env(c, "A"), "2");
    assert_null(config_env(c, "B"));
    assert_string_equal(config_workdir(c), "/");
    assert_string_equal(config_user(c), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_managed),
        cmocka_unit_test(test_argv),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
