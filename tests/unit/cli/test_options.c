/* SPDX-License-Identifier: Apache-2.0 */
/* The option parser, and the tables of verbs and options that it walks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cli/cli.h"

struct mine {
    bool flag;
    const char *text;
    long number;
    struct option_list list;
};
struct common {
    bool help;
};

static const struct option_row mine_rows[] = {
    {"flag", 'f', OPTION_FLAG, offsetof(struct mine, flag), 0, 0, NULL, "h"},
    {"text", 't', OPTION_TEXT, offsetof(struct mine, text), 0, 0, "T", "h"},
    {"number", 'n', OPTION_NUMBER, offsetof(struct mine, number), 1, 100, "N", "h"},
    {"list", 'l', OPTION_LIST, offsetof(struct mine, list), 0, 0, "L", "h"},
    {0},
};
static const struct option_row common_rows[] = {
    {"help", 'h', OPTION_FLAG, offsetof(struct common, help), 0, 0, NULL, "h"},
    {0},
};

struct parsed {
    struct mine m;
    struct common c;
    struct operands args;
    struct err e;
};

/* Splits at blanks and parses; words live as long as the static copy. */
static int parse(const char *line, size_t stop_after, struct parsed *p)
{
    static char copy[4096];
    const char *argv[200];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    memset(p, 0, sizeof *p);
    const struct option_set sets[2] = {{mine_rows, &p->m}, {common_rows, &p->c}};
    return options_parse(sets, stop_after, argc, argv, &p->args, &p->e);
}

static void every_kind(void **state)
{
    (void)state;
    struct parsed p;
    assert_int_equal(parse("a --text x -f b --number=7 -l one --list two -lthree", 0, &p), 0);
    assert_true(p.m.flag);
    assert_string_equal(p.m.text, "x");
    assert_int_equal(p.m.number, 7);
    assert_int_equal(p.m.list.n, 3);
    assert_string_equal(p.m.list.items[2], "three");
    assert_int_equal(p.args.n, 2);
    assert_string_equal(p.args.items[1], "b");
    assert_false(p.c.help);
    assert_int_equal(parse("--help --text= -", 0, &p), 0);
    assert_true(p.c.help);
    assert_string_equal(p.m.text, "");
    assert_string_equal(p.args.items[0], "-");
}

static void ends_of_options(void **state)
{
    (void)state;
    struct parsed p;
    assert_int_equal(parse("-- -f --unknown", 0, &p), 0);
    assert_false(p.m.flag);
    assert_int_equal(p.args.n, 2);
    /* after the second operand everything belongs to the command */
    assert_int_equal(parse("id -f ls -la --text -n", 2, &p), 0);
    assert_true(p.m.flag);
    assert_int_equal(p.args.n, 5);
    assert_string_equal(p.args.items[2], "-la");
    assert_int_equal(parse("id -- ls -f", 2, &p), 0);
    assert_int_equal(p.args.n, 3);
    assert_string_equal(p.args.items[1], "ls");
    assert_string_equal(p.args.items[2], "-f");
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text;
    } rows[] = {
        {"--nope", "unknown option '--nope'"},
        {"-x", "unknown option '-x'"},
        {"--fla", "unknown option '--fla'"},
        {"--text", "--text needs a value: --text T"},
        {"-t", "--text needs a value"},
        {"--flag=1", "--flag takes no value"},
        {"--number 0", "from 1 to 100"},
        {"--number 101", "from 1 to 100"},
        {"--number 5x", "'5x' is not a number"},
        {"--number=", "'' is not a number"},
        {"--number 99999999999999999999", "not a number"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct parsed p;
        assert_int_equal(parse(rows[i].line, 0, &p), -EINVAL);
        if (!strstr(p.e.text, rows[i].text))
            fail_msg("%s: %s", rows[i].line, p.e.text);
    }
    char many[2000] = "";
    for (int i = 0; i <= OPTION_LIST_MAX; i++)
        strcat(many, "-l x ");
    struct parsed p;
    assert_int_equal(parse(many, 0, &p), -EINVAL);
}

static size_t member_size(enum option_kind k)
{
    switch (k) {
    case OPTION_FLAG:
        return sizeof(bool);
    case OPTION_TEXT:
        return sizeof(const char *);
    case OPTION_NUMBER:
        return sizeof(long);
    case OPTION_LIST:
        return sizeof(struct option_list);
    }
    return 0;
}

