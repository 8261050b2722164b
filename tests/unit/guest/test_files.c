/* SPDX-License-Identifier: Apache-2.0 */
/* The files mode of the archive program: what it lists, sends and unpacks, and what it refuses. */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "guest/unpack.h"
#include "proto/frame.h"
#include "proto/wire.h"

static char top[] = "/tmp/test-files-XXXXXX";

static const char *at(const char *name)
{
    static char path[4][512];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", top, name);
    return p;
}

static void put(const char *name, const char *data, mode_t mode)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, data, strlen(data)), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* Runs fn(path) with frames going to a file; the payloads of one type, end to end. */
static int capture(int (*fn)(const char *path, struct err *e), const char *path, int type,
                   struct buf *ret, struct err *e)
{
    int fd = memfd_create("frames", MFD_CLOEXEC), saved = dup(STDOUT_FILENO);
    fflush(stdout);
    assert_true(fd >= 0 && saved >= 0 && dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
    int r = fn(path, e);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    struct frame_reader reader = {0};
    struct slice payload;
    char chunk[4096];
    ssize_t n;
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    while ((n = read(fd, chunk, sizeof chunk)) > 0) {
        int got;
        assert_true(frame_reader_add(&reader, chunk, (size_t)n) >= 0);
        while (frame_reader_next(&reader, &got, &payload) == 1)
            if (got == type)
                assert_int_equal(buf_add(ret, payload.p, payload.n), 0);
    }
    frame_reader_done(&reader);
    close(fd);
    return r;
}

static int unpack(const char *dest, const void *p, size_t n, struct err *e)
{
    struct copy c = {.put = {.chmod = (mode_t)-1}, .max_bytes = 4u << 20};
    snprintf(c.dest, sizeof c.dest, "%s", dest);
    int fd = memfd_create("tar", MFD_CLOEXEC);
    assert_int_equal(fs_write_all(fd, p, n), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    int r = tar_stream(&c, fd, e);
    close(fd);
    return r;
}

static void make_tree(void)
{
    char name[256];
    assert_int_equal(mkdir(at("tree"), 0755), 0);
    assert_int_equal(mkdir(at("tree/sub"), 0750), 0);
    put("tree/file", "hello", 0640);
    put("tree/sub/run", "#!/bin/sh\n", 0755);
    snprintf(name, sizeof name, "tree/%0200d", 7);
    put(name, "long name", 0600);
    assert_int_equal(mkdir(at("odd"), 0755), 0);
    put("odd/b\xff", "bytes", 0600);
    assert_int_equal(link(at("tree/file"), at("tree/sub/same")), 0);
    assert_int_equal(symlink("../file", at("tree/sub/link")), 0);
    assert_int_equal(mkfifo(at("tree/fifo"), 0600), 0);
}

static void round_trip(void **state)
{
    (void)state;
    struct buf tar = BUF_INIT(0);
    struct err e = {0};
    struct stat a, b;
    char target[64] = "";
    make_tree();
    assert_int_equal(capture(files_read, at("tree"), WIRE_FRAME_STDOUT, &tar, &e), 0);
    assert_int_equal(tar.len % 512, 0);
    assert_int_equal(mkdir(at("out"), 0755), 0);
    if (unpack(at("out"), tar.data, tar.len, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(stat(at("out/tree/file"), &a), 0);
    assert_int_equal(stat(at("out/tree/sub/same"), &b), 0);
    assert_true(a.st_ino == b.st_ino && (a.st_mode & 07777) == 0640 && a.st_size == 5);
    assert_int_equal(stat(at("tree/file"), &b), 0);
    assert_true(a.st_mtime == b.st_mtime && a.st_uid == b.st_uid && a.st_ino != b.st_ino);
    assert_int_equal(stat(at("out/tree/sub"), &a), 0);
    assert_int_equal(a.st_mode & 07777, 0750);
    assert_int_equal(readlink(at("out/tree/sub/link"), target, sizeof target - 1), 7);
    assert_string_equal(target, "../file");
    assert_int_equal(lstat(at("out/tree/fifo"), &a), 0);
    assert_true(S_ISFIFO(a.st_mode));
    /* Cut anywhere before the end mark it is an error, never a crash. */
    for (size_t cut = 0; cut + 1024 < tar.len; cut += 97) {
        int r = unpack(at("out"), tar.data, cut, &e);
        assert_true(r == -EBADMSG || (r == 0 && cut % 512 == 0));
    }
    buf_done(&tar);
}

/* A name of 200 digits needs a pax header; the other tools' view of it is tested end to end. */
static void long_and_strange_names(void **state)
{
    (void)state;
    char name[256];
    struct stat st;
    snprintf(name, sizeof name, "out/tree/%0200d", 7);
    assert_int_equal(stat(at(name), &st), 0);
    /* Not UTF-8: sent as it is, refused by our own unpacking as by a build's. */
    struct buf tar = BUF_INIT(0);
    struct err e = {0};
    assert_int_equal(capture(files_read, at("odd/b\xff"), WIRE_FRAME_STDOUT, &tar, &e), 0);
    assert_memory_equal(tar.data, "b\xff", 3);
    buf_done(&tar);
}

static void lists(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct err e = {0};
    assert_int_equal(capture(files_list, at("tree"), WIRE_FRAME_RECORD, &out, &e), 0);
    assert_non_null(strstr(out.data, "{\"name\":\"\",\"type\":\"dir\""));
    assert_non_null(strstr(out.data, "\"name\":\"file\",\"type\":\"file\""));
    assert_int_equal(capture(files_list, at("odd"), WIRE_FRAME_RECORD, &out, &e), 0);
    assert_non_null(strstr(out.data, "\"name\":null,\"type\":\"file\"")); /* not UTF-8 */
    buf_clear(&out);
    assert_int_equal(capture(files_list, at("tree/sub/link"), WIRE_FRAME_RECORD, &out, &e), 0);
    assert_non_null(strstr(out.data, "\"type\":\"file\"")); /* followed */
    buf_done(&out);
}

static void refusals(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct err e = {0};
    static const struct {
        const char *path;
        int code;
    } rows[] = {{"tree/missing", -ENOENT},
                {"tree/file/x", -ENOTDIR},
                {"tree/file/", -ENOTDIR},
                {"missing/x", -ENOENT}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(capture(files_read, at(rows[i].path), WIRE_FRAME_STDOUT, &out, &e),
                         rows[i].code);
    assert_int_equal(files_read("/proc/self/root/etc/hostname", &e), -ELOOP);
    assert_int_equal(files_list("/proc/self/fd/0", &e), -ELOOP);
    assert_int_equal(unpack(at("out"), "", 0, &e), -EBADMSG);
    assert_int_equal(unpack(at("out"), "junk", 4, &e), -EBADMSG);
    buf_done(&out);
}

/* A tar that unpacks to more than the limit. */
static void too_much(void **state)
{
    (void)state;
    struct buf tar = BUF_INIT(0);
    struct err e = {0};
    put("large", "", 0600);
    assert_int_equal(truncate(at("large"), 8 << 20), 0);
    assert_int_equal(capture(files_read, at("large"), WIRE_FRAME_STDOUT, &tar, &e), 0);
    assert_true(tar.len > 8u << 20);
    assert_int_equal(unpack(at("out"), tar.data, tar.len, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "more than"));
    buf_done(&tar);
}

static int make_top(void **state)
{
    (void)state;
    return mkdtemp(top) ? 0 : -1;
}

static int remove_top(void **state)
{
    (void)state;
    return fs_remove_tree(top, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(long_and_strange_names),
        cmocka_unit_test(lists),      cmocka_unit_test(refusals),
        cmocka_unit_test(too_much),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
