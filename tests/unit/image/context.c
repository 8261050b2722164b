/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/context.h"
#include "image/ignore.h"
#include "support.h"

#define SHA "\"sha256\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""
#define REST ",\"type\":\"file\",\"mode\":420,\"size\":1," SHA "}"

/* The guest is hostile: what must not pass. */
static const char *const bad[] = {
    "",
    "[]",
    "null",
    "{}",
    "{\"path\":\"a\"",
    "{\"path\":\"\"" REST,
    "{\"path\":\"/a\"" REST,
    "{\"path\":\"a/\"" REST,
    "{\"path\":\"a//b\"" REST,
    "{\"path\":\".\"" REST,
    "{\"path\":\"./a\"" REST,
    "{\"path\":\"..\"" REST,
    "{\"path\":\"../a\"" REST,
    "{\"path\":\"a/../b\"" REST,
    "{\"path\":\"a/..\"" REST,
    "{\"path\":\"a\\u0000b\"" REST,
    "{\"path\":\"\xff\"" REST,
    "{\"path\":7" REST,
    "{\"path\":null" REST,
    "{\"path\":\"a\",\"path\":\"b\"" REST,
    "{\"path\":\"a\",\"type\":\"socket\",\"mode\":420,\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":1,\"mode\":420,\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":-1,\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":4096,\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":\"420\",\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420.5,\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"size\":1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420,\"size\":-1," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420,\"size\":1099511627777," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420,\"size\":99999999999999999999," SHA "}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420,\"size\":1}",
    "{\"path\":\"a\",\"type\":\"file\",\"mode\":420,\"size\":1,\"sha256\":\"abc\"}",
    ("{\"path\":\"a\",\"type\":\"file\",\"mode\":420,\"size\":1,\"sha256\":"
     "\"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"}"),
    "{\"path\":\"a\",\"type\":\"link\",\"mode\":511,\"target\":\"\"}",
    "{\"path\":\"a\",\"type\":\"link\",\"mode\":511}",
    "{\"path\":\"a/\",\"type\":\"link\",\"mode\":511,\"target\":\"b\"}",
    "{\"path\":\"/\",\"type\":\"dir\",\"mode\":493}",
    "{\"path\":\"a//\",\"type\":\"dir\",\"mode\":493}",
};

static void test_bad_records(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct context *c = context_new();
        struct err e = {0};
        if (context_add_record(c, bad[i], strlen(bad[i]), &e) != -EINVAL || !e.text[0])
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(context_count(c), 0);
        context_free(c);
    }
}

static void test_good_records(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{\"path\":\"d/"
        "\",\"type\":\"dir\",\"mode\":493,\"size\":0,\"sha256\":null,\"target\":null}",
        "{\"path\":\"d/a b\\n\"" REST,
        "{\"path\":\"...\"" REST,
        "{\"path\":\"x/l\",\"type\":\"link\",\"mode\":511,\"target\":\"/../..\"}",
    };
    struct context *c = context_new();
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(context_add_record(c, good[i], strlen(good[i]), NULL), 0);
    assert_int_equal(context_seal(c, NULL), 0);
    assert_int_equal(context_count(c), 5); /* "x" was implied */
    const struct context_entry *x = context_find(c, "x"), *l = context_find(c, "x/l");
    assert_non_null(x);
    assert_true(x->implied && x->type == CONTEXT_DIR && x->mode == 0755);
    assert_string_equal(l->target, "/../..");
    assert_false(context_find(c, "d")->implied);
    assert_int_equal(context_find(c, "d/a b\n")->mode, 0644);
    assert_null(context_find(c, "d/"));
    assert_null(context_find(c, ""));
    context_free(c);
}

static int seal_error(const char *lines, struct err *e)
{
    struct context *c = context_new();
    char line[512];
    for (const char *p = lines; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        int n = (int)strcspn(p, "\n");
        if (*p == '@')
            snprintf(line, sizeof line,
                     "{\"path\":\"%.*s\",\"type\":\"link\",\"mode\":511,\"target\":\"x\"}", n - 1,
                     p + 1);
        else
            snprintf(line, sizeof line, "{\"path\":\"%.*s\"" REST, n, p);
        assert_int_equal(context_add_record(c, line, strlen(line), e), 0);
    }
    int r = context_seal(c, e);
    context_free(c);
    return r;
}

static void test_seal(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(seal_error("a\nb\na\n", &e), -EINVAL);
    assert_string_equal(e.text, "'a' is in the archive twice");
    assert_int_equal(seal_error("a/b\na\n", &e), -EINVAL);
    assert_string_equal(e.text, "'a/b' is in the archive below 'a', which is a file");
    assert_int_equal(seal_error("x/y/z/w\n@x/y\n", &e), -EINVAL);
    assert_string_equal(e.text, "'x/y/z/w' is in the archive below 'x/y', which is a link");
    assert_int_equal(seal_error("a.b\na/b\na0/b\na-/c\na/c/d\n", &e), 0);
}

