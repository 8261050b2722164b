/* SPDX-License-Identifier: Apache-2.0 */
/* The commands the planner makes up for here-documents, run by the shell they are made for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/proc.h"
#include "support.h"

static char dir[] = "/tmp/image-scripts-XXXXXX";

/* Plans the Dockerfile and runs its last step as the guest would. */
static int run_last(const char *dockerfile, struct buf *out, struct err *e)
{
    struct support_plan s;
    support_plan(&s, dockerfile, "", NULL, NULL);
    if (s.r < 0)
        fail_msg("%s", s.e.text);
    const struct plan_stage *st = plan_target(s.p);
    const struct plan_step *step = &st->steps[st->n_steps - 1];
    const char *argv[16] = {NULL};
    assert_true(step->kind == PLAN_RUN && step->args.n < 16);
    for (size_t i = 0; i < step->args.n; i++)
        argv[i] = step->args.v[i];
    int r = proc_run(argv, step->input, 30000, out, e);
    support_plan_done(&s);
    return r;
}

static void expect_file(const char *name, const char *want, mode_t mode)
{
    char path[512];
    struct buf b = BUF_INIT(10000);
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_mode & 07777, mode);
    assert_int_equal(fs_read_file(path, &b, NULL), 0);
    assert_string_equal(b.data, want);
    buf_done(&b);
}

static void copy_to(const char *flags, const char *marker, const char *dest)
{
    char text[1024];
    struct err e = {0};
    struct buf out = BUF_INIT(10000);
    snprintf(text, sizeof text,
             "FROM debian:12\nCOPY %s --chown=%u:%u <<%s %s/%s\none\n 'two' \"3\"\nF\n", flags,
             (unsigned)getuid(), (unsigned)getgid(), marker, dir, dest);
    if (run_last(text, &out, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(out.len, 0);
    buf_done(&out);
}

static void test_copy(void **state)
{
    (void)state;
    static const char want[] = "one\n 'two' \"3\"\n";
    char path[512];
    copy_to("", "F", "plain");
    expect_file("plain", want, 0644);
    copy_to("--chmod=4750", "'F'", "new/deep/file");
    expect_file("new/deep/file", want, 04750);
    copy_to("", "F", "new/dir/");
    expect_file("new/dir/F", want, 0644);
    copy_to("--chmod=600", "F", "new/dir"); /* a directory by now */
    expect_file("new/dir/F", want, 0600);
    copy_to("", "F", "with\\'quote");
    expect_file("with'quote", want, 0644);
    /* A link in the way is replaced; what it points to is left alone. */
    snprintf(path, sizeof path, "%s/link", dir);
    assert_int_equal(symlink("plain", path), 0);
    copy_to("--chmod=777", "F", "link");
    expect_file("link", want, 0777);
    expect_file("plain", want, 0644);
}

static void test_script(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf out = BUF_INIT(10000);
    assert_int_equal(run_last("FROM debian:12\nRUN <<E\n#!/usr/bin/awk -f\n"
                              "BEGIN { print \"file\", FILENAME; exit 0 }\nE\n",
                              &out, &e),
                     0);
    assert_string_equal(out.data, "file \n");
    buf_clear(&out);
    assert_int_equal(
        run_last("FROM debian:12\nRUN <<E\n#!/bin/sh\nread x; echo \"[$x] $0\"\nE\n", &out, &e), 0);
    assert_memory_equal(out.data, "[] /", 4); /* no input of its own, run from a file ... */
    out.data[out.len - 1] = '\0';
    assert_int_equal(access(out.data + 3, F_OK), -1); /* ... that is gone */
    assert_true(run_last("FROM debian:12\nRUN <<E\n#!/bin/sh\nexit 7\nE\n", &out, &e) < 0);
    assert_non_null(strstr(e.text, "7"));
    buf_done(&out);
}

static void test_plain(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf out = BUF_INIT(10000);
    assert_int_equal(run_last("FROM debian:12\nRUN <<E\nx=1\necho \"a$x\"\nE\n", &out, &e), 0);
    assert_string_equal(out.data, "a1\n");
    buf_clear(&out);
    assert_int_equal(run_last("FROM debian:12\nRUN cat <<A && cat <<-'B' && cat <<\"C\"\n"
                              "$((1+1))\nA\n\t$x\n\tB\n\ty\nC\n",
                              &out, &e),
                     0);
    assert_string_equal(out.data, "2\n$x\n\ty\n");
    buf_done(&out);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_script),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
