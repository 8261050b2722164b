/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/frozen.h"
#include "engine/sparse.h"

static char dir[] = "/tmp/tb-frozen.XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static int make_file(const char *name, off_t size, bool holes)
{
    char path[300];
    static const off_t at[] = {0, 4096 * 100, 40 << 20, 70 << 20};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    for (off_t i = 0; !holes && i < size; i += 1 << 20)
        assert_int_equal(fallocate(fd, 0, i, size - i < 1 << 20 ? size - i : 1 << 20), 0);
    if (!holes) { /* real zeroes, not unwritten extents */
        char *zero = calloc(1, 1 << 20);
        for (off_t i = 0; i < size; i += 1 << 20)
            assert_true(pwrite(fd, zero, 1 << 20, i) > 0);
        free(zero);
    }
    for (size_t i = 0; i < ARRAY_LEN(at); i++)
        if (at[i] < size)
            assert_int_equal(pwrite(fd, "data", 4, at[i]), 4);
    return fd;
}

static void test_sparse_digest(void **state)
{
    (void)state;
    struct err e = {0};
    struct sparse_result a, b, c;
    struct stat before, after;
    int holes = make_file("holes", 80 << 20, true), full = make_file("full", 80 << 20, false);
    assert_int_equal(sparse_digest(holes, false, &a, &e), 0);
    assert_int_equal(fstat(full, &before), 0);
    assert_int_equal(sparse_digest(full, true, &b, &e), 0);
    assert_int_equal(fstat(full, &after), 0);
    /* Where the holes are does not matter, and zeroes have become holes. */
    assert_string_equal(a.digest, b.digest);
    assert_int_equal(a.bytes, 80 << 20);
    assert_int_equal(a.data, 4 * 4096);
    assert_int_equal(b.data, 4 * 4096);
    assert_true(after.st_blocks < before.st_blocks / 10);
    assert_int_equal(sparse_digest(full, false, &c, &e), 0);
    assert_string_equal(a.digest, c.digest);
    /* Any change does: a byte, a moved page, the length. */
    assert_int_equal(pwrite(holes, "Data", 4, 40 << 20), 4);
    assert_int_equal(sparse_digest(holes, false, &c, &e), 0);
    assert_string_not_equal(a.digest, c.digest);
    assert_int_equal(pwrite(full, "\0\0\0\0", 4, 40 << 20), 4);
    assert_int_equal(pwrite(full, "data", 4, (40 << 20) + 4096), 4);
    assert_int_equal(sparse_digest(full, false, &c, &e), 0);
    assert_string_not_equal(a.digest, c.digest);
    close(full);
    full = make_file("full", (80 << 20) + 4096, true);
    assert_int_equal(sparse_digest(full, false, &c, &e), 0);
    assert_string_not_equal(a.digest, c.digest);
    close(full);
    close(holes);
    int empty = make_file("empty", 4096, true);
    assert_int_equal(ftruncate(empty, 0), 0);
    assert_int_equal(sparse_digest(empty, false, &c, &e), 0);
    assert_int_equal(c.bytes, 0);
    close(empty);
}

static struct manifest sample(void)
{
    struct manifest m = {.kind = MANIFEST_SNAPSHOT,
                         .engine = "qemu",
                         .engine_version = "7.2.22",
                         .cpu = "max",
                         .memory_mib = 64,
                         .vcpus = 1,
                         .tsc_khz = 1000000};
    memset(m.machine, 'a', SHA256_HEX_LEN);
    return m;
}

static void freeze(const char *final, struct frozen_cache *c)
{
    struct err e = {0};
    struct frozen f;
    struct manifest m = sample();
    char path[300];
    close(make_file("memory-file", 8 << 20, true));
    snprintf(path, sizeof path, "%s/memory-file", dir);
    assert_int_equal(frozen_begin(&f, final, &e), 0);
    int fd = frozen_create(&f, "state", &e);
    assert_true(fd >= 0);
    assert_int_equal(fs_write_all(fd, "device state", 12), 0);
    close(fd);
    assert_int_equal(frozen_move_in(&f, path, "memory", &e), 0);
    assert_false(fs_exists(path));
    assert_int_equal(frozen_add_digest(&f, &m, "state", 1 << 20, MANIFEST_PLAIN, &e), 0);
    assert_int_equal(frozen_add_digest(&f, &m, "memory", UINT64_MAX, MANIFEST_SPARSE, &e), 0);
    assert_false(fs_exists(final)); /* nothing is there before all of it is */
    assert_int_equal(frozen_commit(&f, &m, c, &e), 0);
    assert_false(fs_exists(f.part));
    frozen_abandon(&f);
    assert_true(fs_exists(final));
}

