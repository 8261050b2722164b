/* SPDX-License-Identifier: Apache-2.0 */
/* Logs: lines, limits, and what a guest may put into them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "microvm/internal.h"

struct logs {
    char dir[64];
    struct microvm_service s;
    struct log_file *l;
};

static int setup(void **state)
{
    struct logs *t = calloc(1, sizeof *t);
    char sub[128];
    snprintf(t->dir, sizeof t->dir, "/tmp/tinderbox-logs-XXXXXX");
    if (!mkdtemp(t->dir))
        return -1;
    snprintf(sub, sizeof sub, "%s/logs/microvm", t->dir);
    t->s.cfg.data_dir = t->dir;
    *state = t;
    return fs_mkdir_p(sub, 0700, NULL) < 0 || log_file_open(&t->s, "microvm", "vm", &t->l, NULL);
}

static int teardown(void **state)
{
    struct logs *t = *state;
    log_file_close(t->l);
    int r = fs_remove_tree(t->dir, NULL);
    free(t);
    return r;
}

static struct buf contents(const struct logs *t)
{
    char path[160];
    struct buf b = BUF_INIT(0);
    snprintf(path, sizeof path, "%s/logs/microvm/vm.log", t->dir);
    assert_int_equal(fs_read_file(path, &b, NULL), 0);
    return b;
}

/* The texts of all lines after their stamps, each with its stream: "o:text|e:text|". */
static void assert_lines(const struct logs *t, const char *want)
{
    struct buf all = contents(t), got = BUF_INIT(0);
    for (char *p = all.data, *nl; p && (nl = strchr(p, '\n')); p = nl + 1) {
        const size_t stamp = strlen("2024-01-01T00:00:00.000Z ");
        assert_true((size_t)(nl - p) >= stamp + 2);
        assert_int_equal(p[stamp - 2], 'Z');
        assert_int_equal(buf_addf(&got, "%c:%.*s|", p[stamp], (int)(nl - p - (ptrdiff_t)stamp - 2),
                                  p + stamp + 2),
                         0);
    }
    assert_string_equal(got.data ? got.data : "", want);
    buf_done(&all);
    buf_done(&got);
}

static void test_lines_are_put_together(void **state)
{
    struct logs *t = *state;
    log_file_write(t->l, 1, "one\ntw", 6);
    log_file_write(t->l, 2, "other\n", 6);
    log_file_write(t->l, 1, "o\r\n\n", 4);
    log_file_write(t->l, 1, "rest", 4);
    assert_lines(t, "o:one|e:other|o:two|o:|");
    log_file_close(TAKE(t->l));
    assert_lines(t, "o:one|e:other|o:two|o:|o:rest|");
}

static void test_hostile_bytes(void **state)
{
    struct logs *t = *state;
    log_file_write(t->l, 1, "a\0b\001\r\033[1m\tc\177\n", 13);
    assert_lines(t, "o:a?b??\033[1m\tc\177|");
    log_file_printf(t->l, "two\nlines");
    assert_lines(t, "o:a?b??\033[1m\tc\177|o:two?lines|");
}

static void test_a_line_without_end_is_cut(void **state)
{
    struct logs *t = *state;
    char chunk[1000];
    memset(chunk, 'x', sizeof chunk);
    for (int i = 0; i < 100; i++)
        log_file_write(t->l, 1, chunk, sizeof chunk);
    struct buf all = contents(t);
    size_t longest = 0;
    for (char *p = all.data, *nl; (nl = strchr(p, '\n')); p = nl + 1)
        longest = (size_t)(nl - p) > longest ? (size_t)(nl - p) : longest;
    assert_in_range(longest, 8000, 8300);
    assert_in_range(all.len, 90000, 110000);
    buf_done(&all);
}

static void test_a_file_stops_growing(void **state)
{
    struct logs *t = *state;
    char line[8000];
    memset(line, 'y', sizeof line);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 9000; i++)
        log_file_write(t->l, 2, line, sizeof line);
    struct buf all = contents(t);
    assert_in_range(all.len, 64 << 20, (64 << 20) + 20000);
    assert_non_null(strstr(all.data + all.len - 100, "log limit reached"));
    buf_done(&all);
}

/* A file size limit stands in for a full disk: the write is refused, perhaps after a part of it. */
static void test_a_full_disk_costs_lines_not_the_log(void **state)
{
    struct logs *t = *state;
    struct rlimit before, tight;
    signal(SIGXFSZ, SIG_IGN);
    log_file_write(t->l, 1, "kept\n", 5);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 40; /* the next line fits in part */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    log_file_write(t->l, 1, "lost\nlost\n", 10);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_lines(t, "o:kept|");
    log_file_write(t->l, 1, "back\n", 5);
    assert_lines(t, "o:kept|o:[2 lines are missing: they could not be written]|o:back|");
}

static void test_keys_are_not_paths(void **state)
{
    struct logs *t = *state;
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", ".hidden"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct log_file *l = NULL;
        assert_int_equal(log_file_open(&t->s, "microvm", bad[i], &l, NULL), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_are_put_together, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_line_without_end_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_stops_growing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_disk_costs_lines_not_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_are_not_paths, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
