/* SPDX-License-Identifier: Apache-2.0 */
/* Names and zips, good and hostile. The zips are written here, byte by byte. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "guest/unpack.h"

struct entry {
    const char *name;
    size_t name_n; /* 0 = strlen */
    const char *data;
    uint32_t attrs; /* unix mode << 16, 0 = made elsewhere */
    uint16_t flags;
    const char *local_name; /* NULL = name */
};

static uint32_t crc32_of(const char *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= (uint8_t)p[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (0xedb88320u & -(c & 1));
    }
    return ~c;
}

static void put16(struct buf *b, uint32_t v)
{
    const unsigned char p[2] = {(unsigned char)v, (unsigned char)(v >> 8)};
    assert_int_equal(buf_add(b, p, 2), 0);
}

static void put32(struct buf *b, uint32_t v)
{
    put16(b, v & 0xffff);
    put16(b, v >> 16);
}

static void put_common(struct buf *b, const struct entry *x, size_t name_n)
{
    size_t n = strlen(x->data);
    put16(b, 20);
    put16(b, x->flags);
    put16(b, 0); /* stored */
    put16(b, 0);
    put16(b, 0x5821); /* 2024-01-01 */
    put32(b, crc32_of(x->data, n));
    put32(b, (uint32_t)n);
    put32(b, (uint32_t)n);
    put16(b, (uint32_t)name_n);
    put16(b, 0);
}

/* A zip as a file descriptor. */
static int make_zip(const struct entry *list, size_t n, uint64_t *size)
{
    struct buf b = BUF_INIT(0), dir = BUF_INIT(0);
    for (size_t i = 0; i < n; i++) {
        const struct entry *x = &list[i];
        size_t name_n = x->name_n ? x->name_n : strlen(x->name);
        const char *local = x->local_name ? x->local_name : x->name;
        size_t local_n = x->local_name ? strlen(local) : name_n;
        uint32_t at = (uint32_t)b.len;
        put32(&b, 0x04034b50);
        put_common(&b, x, local_n);
        assert_int_equal(buf_add(&b, local, local_n), 0);
        assert_int_equal(buf_adds(&b, x->data), 0);
        put32(&dir, 0x02014b50);
        put16(&dir, x->attrs ? 3 << 8 | 30 : 20);
        put_common(&dir, x, name_n);
        put16(&dir, 0);
        put16(&dir, 0);
        put16(&dir, 0);
        put32(&dir, x->attrs);
        put32(&dir, at);
        assert_int_equal(buf_add(&dir, x->name, name_n), 0);
    }
    uint32_t at = (uint32_t)b.len;
    assert_int_equal(buf_add(&b, dir.data, dir.len), 0);
    put32(&b, 0x06054b50);
    put32(&b, 0);
    put16(&b, (uint32_t)n);
    put16(&b, (uint32_t)n);
    put32(&b, (uint32_t)dir.len);
    put32(&b, at);
    put16(&b, 0);
    int fd = memfd_create("zip", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, b.data, b.len), 0);
    *size = b.len;
    buf_done(&b);
    buf_done(&dir);
    return fd;
}

static struct zip z;
static struct zip_entry x;

/* Reads all entries and their data. */
static int walk(int fd, uint64_t size, unsigned *count, struct err *e)
{
    char chunk[4096];
    *count = 0;
    int r = zip_open(&z, fd, size, e);
    while (r >= 0 && (r = zip_next(&z, &x, e)) == 1) {
        ++*count;
        ssize_t n;
        while (x.type == 'f' && (n = zip_read(&z, chunk, sizeof chunk, e)) != 0)
            if (n < 0) {
                r = (int)n;
                break;
            }
    }
    zip_close(&z);
    return r;
}

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *want;
    } good[] = {{"a/b", "a/b"}, {"./a", "a"},     {"a//b/", "a/b"},       {".", ""},
                {"./", ""},     {"a/./b", "a/b"}, {"..a/b..", "..a/b.."}, {"\xc3\xbc", "\xc3\xbc"},
                {"...", "..."}, {"a\\b", "a\\b"}};
    static const char *const bad[] = {
        "/a",       "../a",         "a/../../b",        "a/..", "..", "\\a", "\xff",
        "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3"};
    char out[UNPACK_MAX_PATH];
    struct err e;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(name_clean(good[i].raw, out, &e), 0);
        assert_string_equal(out, good[i].want);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(name_clean(bad[i], out, &e), -EBADMSG);
    char longer[UNPACK_MAX_PATH + 8];
    memset(longer, 'a', sizeof longer);
    longer[256] = '\0';
    assert_int_equal(name_clean(longer, out, &e), -EBADMSG);
    longer[256] = 'a';
    for (size_t i = 100; i < sizeof longer; i += 100)
        longer[i] = '/';
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(name_clean(longer, out, &e), -EBADMSG);
    longer[UNPACK_MAX_PATH - 1] = '\0';
    assert_int_equal(name_clean(longer, out, &e), 0);
}

