/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/qemu/qmp.h"

struct row {
    const char *line;
    int result; /* of the last byte */
    enum qmp_kind kind;
    int64_t id;
    const char *name, *text;
};

static const struct row rows[] = {
    {"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n", 1, QMP_GREETING, -1, "", ""},
    {"{\"return\": {}, \"id\": 7}\r\n", 1, QMP_RETURN, 7, "", ""},
    {"{\"return\": 3}\n", 1, QMP_RETURN, -1, "", ""},
    {"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\nway\"}, \"id\": 2}\n", 1,
     QMP_ERROR, 2, "GenericError", "no?way"},
    {"{\"error\": {}, \"id\": 2}\n", 1, QMP_ERROR, 2, "", ""},
    {"{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1}}\n", 1, QMP_EVENT, -1, "STOP", ""},
    {"{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n", 1, QMP_EVENT, -1,
     "SHUTDOWN", ""},
    {"{\"return\": {}, \"id\": \"7\"}\n", 1, QMP_RETURN, -1, "", ""},
    {"\n", 0, 0, 0, NULL, NULL},
    {"\r\n", 0, 0, 0, NULL, NULL},
    {"{\"other\": 1}\n", -EPROTO, 0, 0, NULL, NULL},
    {"[]\n", -EPROTO, 0, 0, NULL, NULL},
    {"7\n", -EPROTO, 0, 0, NULL, NULL},
    {"{\"return\": {}} x\n", -EPROTO, 0, 0, NULL, NULL},
    {"{\"return\": 1, \"return\": 2}\n", -EPROTO, 0, 0, NULL, NULL},
    {"{\"event\": \n", -EPROTO, 0, 0, NULL, NULL},
};

/* One byte at a time and all at once must agree. */
static int feed(const char *line, size_t piece, struct qmp_message *m, struct err *e)
{
    struct qmp_reader r;
    size_t left = strlen(line);
    int k = 0;
    qmp_reader_init(&r);
    while (left && k == 0) {
        size_t used = left < piece ? left : piece;
        k = qmp_read(&r, line, &used, m, e);
        line += used;
        left -= used;
    }
    assert_int_equal(left, 0);
    qmp_reader_done(&r);
    return k;
}

static void test_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t piece = 1; piece < 200; piece = piece == 1 ? 199 : 200) {
            struct qmp_message m;
            struct err e = {0};
            int k = feed(rows[i].line, piece, &m, &e);
            if (k != rows[i].result)
                fail_msg("row %zu: %d, wanted %d", i, k, rows[i].result);
            if (k < 0)
                assert_true(e.text[0]);
            if (k != 1)
                continue;
            assert_int_equal(m.kind, rows[i].kind);
            assert_int_equal(m.id, rows[i].id);
            assert_string_equal(m.name, rows[i].name);
            assert_string_equal(m.text, rows[i].text);
            qmp_message_done(&m);
        }
}

static void test_two_in_one_read(void **state)
{
    (void)state;
    static const char text[] = "{\"return\":{},\"id\":1}\n{\"event\":\"RESUME\"}\n{\"ret";
    struct qmp_reader r;
    struct qmp_message m;
    struct err e;
    qmp_reader_init(&r);
    size_t n = sizeof text - 1, used = n;
    assert_int_equal(qmp_read(&r, text, &used, &m, &e), 1);
    assert_int_equal(used, 21);
    qmp_message_done(&m);
    size_t at = used;
    used = n - at;
    assert_int_equal(qmp_read(&r, text + at, &used, &m, &e), 1);
    assert_string_equal(m.name, "RESUME");
    qmp_message_done(&m);
    at += used;
    used = n - at;
    assert_int_equal(qmp_read(&r, text + at, &used, &m, &e), 0);
    assert_int_equal(at + used, n);
    qmp_reader_done(&r);
}

static void test_limits(void **state)
{
    (void)state;
    struct qmp_reader r;
    struct qmp_message m;
    struct err e = {0};
    size_t n = QMP_LINE_MAX + 1;
    char *p = malloc(n);
    assert_non_null(p);
    memset(p, ' ', n);
    qmp_reader_init(&r);
    size_t used = n;
    assert_int_equal(qmp_read(&r, p, &used, &m, &e), -EPROTO);
    qmp_reader_done(&r);
    memset(p, '[', 4000);
    p[4000] = '\n';
    p[4001] = '\0';
    assert_int_equal(feed(p, 4001, &m, &e), -EPROTO);
    assert_non_null(strstr(e.text, "deeper"));
    free(p);
}

static void test_write(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(0);
    json_t *args = json_pack("{s:s}", "uri", "fd:\"x\"");
    assert_int_equal(qmp_write(&b, "stop", NULL, 3), 0);
    assert_string_equal(b.data, "{\"execute\":\"stop\",\"id\":3}\n");
    buf_clear(&b);
    assert_int_equal(qmp_write(&b, "migrate", args, 4), 0);
    assert_string_equal(
        b.data, "{\"execute\":\"migrate\",\"id\":4,\"arguments\":{\"uri\":\"fd:\\\"x\\\"\"}}\n");
    json_decref(args);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_two_in_one_read),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
