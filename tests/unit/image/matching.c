/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.h, ignore.h, paths.h, utf8.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/ignore.h"
#include "image/paths.h"
#include "image/pattern.h"
#include "image/utf8.h"

enum verdict { NO, YES, BAD };

static const struct {
    enum pattern_dialect dialect;
    const char *pattern, *text;
    enum verdict want;
} patterns[] = {
    {PATTERN_COPY, "", "", YES},
    {PATTERN_COPY, "", "a", NO},
    {PATTERN_COPY, "abc", "abc", YES},
    {PATTERN_COPY, "abc", "abcd", NO},
    {PATTERN_COPY, "abc", "ab", NO},
    {PATTERN_COPY, "*", "", YES},
    {PATTERN_COPY, "*", "abc", YES},
    {PATTERN_COPY, "*", "a/b", NO},
    {PATTERN_COPY, "*c", "abc", YES},
    {PATTERN_COPY, "a*", "a", YES},
    {PATTERN_COPY, "a*/b", "abc/b", YES},
    {PATTERN_COPY, "a*/b", "a/c/b", NO},
    {PATTERN_COPY, "a*b*c*d*e*/f", "axbxcxdxe/f", YES},
    {PATTERN_COPY, "a*b*c*d*e*/f", "axbxcxdxexxx/f", YES},
    {PATTERN_COPY, "a*b*c*d*e*/f", "axbxcxdxe/xxx/f", NO},
    {PATTERN_COPY, "a*b*c*d*e*/f", "axbxcxdxexxx/fff", NO},
    {PATTERN_COPY, "a*b?c*x", "abxbbxdbxebxczzx", YES},
    {PATTERN_COPY, "a*b?c*x", "abxbbxdbxebxczzy", NO},
    {PATTERN_COPY, "ab[c]", "abc", YES},
    {PATTERN_COPY, "ab[b-d]", "abc", YES},
    {PATTERN_COPY, "ab[e-g]", "abc", NO},
    {PATTERN_COPY, "ab[^c]", "abc", NO},
    {PATTERN_COPY, "ab[^b-d]", "abc", NO},
    {PATTERN_COPY, "ab[^e-g]", "abc", YES},
    {PATTERN_COPY, "a\\*b", "a*b", YES},
    {PATTERN_COPY, "a\\*b", "ab", NO},
    {PATTERN_COPY, "a?b",
     "a\xc3\xa9"
     "b",
     YES},
    {PATTERN_COPY, "a??b",
     "a\xc3\xa9"
     "b",
     NO},
    {PATTERN_COPY, "a??b",
     "a\xc3\x28"
     "b",
     YES}, /* not UTF-8: two characters */
    {PATTERN_COPY, "a[\xce\xb1-\xcf\x89]b",
     "a\xce\xb2"
     "b",
     YES},
    {PATTERN_COPY, "a?b", "a/b", NO},
    {PATTERN_COPY, "[\\]a]", "]", YES},
    {PATTERN_COPY, "[\\-x]", "-", YES},
    {PATTERN_COPY, "[x\\-]", "z", NO},
    {PATTERN_COPY, "arr[[]0].txt", "arr[0].txt", YES},
    {PATTERN_COPY, "[]a]", "]", BAD},
    {PATTERN_COPY, "[-]", "-", BAD},
    {PATTERN_COPY, "[x-]", "x", BAD},
    {PATTERN_COPY, "[-x]", "x", BAD},
    {PATTERN_COPY, "[", "a", BAD},
    {PATTERN_COPY, "[^", "a", BAD},
    {PATTERN_COPY, "[^bc", "a", BAD},
    {PATTERN_COPY, "a[", "ab", BAD},
    {PATTERN_COPY, "a\\", "a", BAD},
    {PATTERN_COPY, "]", "]", YES},
    {PATTERN_COPY, "**", "a/b", NO}, /* two single stars here */
    {PATTERN_COPY, "**", "ab", YES},

    {PATTERN_IGNORE, "**", "a", YES},
    {PATTERN_IGNORE, "**", "a/b/c", YES},
    {PATTERN_IGNORE, "**/file", "file", YES},
    {PATTERN_IGNORE, "**/file", "a/b/file", YES},
    {PATTERN_IGNORE, "**/file", "a/bfile", NO},
    {PATTERN_IGNORE, "**file", "a/bfile", YES},
    {PATTERN_IGNORE, "**/*.txt", "x.txt", YES},
    {PATTERN_IGNORE, "**/*.txt", "a/b/x.txt", YES},
    {PATTERN_IGNORE, "a/**", "a", NO},
    {PATTERN_IGNORE, "a/**", "a/b/c", YES},
    {PATTERN_IGNORE, "a/**/b", "a/b", YES},
    {PATTERN_IGNORE, "a/**/b", "a/x/y/b", YES},
    {PATTERN_IGNORE, "a/**/b", "a/x/yb", NO},
    {PATTERN_IGNORE, "a/**/b/**/c", "a/b/x/b/c", YES},
    {PATTERN_IGNORE, "*b**/c", "xbbc", YES},
    {PATTERN_IGNORE, "a.c", "abc", NO},
    {PATTERN_IGNORE, "a(b)+", "a(b)+", YES},
    {PATTERN_IGNORE, "*", "a/b", NO},
    {PATTERN_IGNORE, "a/*/c", "a/b/c", YES},
    {PATTERN_IGNORE, "a/*/c", "a/b/b/c", NO},
};

