/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration: every key has help, layers override each other, mistakes name file and line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "daemon/config.h"

static char home[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(home, "/tmp/config-test-XXXXXX");
    return mkdtemp(home) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return fs_remove_tree(home, NULL);
}

static int load(const char *file, const char *set, struct config *c, struct err *e)
{
    char path[128], pair[128]; /* arguments are taken apart in place */
    snprintf(pair, sizeof pair, "%s", set ? set : "");
    char *argv[] = {"tinderboxd", "--home", home, "--set", pair, NULL};
    snprintf(path, sizeof path, "%s/tinderbox.conf", home);
    assert_int_equal(fs_write_file(path, file, strlen(file), 0600, e), 0);
    return config_load(set ? 5 : 3, argv, c, e);
}

static void defaults_then_file_then_arguments(void **state)
{
    (void)state;
    struct config c;
    struct err e = {0};
    assert_int_equal(load("", NULL, &c, &e), 0);
    assert_int_equal(c.api_port, 8400);
    assert_true(c.engine_sandbox);
    assert_string_equal(c.home, home);
    assert_int_equal(load("# c\n\n api.port = 1 \nengine.sandbox=false\n", NULL, &c, &e), 0);
    assert_int_equal(c.api_port, 1);
    assert_false(c.engine_sandbox);
    assert_int_equal(load("api.port = 1\n", "api.port=2", &c, &e), 0);
    assert_int_equal(c.api_port, 2);
}

static const struct {
    const char *file, *set, *text;
} MISTAKES[] = {
    {"\n\nnonsense\n", NULL, "tinderbox.conf:3: 'nonsense' is not key = value"},
    {"api.prot = 1\n", NULL, "tinderbox.conf:1: unknown key 'api.prot'"},
    {"api.port = 65536\n", NULL, "'65536' is not a number from 0 to 65535"},
    {"api.port = 12x\n", NULL, "'12x' is not a number"},
    {"api.port =\n", NULL, "'' is not a number"},
    {"engine.sandbox = yes\n", NULL, "'yes' is neither true nor false"},
    {"region =\n", NULL, "length must be"},
    {"account = 12345678901x\n", NULL, "account: 12 digits"},
    {"", "account=1", "length must be 12 to 12"},
};

static void mistakes_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(MISTAKES); i++) {
        struct config c;
        struct err e = {0};
        assert_int_equal(load(MISTAKES[i].file, MISTAKES[i].set, &c, &e), -EINVAL);
        if (!strstr(e.text, MISTAKES[i].text))
            fail_msg("'%s' does not say '%s'", e.text, MISTAKES[i].text);
    }
}

static void check_key(const char *key, const char *help, void *arg)
{
    ++*(int *)arg;
    assert_non_null(strpbrk(key, "abcdefghijklmnopqrstuvwxyz"));
    assert_true(strlen(help) > 10);
}

static void every_key_is_documented(void **state)
{
    (void)state;
    int n = 0;
    config_each(check_key, &n);
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_then_file_then_arguments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mistakes_are_named, set_up, tear_down),
        cmocka_unit_test(every_key_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
