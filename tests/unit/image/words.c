/* SPDX-License-Identifier: Apache-2.0 */
/* How lines become words (dockerfile.h), and expand.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/dockerfile.h"
#include "image/expand.h"

static struct dockerfile *parse(const char *text)
{
    struct dockerfile *d = NULL;
    struct err e = {0};
    if (dockerfile_parse(text, strlen(text), &d, &e) < 0)
        fail_msg("%s: %s", text, e.text);
    return d;
}

/* args joined by '|', pairs as name=value; the second instruction's when there are two. */
static void describe(const struct dockerfile_instruction *in, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < in->args.n; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? "|" : "", in->args.v[i]);
    for (size_t i = 0; i < in->n_pairs; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s=%s", n ? "|" : "", in->pairs[i].name,
                              in->pairs[i].value ? in->pairs[i].value : "(none)");
}

static const struct {
    const char *text;
    unsigned line;
    bool exec;
    const char *words;
} lines[] = {
    {"FROM x\nRUN a  b", 2, false, "a  b"},
    {"FROM x\n\n  run\ta \\\n  b\n", 3, false, "a   b"},
    {"FROM x\nRUN a \\  \n b", 2, false, "a  b"},
    {"FROM x\nRUN a \\\\\nRUN b", 2, false, "a \\\\"},
    {"FROM x\nRUN a \\\n\n# comment\n  # indented\n  b", 2, false, "a   b"},
    {"FROM x\nRUN a # no comment", 2, false, "a # no comment"},
    {"FROM x\nRUN a \\", 2, false, "a"},
    {"FROM x\r\nRUN a \\\r\n b\r\n", 2, false, "a  b"},
    {"\xef\xbb\xbf"
     "FROM x\nRUN a",
     2, false, "a"},
    {"# escape=`\nFROM x\nRUN a `\n b\\", 3, false, "a  b\\"},
    {"#ESCAPE = `\nFROM x\nRUN a `\n b", 3, false, "a  b"},
    {"# a comment first\n# escape=`\nFROM x\nRUN a \\\n b", 4, false, "a  b"},
    {"\n# escape=`\nFROM x\nRUN a \\\n b", 4, false, "a  b"},
    {"# unknown=1\n# escape=`\nFROM x\nRUN a \\\n b", 4, false, "a  b"},
    {"# syntax=x\n# escape=`\nFROM x\nRUN a `\n b", 4, false, "a  b"},
    {"FROM x\nRUN [\"a\", \"b c\", \"\\u0041\"]", 2, true, "a|b c|A"},
    {"FROM x\nRUN [\"a\",", 2, false, "[\"a\","},
    {"FROM x\nRUN ['a']", 2, false, "['a']"},
    {"FROM x\nRUN [ -f y ] && z", 2, false, "[ -f y ] && z"},
    {"FROM x\nRUN [\"a\\u0000\"]", 2, false, "[\"a\\u0000\"]"},
    {"FROM x\nCMD []", 2, true, ""},
    {"FROM x\nCOPY a b\tc/", 2, false, "a|b|c/"},
    {"FROM x\nCOPY --chown=a -- --b c", 2, false, "--b|c"},
    {"FROM x\nCOPY [\"a b\", \"c\"]", 2, true, "a b|c"},
    {"FROM x\nENV a=1 b=\"x y\" c='p q' d=e\\ f", 2, false, "a=1|b=\"x y\"|c='p q'|d=e\\ f"},
    {"FROM x\nENV a  b c = d ", 2, false, "a=b c = d"},
    {"FROM x\nENV a= b=", 2, false, "a=|b="},
    {"FROM x\nENV a=b=c", 2, false, "a=b=c"},
    {"FROM x\nENV a=\"x\\\"y z\" b=1", 2, false, "a=\"x\\\"y z\"|b=1"},
    {"FROM x\nENV a='x\\' b=1", 2, false, "a='x\\'|b=1"},
    {"FROM x\nENV a=1 \\\n    b=2 \\\n    # c=3\n    d=4", 2, false, "a=1|b=2|d=4"},
    {"FROM x\nARG a b=1 c=", 2, false, "a=(none)|b=1|c="},
    {"FROM x\nLABEL \"a b\"=\"c\"", 2, false, "\"a b\"=\"c\""},
    {"FROM x\nWORKDIR /a b/c  ", 2, false, "/a b/c"},
    {"FROM x\nEXPOSE 80  443/tcp", 2, false, "80|443/tcp"},
    {"FROM x\nRUN echo <<EOF\nFROM y\nEOF", 2, false, "echo <<EOF"},
    {"FROM x\nRUN echo '<<EOF'\n", 2, false, "echo '<<EOF'"},
    {"FROM x\nRUN echo $((1<<2))\n", 2, false, "echo $((1<<2))"},
    {"FROM x\nRUN cat <<<word\n", 2, false, "cat <<<word"},
    {"FROM x\nCMD cat <<EOF\n", 2, false, "cat <<EOF"},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct dockerfile *d = parse(lines[i].text);
        char words[512];
        assert_int_equal(d->n >= 2, 1);
        describe(&d->v[1], words, sizeof words);
        if (d->v[1].line != lines[i].line || d->v[1].exec != lines[i].exec ||
            strcmp(words, lines[i].words) != 0)
            fail_msg("%s: line %u, %s", lines[i].text, d->v[1].line, words);
        dockerfile_free(d);
    }
}

static void test_swallowed(void **state)
{
    (void)state;
    /* A continuation reaches over comments and blank lines to whatever comes next. */
    struct dockerfile *d = parse("FROM x\nRUN a \\\n# c\n\n  b \\\n\nNOPE\nUSER y\n");
    assert_int_equal(d->n, 3);
    assert_string_equal(d->v[1].args.v[0], "a   b NOPE");
    assert_int_equal(d->v[2].line, 8);
    dockerfile_free(d);
}