static void test_patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        struct pattern *p = NULL;
        const char *s = patterns[i].pattern;
        int r = pattern_compile(s, strlen(s), patterns[i].dialect, &p, NULL);
        const char *t = patterns[i].text;
        enum verdict got = r < 0 ? BAD : pattern_match(p, t, strlen(t), NULL) ? YES : NO;
        if (got != patterns[i].want)
            fail_msg("'%s' and '%s': %d", s, patterns[i].text, got);
        pattern_free(p);
    }
}

/* The classic trap for backtracking matchers costs tokens times characters here. */
static void test_cost(void **state)
{
    (void)state;
    char text[4001], pattern[PATTERN_MAX + 2];
    memset(text, 'a', 4000);
    text[4000] = '\0';
    for (size_t i = 0; i < PATTERN_MAX; i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[PATTERN_MAX - 1] = 'b';
    struct pattern *p = NULL;
    uint64_t work = 0;
    assert_int_equal(pattern_compile(pattern, PATTERN_MAX, PATTERN_COPY, &p, NULL), 0);
    assert_false(pattern_match(p, text, 4000, &work));
    assert_true(work <= (uint64_t)4001 * (PATTERN_MAX + 1));
    pattern_free(p);
    assert_int_equal(pattern_compile(pattern, PATTERN_MAX + 1, PATTERN_COPY, &p, NULL), -EMSGSIZE);
}

static const struct {
    const char *rules, *path;
    bool excluded;
} rules[] = {
    {"", "a", false},
    {"a", "a", true},
    {"a", "a/b/c", true},
    {"a", "b/a", false},
    {"/a", "a", true},
    {"a/", "a/x", true},
    {"  a  ", "a", true},
    {"#a\na", "a", true},
    {"#a", "#a", false},
    {" #a", "#a", true}, /* a comment only in the first column */
    {"\\#a", "#a", true},
    {"a\r\nb\r\n", "b", true},
    {"\xef\xbb\xbf"
     "a",
     "a", true},
    {"./a/../b", "b", true},
    {"*", "a/b", true},
    {"*/*", "a", false},
    {"*/*", "a/b", true},
    {"*.md\n!README.md", "README.md", false},
    {"*.md\n!README.md", "x.md", true},
    {"!README.md\n*.md", "README.md", true},
    {"*\n!src", "src/a", false},
    {"*\n!src\nsrc/a", "src/a", true},
    {"*\n! src", "src/a", false},
    {"node_modules\n!node_modules/keep", "node_modules/keep/x", false},
    {"node_modules\n!node_modules/keep", "node_modules/drop/x", true},
    {"**/*.go", "a/b.go", true},
    {"**/*.go\n!main.go", "main.go", false},
    {".", "a", false},
    {"/", "a", false},
    {"../a", "a", false},
    {"temp?", "tempa", true},
    {"temp?", "temp", false},
    {"a\\*", "a*", true},
    {"a\\*", "ab", false},
    {"!a", "a", false},
    {"*/temp*", "x/temporary/f", true},
    {"**", "a/b", true},
    {"**\n!a/b", "a/b", false},
};

static void test_ignore(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        struct ignore *g = NULL;
        struct err e = {0};
        uint64_t work = 0;
        if (ignore_parse(rules[i].rules, strlen(rules[i].rules), &g, &e) < 0)
            fail_msg("%s: %s", rules[i].rules, e.text);
        if (ignore_match(g, rules[i].path, &work) != rules[i].excluded)
            fail_msg("%s / %s", rules[i].rules, rules[i].path);
        /* Walking down the tree must come to the same verdict. */
        uint64_t sets[2] = {0};
        char path[64];
        bool excluded = false, top = true;
        for (size_t n = 1; n <= strlen(rules[i].path); n++) {
            if (rules[i].path[n] != '/' && rules[i].path[n] != '\0')
                continue;
            snprintf(path, sizeof path, "%.*s", (int)n, rules[i].path);
            sets[1] = sets[0];
            assert_int_equal(ignore_set_words(g), 1);
            excluded = ignore_match_below(g, path, top ? NULL : &sets[1], &sets[0], &work);
            top = false;
        }
        assert_int_equal(excluded, rules[i].excluded);
        ignore_free(g);
    }
}