static void test_limits(void **state)
{
    (void)state;
    struct context *c = context_new();
    struct err e = {0};
    char line[512];
    for (int i = 0; i < CONTEXT_MAX_ENTRIES; i++) {
        snprintf(line, sizeof line, "{\"path\":\"d%d/f%d\"" REST, i % 300, i);
        assert_int_equal(context_add_record(c, line, strlen(line), &e), 0);
    }
    assert_int_equal(context_add_record(c, line, strlen(line), &e), -EMSGSIZE);
    /* Parents count, too. */
    assert_int_equal(context_seal(c, &e), -EMSGSIZE);
    assert_string_equal(e.text, "the build context has more than 100000 entries");
    context_free(c);

    c = context_new();
    char *long_name = malloc(CONTEXT_MAX_RECORD + 2);
    memset(long_name, ' ', CONTEXT_MAX_RECORD + 1);
    assert_int_equal(context_add_record(c, long_name, CONTEXT_MAX_RECORD + 1, &e), -EMSGSIZE);
    memset(line, 'n', sizeof line);
    int n = snprintf(long_name, CONTEXT_MAX_RECORD, "{\"path\":\"%.256s\"" REST, line);
    assert_int_equal(context_add_record(c, long_name, (size_t)n, &e), -EINVAL);
    free(long_name);
    context_free(c);
}

static void test_tree_order(void **state)
{
    (void)state;
    struct context *c = support_context("file 0644 a.b 1\nfile 0644 a/z 2\nfile 0644 a-b 3\n"
                                        "file 0644 a/b/c 4\nfile 0644 b 5\n",
                                        NULL);
    static const char *const want[] = {"a", "a/b", "a/b/c", "a/z", "a-b", "a.b", "b"};
    assert_int_equal(context_count(c), ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_string_equal(context_at(c, i)->path, want[i]);
    size_t first;
    assert_int_equal(context_below(c, "a", &first), 3);
    assert_int_equal(first, 1);
    assert_int_equal(context_below(c, "", &first), 7);
    assert_int_equal(context_below(c, "b", &first), 0);
    assert_int_equal(context_below(c, "nope", &first), 0);
    context_free(c);
}

static void test_resolve(void **state)
{
    (void)state;
    static const struct {
        const char *path, *want;
        int r;
    } table[] = {
        {"", "", 0},          {"a", "a", 0},           {"./a/", "a", 0},
        {"d/f", "d/f", 0},    {"l", "d", 0},           {"l/f", "d/f", 0},
        {"abs/f", "d/f", 0},  {"up", "a", 0},          {"d/self/self/f", "d/f", 0},
        {"d/../a", "a", 0},   {"chain/f", "d/f", 0},   {"loop", "", -ELOOP},
        {"x1", "", -ELOOP},   {"gone", "", -ENOENT},   {"broken", "", -ENOENT},
        {"a/f", "", -ENOENT}, {"secret", "", -ENOENT}, {"to-secret", "", -ENOENT},
    };
    struct context *c = support_context(
        "file 0644 a 1\nfile 0644 d/f 2\nlink l d\nlink abs /d\nlink up ../../../a\n"
        "link d/self .\nlink chain l\nlink loop loop\nlink x1 x2\nlink x2 x1\nlink broken nope\n"
        "file 0644 secret s\nlink to-secret secret\n",
        "secret\n");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char out[CONTEXT_MAX_PATH + 1];
        int r = context_resolve(c, table[i].path, out);
        if (r != table[i].r || (r == 0 && strcmp(out, table[i].want) != 0))
            fail_msg("%s: %d", table[i].path, r);
    }
    context_free(c);
}

static void test_ignore_work(void **state)
{
    (void)state;
    struct context *c = context_new();
    struct err e = {0};
    char line[4096], name[2001];
    memset(name, 'a', 2000);
    for (size_t i = 100; i < 2000; i += 100)
        name[i] = '/';
    name[2000] = '\0';
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "{\"path\":\"%s/%d\"" REST, name, i);
        assert_int_equal(context_add_record(c, line, strlen(line), &e), 0);
    }
    assert_int_equal(context_seal(c, &e), 0);
    struct buf b = BUF_INIT(0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buf_adds(&b, "**a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\n"), 0);
    struct ignore *g = NULL;
    assert_int_equal(ignore_parse(b.data, b.len, &g, &e), 0);
    assert_int_equal(context_apply_ignore(c, g, &e), -E2BIG);
    ignore_free(g);
    buf_done(&b);
    context_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_records), cmocka_unit_test(test_good_records),
        cmocka_unit_test(test_seal),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_tree_order),  cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_ignore_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