static void test_flags(void **state)
{
    (void)state;
    struct dockerfile *d = parse("FROM --platform=linux/amd64 x as Build\n"
                                 "COPY --from=0 --chown=\"a b\" --chmod=644 --link /x /y\n");
    assert_string_equal(d->v[0].platform, "linux/amd64");
    assert_string_equal(d->v[0].as, "build");
    assert_int_equal(d->v[0].args.n, 1);
    assert_string_equal(d->v[1].from, "0");
    assert_string_equal(d->v[1].chown, "a b");
    assert_string_equal(d->v[1].chmod, "644");
    dockerfile_free(d);
}

static void test_heredocs(void **state)
{
    (void)state;
    struct dockerfile *d = parse("FROM x\r\n"
                                 "RUN 3<<A cat <<-\"B\" \\\n <<'C D'\r\n"
                                 "a\r\n"
                                 " A\r\n"
                                 "A\r\n"
                                 "\tb\r\n"
                                 "\t\tB\n"
                                 "C D\n"
                                 "COPY <<E f <<F /d/\n"
                                 "E\n"
                                 "f $x\n"
                                 "F\n"
                                 "RUN <<G\nG");
    const struct dockerfile_instruction *run = &d->v[1], *copy = &d->v[2], *last = &d->v[3];
    assert_int_equal(d->n, 4);
    assert_int_equal(run->n_heredocs, 3);
    assert_false(run->is_heredoc);
    assert_string_equal(run->heredocs[0].body, "a\n A\n");
    assert_true(run->heredocs[0].expand);
    assert_string_equal(run->heredocs[1].body, "b\n");
    assert_string_equal(run->heredocs[1].raw, "\tb\n");
    assert_false(run->heredocs[1].expand);
    assert_string_equal(run->heredocs[2].name, "C D");
    assert_int_equal(run->heredocs[2].body_n, 0);
    assert_int_equal(copy->n_heredocs, 2);
    assert_ptr_equal(dockerfile_find_heredoc(copy, copy->args.v[0]), &copy->heredocs[0]);
    assert_null(dockerfile_find_heredoc(copy, copy->args.v[1]));
    assert_ptr_equal(dockerfile_find_heredoc(copy, copy->args.v[2]), &copy->heredocs[1]);
    assert_string_equal(copy->heredocs[1].body, "f $x\n");
    assert_true(last->is_heredoc);
    assert_int_equal(last->line, 14);
    dockerfile_free(d);
}

static const char *get(const void *arg, struct slice name)
{
    (void)arg;
    return slice_eq(name, "A")       ? "alpha"
           : slice_eq(name, "EMPTY") ? ""
           : slice_eq(name, "Q")     ? "it's \"q\" $A"
                                     : NULL;
}

static const struct {
    const char *word, *want;
    bool heredoc;
} expansions[] = {
    {"", "", false},
    {"plain", "plain", false},
    {"$A", "alpha", false},
    {"${A}", "alpha", false},
    {"x$A.y", "xalpha.y", false},
    {"$AB", "", false},
    {"$Q", "it's \"q\" $A", false}, /* a value is never expanded again */
    {"$", "$", false},
    {"a$ b", "a$ b", false},
    {"$$", "", false},
    {"$1x", "x", false},
    {"\\$A", "$A", false},
    {"\\\\$A", "\\alpha", false},
    {"a\\", "a", false},
    {"a\\b", "ab", false},
    {"'$A'", "$A", false},
    {"'a\\'b", "a\\b", false},
    {"\"$A\"", "alpha", false},
    {"\"\\$A \\\" \\\\ \\n\"", "$A \" \\ \\n", false},
    {"\"it's $A\"", "it's alpha", false},
    {"a'b'\"c\"d", "abcd", false},
    {"${A:-x}", "alpha", false},
    {"${N:-x}", "x", false},
    {"${N-x}", "x", false},
    {"${EMPTY:-x}", "x", false},
    {"${EMPTY-x}", "", false},
    {"${A:+x}", "x", false},
    {"${N:+x}", "", false},
    {"${EMPTY:+x}", "", false},
    {"${EMPTY+x}", "x", false},
    {"${A:?no}", "alpha", false},
    {"${EMPTY?no}", "", false},
    {"${N:-${M:-$A}}", "alpha", false},
    {"${N:-'}'}", "}", false},
    {"${N:-\\}}", "}", false},
    {"${N:-a b}", "a b", false},
    {"$A 'x' \"y\" \\$A \\n \\\\ \\`", "alpha 'x' \"y\" $A \\n \\ `", true},
    {"\\", "\\", true},
};

static void test_expand(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(expansions); i++) {
        struct expand x = {.get = get, .escape = '\\', .heredoc = expansions[i].heredoc};
        struct buf out = BUF_INIT(1000);
        struct err e = {0};
        if (expand_word(&x, slice_from(expansions[i].word), &out, &e) < 0)
            fail_msg("%s: %s", expansions[i].word, e.text);
        assert_string_equal(out.data ? out.data : "", expansions[i].want);
        buf_done(&out);
    }
    struct expand backtick = {.get = get, .escape = '`'};
    struct buf out = BUF_INIT(10);
    assert_int_equal(expand_word(&backtick, slice_from("`$A\\"), &out, NULL), 0);
    assert_string_equal(out.data, "$A\\");
    assert_int_equal(expand_word(&backtick, slice_from("12345678"), &out, NULL), -EMSGSIZE);
    buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),  cmocka_unit_test(test_swallowed),
        cmocka_unit_test(test_flags),  cmocka_unit_test(test_heredocs),
        cmocka_unit_test(test_expand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