static void test_ignore_errors(void **state)
{
    (void)state;
    static const struct {
        const char *rules, *error;
    } bad[] = {
        {"a\n!\n", ".dockerignore:2: '!' needs a pattern after it"},
        {"a\n\n[x", ".dockerignore:3: malformed [class] in the pattern"},
        {"a\\", ".dockerignore:1: the pattern ends in an escape"},
    };
    struct ignore *g = NULL;
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(ignore_parse(bad[i].rules, strlen(bad[i].rules), &g, &e), -EINVAL);
        assert_string_equal(e.text, bad[i].error);
    }
    assert_int_equal(ignore_parse("a\0b", 3, &g, &e), -EINVAL);
    char *big = malloc(IGNORE_MAX_BYTES + 1);
    memset(big, '\n', IGNORE_MAX_BYTES + 1);
    assert_int_equal(ignore_parse(big, IGNORE_MAX_BYTES + 1, &g, &e), -EMSGSIZE);
    for (size_t i = 0; i < 2 * (IGNORE_MAX_RULES + 1); i += 2)
        big[i] = 'a';
    assert_int_equal(ignore_parse(big, IGNORE_MAX_BYTES, &g, &e), -EMSGSIZE);
    assert_string_equal(e.text, ".dockerignore:2001: more than 2000 rules");
    free(big);
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *path, *want;
    } table[] = {
        {NULL, "", "."},
        {NULL, "a", "a"},
        {NULL, "a/", "a"},
        {NULL, "a//b/./c", "a/b/c"},
        {NULL, "a/..", "."},
        {NULL, "a/../..", ".."},
        {NULL, "../../a", "../../a"},
        {NULL, "/..", "/"},
        {NULL, "/../a/", "/a"},
        {NULL, "///", "/"},
        {NULL, "/a/b/../../..", "/"},
        {NULL, "./a", "a"},
        {NULL, "..a/...", "..a/..."},
        {"/w", "a", "/w/a"},
        {"/w", "/a", "/a"},
        {"/w/x", "../y/", "/w/y"},
        {"/", "a", "/a"},
        {"/w", ".", "/w"},
        {"/", "../../a", "/a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char out[PATHS_MAX + 1];
        int r = table[i].dir ? paths_resolve(table[i].dir, table[i].path, out)
                             : paths_clean(table[i].path, strlen(table[i].path), out);
        assert_int_equal(r, 0);
        assert_string_equal(out, table[i].want);
    }
    char big[PATHS_MAX + 3], out[PATHS_MAX + 1];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(paths_clean(big, PATHS_MAX, out), 0);
    assert_int_equal(paths_clean(big, PATHS_MAX + 1, out), -ENAMETOOLONG);
    assert_int_equal(paths_resolve("/", big, out), -ENAMETOOLONG);
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t want;
        size_t used;
    } table[] = {
        {"a", 'a', 1},
        {"\xc3\xa9", 0xe9, 2},
        {"\xe2\x82\xac", 0x20ac, 3},
        {"\xf0\x9f\x98\x80", 0x1f600, 4},
        {"\xc0\x80", UTF8_INVALID + 0xc0, 1},         /* overlong */
        {"\xed\xa0\x80", UTF8_INVALID + 0xed, 1},     /* surrogate */
        {"\xf4\x90\x80\x80", UTF8_INVALID + 0xf4, 1}, /* past the end */
        {"\xe2\x82", UTF8_INVALID + 0xe2, 1},         /* cut */
        {"\x80", UTF8_INVALID + 0x80, 1},
        {"\xff", UTF8_INVALID + 0xff, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct slice s = slice_from(table[i].text);
        size_t n = s.n;
        assert_int_equal(utf8_next(&s), table[i].want);
        assert_int_equal(n - s.n, table[i].used);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_cost),
        cmocka_unit_test(test_ignore),   cmocka_unit_test(test_ignore_errors),
        cmocka_unit_test(test_paths),    cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
