/* SPDX-License-Identifier: Apache-2.0 */
/* A key changes exactly when something changes that the step's result can depend on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/config.h"
#include "support.h"

static int resolve_other(void *arg, const char *ref, struct plan_base *ret, struct err *e)
{
    int r = support_resolve(arg, ref, ret, e);
    snprintf(ret->id, sizeof ret->id, "%s", (const char *)arg);
    return r;
}

struct world {
    const char *dockerfile, *context, *ignore, *base_id;
    struct plan_arg args[2];
    size_t n_args;
};

static void key_of(const struct world *w, char out[SHA256_HEX_LEN + 1])
{
    struct support_plan s;
    struct plan_options o = {.args = w->args, .n_args = w->n_args};
    if (w->base_id) {
        o.resolve = resolve_other;
        o.resolve_arg = (void *)w->base_id;
    }
    support_plan(&s, w->dockerfile, w->context, w->ignore, &o);
    if (s.r < 0)
        fail_msg("%s", s.e.text);
    memcpy(out, plan_stage_key(plan_target(s.p)), SHA256_HEX_LEN + 1);
    support_plan_done(&s);
}

#define F "FROM debian:12\n"
#define CONTEXT "file 0644 a.txt one\nfile 0644 b.txt two\nfile 0644 d/x three\nlink l d\n"

static const struct {
    const char *what;
    struct world a, b;
    bool same;
} table[] = {
    {"nothing",
     {.dockerfile = F "RUN x\n", .context = CONTEXT},
     {.dockerfile = F "RUN x\n", .context = CONTEXT},
     true},
    {"comments and lines",
     {.dockerfile = F "RUN x\n", .context = CONTEXT},
     {.dockerfile = "# c\n" F "\n\n#d\nRUN x\n", .context = CONTEXT},
     true},
    {"stage name",
     {.dockerfile = F "RUN x\n"},
     {.dockerfile = "FROM debian:12 AS y\nRUN x\n"},
     true},
    {"metadata",
     {.dockerfile = F "RUN x\n"},
     {.dockerfile = F "LABEL a=b\nEXPOSE 1\nCMD z\nRUN x\nSTOPSIGNAL 9\n"},
     true},
    {"command", {.dockerfile = F "RUN x\n"}, {.dockerfile = F "RUN y\n"}, false},
    {"form", {.dockerfile = F "RUN x\n"}, {.dockerfile = F "RUN [\"x\"]\n"}, false},
    {"shell",
     {.dockerfile = F "RUN x\n"},
     {.dockerfile = F "SHELL [\"/bin/bash\", \"-c\"]\nRUN x\n"},
     false},
    {"user", {.dockerfile = F "RUN x\n"}, {.dockerfile = F "USER www\nRUN x\n"}, false},
    {"workdir", {.dockerfile = F "RUN x\n"}, {.dockerfile = F "WORKDIR /w\nRUN x\n"}, false},
    {"env", {.dockerfile = F "RUN x\n"}, {.dockerfile = F "ENV A=1\nRUN x\n"}, false},
    {"env value",
     {.dockerfile = F "ENV A=2\nRUN x\n"},
     {.dockerfile = F "ENV A=1\nRUN x\n"},
     false},
    {"env after", {.dockerfile = F "RUN x\n"}, {.dockerfile = F "RUN x\nENV A=1\n"}, true},
    {"earlier step", {.dockerfile = F "RUN x\nRUN y\n"}, {.dockerfile = F "RUN z\nRUN y\n"}, false},
    {"order", {.dockerfile = F "RUN x\nRUN y\n"}, {.dockerfile = F "RUN y\nRUN x\n"}, false},
    {"base",
     {.dockerfile = F "RUN x\n", .base_id = "one"},
     {.dockerfile = F "RUN x\n", .base_id = "two"},
     false},
    {"base, no steps",
     {.dockerfile = F, .base_id = "one"},
     {.dockerfile = F, .base_id = "two"},
     false},
    {"declared argument",
     {.dockerfile = F "ARG A\nRUN x\n", .args = {{"A", "1"}}, .n_args = 1},
     {.dockerfile = F "ARG A\nRUN x\n", .args = {{"A", "2"}}, .n_args = 1},
     false},
    {"argument declared later",
     {.dockerfile = F "RUN x\nARG A\n", .args = {{"A", "1"}}, .n_args = 1},
     {.dockerfile = F "RUN x\nARG A\n", .args = {{"A", "2"}}, .n_args = 1},
     true},
    {"undeclared argument",
     {.dockerfile = F "RUN x\n", .args = {{"A", "1"}}, .n_args = 1},
     {.dockerfile = F "RUN x\n", .args = {{"A", "2"}}, .n_args = 1},
     true},
    {"proxy",
     {.dockerfile = F "RUN x\n"},
     {.dockerfile = F "RUN x\n", .args = {{"HTTPS_PROXY", "h"}}, .n_args = 1},
     true},
    {"declared proxy",
     {.dockerfile = F "ARG HTTPS_PROXY\nRUN x\n"},
     {.dockerfile = F "ARG HTTPS_PROXY\nRUN x\n", .args = {{"HTTPS_PROXY", "h"}}, .n_args = 1},
     false},
    {"ENV after ARG wins",
     {.dockerfile = F "ARG A\nENV A=0\nRUN x\n", .args = {{"A", "1"}}, .n_args = 1},
     {.dockerfile = F "ARG A\nENV A=0\nRUN x\n", .args = {{"A", "2"}}, .n_args = 1},
     true},
    {"heredoc body",
     {.dockerfile = F "RUN <<E\na\nE\n"},
     {.dockerfile = F "RUN <<E\nb\nE\n"},
     false},
    {"heredoc name",
     {.dockerfile = F "RUN <<E\na\nE\n"},
     {.dockerfile = F "RUN <<G\na\nG\n"},
     true},
    {"script",
     {.dockerfile = F "RUN <<E\n#!/bin/x\na\nE\n"},
     {.dockerfile = F "RUN <<E\n#!/bin/x\nb\nE\n"},
     false},
    {"copied content",
     {.dockerfile = F "COPY a.txt /\n", .context = CONTEXT},
     {.dockerfile = F "COPY a.txt /\n", .context = "file 0644 a.txt other\n"},
     false},
    {"copied mode",
     {.dockerfile = F "COPY a.txt /\n", .context = CONTEXT},
     {.dockerfile = F "COPY a.txt /\n", .context = "file 0755 a.txt one\n"},
     false},
    {"other files",
     {.dockerfile = F "COPY a.txt /\n", .context = CONTEXT},
     {.dockerfile = F "COPY a.txt /\n", .context = "file 0644 a.txt one\n"},
     true},
    {"source name",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY b.txt /f\n", .context = CONTEXT},
     false},
    {"destination",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY a.txt /g\n", .context = CONTEXT},
     false},
    {"destination as directory",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY a.txt /f/\n", .context = CONTEXT},
     false},
    {"same place written otherwise",
     {.dockerfile = F "WORKDIR /w\nCOPY a.txt f\n", .context = CONTEXT},
     {.dockerfile = F "WORKDIR /w\nCOPY ./a.txt /w/./f\n", .context = CONTEXT},
     true},
    {"chown",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY --chown=1 a.txt /f\n", .context = CONTEXT},
     false},
    {"chmod",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY --chmod=755 a.txt /f\n", .context = CONTEXT},
     false},
    {"chmod spelling",
     {.dockerfile = F "COPY --chmod=0755 a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY --chmod=755 a.txt /f\n", .context = CONTEXT},
     true},
    {"link hint",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "COPY --link a.txt /f\n", .context = CONTEXT},
     true},
    {"ADD of a plain file",
     {.dockerfile = F "COPY a.txt /f\n", .context = CONTEXT},
     {.dockerfile = F "ADD a.txt /f\n", .context = CONTEXT},
     false}, /* only the guest sees that it is no archive */
    {"ADD of an archive",
     {.dockerfile = F "COPY a.tar /f/\n", .context = "file 0644 a.tar x\n"},
     {.dockerfile = F "ADD a.tar /f/\n", .context = "file 0644 a.tar x\n"},
     false},
    {"new file in the context",
     {.dockerfile = F "COPY . /\n", .context = CONTEXT},
     {.dockerfile = F "COPY . /\n", .context = CONTEXT "file 0644 new x\n"},
     false},
    {"new ignored file",
     {.dockerfile = F "COPY . /\n", .context = CONTEXT},
     {.dockerfile = F "COPY . /\n", .context = CONTEXT "file 0644 new x\n", .ignore = "new\n"},
     true},
    {"link target",
     {.dockerfile = F "COPY . /\n", .context = "link l a\n"},
     {.dockerfile = F "COPY . /\n", .context = "link l b\n"},
     false},
    {"directory mode",
     {.dockerfile = F "COPY . /\n", .context = "dir 0755 d\n"},
     {.dockerfile = F "COPY . /\n", .context = "dir 0700 d\n"},
     false},
    {"source stage",
     {.dockerfile = F "RUN x\n" F "COPY --from=0 /a /b\n"},
     {.dockerfile = F "RUN y\n" F "COPY --from=0 /a /b\n"},
     false},
    {"source stage's metadata",
     {.dockerfile = F "RUN x\n" F "COPY --from=0 /a /b\n"},
     {.dockerfile = F "RUN x\nENV A=1\n" F "COPY --from=0 /a /b\n"},
     true},
    {"unneeded stage",
     {.dockerfile = F "RUN x\n" F "RUN y\n"},
     {.dockerfile = F "RUN z\n" F "RUN y\n"},
     true},
    {"FROM a stage or not",
     {.dockerfile = F "RUN x\nRUN y\n"},
     {.dockerfile = "FROM debian:12 AS a\nRUN x\nFROM a\nRUN y\n"},
     true},
    {"name kept by a directory",
     {.dockerfile = F "COPY x /d\n", .context = "file 0644 x same\n"},
     {.dockerfile = F "COPY y /d\n", .context = "file 0644 y same\n"},
     false},
    {"name given up",
     {.dockerfile = F "COPY a.txt /d/f\n", .context = "file 0644 a.txt same\n"},
     {.dockerfile = F "WORKDIR /\nCOPY a.txt d/f\n", .context = "file 0644 a.txt same\n"},
     true},
    {"overwritten source",
     {.dockerfile = F "COPY a/x b/x /d/\n", .context = "file 0644 a/x 1\nfile 0644 b/x 2\n"},
     {.dockerfile = F "COPY b/x /d/\n", .context = "file 0644 b/x 2\n"},
     true},
    {"order of sources",
     {.dockerfile = F "COPY a/x b/x /d/\n", .context = "file 0644 a/x 1\nfile 0644 b/x 2\n"},
     {.dockerfile = F "COPY b/x a/x /d/\n", .context = "file 0644 a/x 1\nfile 0644 b/x 2\n"},
     false},
    {"names and values do not run together",
     {.dockerfile = F "ENV A=1 B=2\nRUN x\n"},
     {.dockerfile = F "ENV A=\"1 B=2\"\nRUN x\n"},
     false},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char a[SHA256_HEX_LEN + 1], b[SHA256_HEX_LEN + 1];
        key_of(&table[i].a, a);
        key_of(&table[i].b, b);
        if ((strcmp(a, b) == 0) != table[i].same)
            fail_msg("%s: %s", table[i].what, table[i].same ? "the keys differ" : "the same key");
    }
}

/* The order in which the guest reports entries says nothing. */
static void test_record_order(void **state)
{
    (void)state;
    const struct world x = {.dockerfile = F "COPY . /\n",
                            .context = "file 0644 a 1\nfile 0644 b 2\ndir 0755 c\n"};
    const struct world y = {.dockerfile = F "COPY . /\n",
                            .context = "dir 0755 c\nfile 0644 b 2\nfile 0644 a 1\n"};
    char a[SHA256_HEX_LEN + 1], b[SHA256_HEX_LEN + 1];
    key_of(&x, a);
    key_of(&y, b);
    assert_string_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_record_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