static int verify(const char *final, struct frozen_cache *c, struct err *e)
{
    struct manifest m;
    int r = frozen_read_manifest(final, &m, e);
    return r < 0 ? r : frozen_verify(final, &m, c, e);
}

static void poke(const char *final, const char *file, off_t at)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", final, file);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "!", 1, at), 1);
    close(fd);
}

static void test_frozen(void **state)
{
    (void)state;
    struct err e = {0};
    char final[300];
    struct frozen f;
    struct frozen_cache *c = frozen_cache_new(), *fresh = frozen_cache_new();
    snprintf(final, sizeof final, "%s/snap", dir);
    freeze(final, c);
    assert_int_equal(verify(final, c, &e), 0);
    assert_int_equal(verify(final, fresh, &e), 0);
    assert_int_equal(frozen_begin(&f, final, &e), -EEXIST);
    /* Noticed by a process that has checked the file before as well. */
    poke(final, "memory", 4 << 20);
    assert_int_equal(verify(final, c, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "memory"));
    assert_int_equal(fs_remove_tree(final, &e), 0);
    assert_int_equal(verify(final, c, &e), -ENOENT);
    freeze(final, c);
    poke(final, "state", 3);
    assert_int_equal(verify(final, c, &e), -EBADMSG);
    assert_int_equal(fs_remove_tree(final, &e), 0);
    freeze(final, c);
    char path[400];
    snprintf(path, sizeof path, "%s/state", final);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(verify(final, c, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "missing"));
    assert_int_equal(symlink("/etc/hostname", path), 0);
    assert_int_equal(verify(final, c, &e), -ELOOP);
    assert_int_equal(fs_remove_tree(final, &e), 0);
    frozen_cache_free(c);
    frozen_cache_free(fresh);
    frozen_cache_free(NULL);
}

static void test_abandon(void **state)
{
    (void)state;
    struct err e = {0};
    char final[300];
    struct frozen f;
    snprintf(final, sizeof final, "%s/given-up", dir);
    assert_int_equal(frozen_begin(&f, final, &e), 0);
    int fd = frozen_create(&f, "state", &e);
    assert_true(fd >= 0);
    close(fd);
    frozen_abandon(&f);
    assert_false(fs_exists(f.part));
    assert_false(fs_exists(final));
    frozen_abandon(&f);
    assert_int_equal(frozen_begin(&f, "/nonexistent/x", &e), -ENOENT);
    frozen_abandon(&f);
}

/* A file that is longer than it can need is refused before it is read, one that grows meanwhile is
 * read as far as it was: neither keeps anybody busy. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    struct err e = {0};
    char final[300], zero[4096] = "", want[SHA256_HEX_LEN + 1], got[SHA256_HEX_LEN + 1];
    struct frozen f;
    struct manifest m = sample();
    snprintf(final, sizeof final, "%s/huge", dir);
    assert_int_equal(frozen_begin(&f, final, &e), 0);
    int fd = frozen_create(&f, "state", &e);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)1 << 42), 0);
    close(fd);
    assert_int_equal(frozen_add_digest(&f, &m, "state", 1 << 20, MANIFEST_PLAIN, &e), -EBADMSG);
    assert_int_equal(m.n_files, 0);
    frozen_abandon(&f);
    alarm(10);
    fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_int_equal(sha256_hex_fd_start(fd, sizeof zero, got, &e), 0);
    sha256_hex_of(zero, sizeof zero, want);
    assert_string_equal(got, want);
    close(fd);
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sparse_digest),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_work_is_bounded),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