static void check_row(const struct verb *v, const struct option_row *r)
{
    if (r->offset + member_size(r->kind) > v->size)
        fail_msg("%s --%s lies outside its structure", v->name, r->name);
    if ((r->kind == OPTION_FLAG) != (r->metavar == NULL))
        fail_msg("%s --%s: a value has a name, a flag has none", v->name, r->name);
    if (r->kind == OPTION_NUMBER && r->min >= r->max)
        fail_msg("%s --%s has no range", v->name, r->name);
    assert_true(strlen(r->help) > 5 && !isupper((unsigned char)r->help[0]));
    for (const struct option_row *o = cli_common_options; o->name; o++) {
        assert_string_not_equal(o->name, r->name);
        assert_true(!r->letter || o->letter != r->letter);
    }
    for (const struct option_row *o = v->options; o != r; o++) {
        assert_string_not_equal(o->name, r->name);
        assert_true(!r->letter || o->letter != r->letter);
    }
}

static void every_verb(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_n_verbs; i++) {
        const struct verb *v = cli_verbs[i];
        assert_non_null(v->run);
        assert_true(strlen(v->name) > 0 && strlen(v->name) < 10);
        assert_true(strlen(v->help) > 5 && strlen(v->help) < 80);
        assert_non_null(v->usage);
        assert_true(v->min <= v->max);
        assert_true(v->max <= OPERANDS_MAX);
        for (const struct option_row *r = v->options; r && r->name; r++)
            check_row(v, r);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(cli_verbs[j]->name, v->name);
    }
}

/* docs/cli.md names every verb and option, and no verb's section lacks one of its options. */
static void documented(void **state)
{
    (void)state;
    struct err e;
    struct buf doc = BUF_INIT(1 << 20);
    assert_int_equal(fs_read_file(CLI_DOC, &doc, &e), 0);
    for (size_t i = 0; i < cli_n_verbs; i++) {
        const struct verb *v = cli_verbs[i];
        char text[64];
        snprintf(text, sizeof text, "### %s", v->name);
        const char *at = strstr(doc.data, text);
        if (!at && strcmp(v->name, "resume") == 0)
            at = strstr(doc.data, "### suspend"); /* one section for both */
        if (!at)
            fail_msg("docs/cli.md has no section '%s'", text);
        const char *next = strstr(at + 4, "\n## ");
        const char *section = strstr(at + 4, "\n### ");
        next = section && (!next || section < next) ? section : next;
        for (const struct option_row *r = v->options; r && r->name; r++) {
            snprintf(text, sizeof text, "--%s", r->name);
            const char *found = strstr(at, text);
            if (!found || (next && found > next))
                fail_msg("docs/cli.md: %s %s is missing", v->name, text);
        }
    }
    buf_done(&doc);
}

static int quiet_main(int argc, const char *const *argv)
{
    fflush(NULL);
    FILE *out = stdout, *err = stderr;
    stdout = fopen("/dev/null", "w");
    stderr = fopen("/dev/null", "w");
    int code = cli_main(argc, argv);
    fclose(stdout);
    fclose(stderr);
    stdout = out;
    stderr = err;
    return code;
}

#define MAIN(...)                                                            \
    quiet_main((int)ARRAY_LEN(((const char *[]){"tinderbox", __VA_ARGS__})), \
               (const char *[]){"tinderbox", __VA_ARGS__})

static void exit_codes(void **state)
{
    (void)state;
    setenv("TINDERBOX_HOME", "/nonexistent/tinderbox", 1);
    assert_int_equal(MAIN("--help"), EXIT_OK);
    assert_int_equal(MAIN("--version"), EXIT_OK);
    assert_int_equal(MAIN("--bogus"), EXIT_USAGE);
    assert_int_equal(MAIN("frobnicate"), EXIT_USAGE);
    for (size_t i = 0; i < cli_n_verbs; i++) {
        assert_int_equal(MAIN(cli_verbs[i]->name, "--help"), EXIT_OK);
        assert_int_equal(MAIN(cli_verbs[i]->name, "--bogus"), EXIT_USAGE);
        if (cli_verbs[i]->min)
            assert_int_equal(MAIN(cli_verbs[i]->name), EXIT_USAGE);
    }
    assert_int_equal(MAIN("status", "extra"), EXIT_USAGE);
    assert_int_equal(MAIN("run", "--idle", "59", "x"), EXIT_USAGE);
    /* no service */
    assert_int_equal(MAIN("status"), EXIT_FAIL);
    assert_int_equal(MAIN("ps"), EXIT_FAIL);
    assert_int_equal(MAIN("rm", "x"), EXIT_FAIL);
    assert_int_equal(MAIN("down"), EXIT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind), cmocka_unit_test(ends_of_options),
        cmocka_unit_test(refusals),   cmocka_unit_test(every_verb),
        cmocka_unit_test(documented), cmocka_unit_test(exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