static void name_set(void **state)
{
    (void)state;
    struct names *n = names_new();
    char name[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "name %d", i);
        assert_int_equal(names_add(n, name, i), 1);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "name %d", i);
        assert_int_equal(names_add(n, name, -7), 0);
        assert_int_equal(names_get(n, name), i);
    }
    assert_int_equal(names_get(n, "name 5000"), -1);
    names_free(n);
}

static void good_zip(void **state)
{
    (void)state;
    static const struct entry list[] = {
        {"dir/", 0, "", (uint32_t)040750 << 16, 0, NULL},
        {"dir/a", 0, "hello", (uint32_t)0100640 << 16, 0, NULL},
        {"link", 0, "dir/a", (uint32_t)0120777 << 16, 0, NULL},
        {"dos", 0, "x", 0, 0, NULL},
    };
    uint64_t size;
    int fd = make_zip(list, ARRAY_LEN(list), &size);
    struct err e = {0};
    assert_int_equal(zip_open(&z, fd, size, &e), 0);
    static const struct {
        const char *path;
        char type;
        mode_t mode;
    } want[] = {{"dir", 'd', 0750}, {"dir/a", 'f', 0640}, {"link", 'l', 0777}, {"dos", 'f', 0644}};
    char text[16];
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(zip_next(&z, &x, &e), 1);
        assert_string_equal(x.path, want[i].path);
        assert_int_equal(x.type, want[i].type);
        assert_int_equal(x.mode, want[i].mode);
        if (i == 1) {
            assert_int_equal(zip_read(&z, text, sizeof text, &e), 5);
            assert_memory_equal(text, "hello", 5);
        }
        if (i == 2)
            assert_string_equal(x.target, "dir/a");
    }
    assert_int_equal(zip_next(&z, &x, &e), 0);
    zip_close(&z);
    close(fd);
}

static void hostile_zips(void **state)
{
    (void)state;
    static const struct {
        struct entry list[2];
        size_t n;
        const char *says;
    } rows[] = {
        {{{"../x", 0, "", 0, 0, NULL}}, 1, "'../x' leads out"},
        {{{"a/../../x", 0, "", 0, 0, NULL}}, 1, "leads out"},
        {{{"/etc/x", 0, "", 0, 0, NULL}}, 1, "absolute"},
        {{{"a\0b", 3, "", 0, 0, NULL}}, 1, "NUL byte"},
        {{{"a", 0, "1", 0, 0, NULL}, {"./a", 0, "2", 0, 0, NULL}}, 2, "'a' is there twice"},
        {{{"secret", 0, "1", 0, 1, NULL}}, 1, "'secret' is encrypted"},
        {{{"dev", 0, "", (uint32_t)020666 << 16, 0, NULL}}, 1, "'dev' is neither"},
        {{{"disk", 0, "", (uint32_t)060666 << 16, 0, NULL}}, 1, "'disk' is neither"},
        {{{"\xff\xfe", 0, "", 0, 0, NULL}}, 1, "UTF-8"},
        {{{"listed", 0, "1", 0, 0, "hidden"}}, 1, "'hidden' is not listed"},
        {{{"listed", 0, "1", 0, 0, "../../up"}}, 1, "leads out"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t size;
        unsigned count;
        struct err e = {0};
        int fd = make_zip(rows[i].list, rows[i].n, &size);
        int r = walk(fd, size, &count, &e);
        if (r != -EBADMSG || !strstr(e.text, rows[i].says))
            fail_msg("row %zu: %d %s", i, r, e.text);
        close(fd);
    }
}

static void damaged_zips(void **state)
{
    (void)state;
    static const struct entry list[] = {{"a", 0, "hello", 0, 0, NULL},
                                        {"b", 0, "world", 0, 0, NULL}};
    uint64_t size;
    unsigned count;
    struct err e = {0};
    int fd = make_zip(list, 2, &size);
    assert_int_equal(walk(fd, size, &count, &e), 0);
    assert_int_equal(count, 2);
    for (uint64_t cut = 0; cut < size; cut++)
        assert_true(walk(fd, cut, &count, &e) < 0);
    assert_int_equal(pwrite(fd, "J", 1, 31), 1); /* first data byte: the checksum tells */
    assert_int_equal(walk(fd, size, &count, &e), -EBADMSG);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),        cmocka_unit_test(name_set),     cmocka_unit_test(good_zip),
        cmocka_unit_test(hostile_zips), cmocka_unit_test(damaged_zips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
