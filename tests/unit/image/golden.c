/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases in data/<name>.case: sections "=== arg", "=== target", "=== context", "=== dockerignore",
 * "=== Dockerfile", "=== plan". The last is what the plan must be, keys included, or the error
 * text. With UPDATE_GOLDEN=1 the last section is written anew: read the difference before
 * committing it; a changed key without a changed input needs a new PLAN_KEY_VERSION.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "support.h"

static const char *data_dir;

/* The text between "=== <name>\n" and the next "=== " at the start of a line; owned. */
static char *section(const char *all, const char *name)
{
    char head[64];
    snprintf(head, sizeof head, "=== %s\n", name);
    const char *p = strstr(all, head);
    if (!p)
        return NULL;
    p += strlen(head);
    const char *end = strncmp(p, "=== ", 4) == 0 ? p : strstr(p, "\n=== ");
    if (end && end != p)
        end++;
    return strndup(p, end ? (size_t)(end - p) : strlen(p));
}

static void rewrite(const char *path, const char *all, const char *actual)
{
    struct buf b = BUF_INIT(0);
    struct err e = {0};
    const char *plan = strstr(all, "=== plan\n");
    size_t keep = plan ? (size_t)(plan - all) : strlen(all);
    assert_int_equal(buf_add(&b, all, keep), 0);
    assert_int_equal(buf_addf(&b, "=== plan\n%s\n", actual), 0);
    if (fs_write_file(path, b.data, b.len, 0644, &e) < 0)
        fail_msg("%s", e.text);
    buf_done(&b);
}

static size_t read_args(char *text, struct plan_arg *args, size_t max)
{
    size_t n = 0;
    char *rest = text;
    for (char *line; rest && n < max && (line = strsep(&rest, "\n"));) {
        char *eq = strchr(line, '=');
        if (!eq)
            continue;
        *eq = '\0';
        args[n++] = (struct plan_arg){line, eq + 1};
    }
    return n;
}

static void run_case(const char *path)
{
    struct buf file = BUF_INIT(1 << 20);
    struct err e = {0};
    if (fs_read_file(path, &file, &e) < 0)
        fail_msg("%s", e.text);
    char *dockerfile = section(file.data, "Dockerfile"), *context = section(file.data, "context"),
         *ignore = section(file.data, "dockerignore"), *arg = section(file.data, "arg"),
         *target = section(file.data, "target"), *want = section(file.data, "plan");
    struct plan_arg args[16];
    struct plan_options o = {.args = args, .n_args = read_args(arg, args, 16)};
    if (target) {
        target[strcspn(target, "\n")] = '\0';
        o.target = target;
    }
    struct support_plan s;
    assert_non_null(dockerfile);
    support_plan(&s, dockerfile, context, ignore, &o);
    char *actual = s.r < 0 ? strdup(s.e.text) : support_plan_text(s.p);
    if (want && *want && want[strlen(want) - 1] == '\n')
        want[strlen(want) - 1] = '\0';
    if (getenv("UPDATE_GOLDEN"))
        rewrite(path, file.data, actual);
    else if (!want || strcmp(want, actual) != 0)
        fail_msg("%s: the plan is now\n%s", path, actual);
    support_plan_done(&s);
    free(actual);
    char *const all[] = {dockerfile, context, ignore, arg, target, want};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
    buf_done(&file);
}

static int is_case(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return dot && strcmp(dot, ".case") == 0;
}

static void test_cases(void **state)
{
    (void)state;
    struct dirent **names;
    int n = scandir(data_dir, &names, is_case, alphasort);
    assert_true(n > 5);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", data_dir, names[i]->d_name);
        run_case(path);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    data_dir = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
