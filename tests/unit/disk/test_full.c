/* SPDX-License-Identifier: Apache-2.0 */
/* The host's disk is full: a tiny tmpfs in namespaces of our own. */
#include "scratch.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "disk/flatten.h"

#define MIB (UINT64_C(1) << 20)

static unsigned char data[1 << 20], found[1 << 20];

/* All but pages of the file system's pages are used by a file named ballast. */
static void leave_free(const struct scratch *s, uint64_t pages)
{
    char path[SCRATCH_PATH];
    int fd = open(scratch_path(s, "ballast", 0, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct statvfs v;
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(statvfs(s->dir, &v), 0);
    assert_true(v.f_bfree >= pages);
    if (v.f_bfree > pages)
        assert_int_equal(posix_fallocate(fd, 0, (off_t)((v.f_bfree - pages) * v.f_bsize)), 0);
    close(fd);
}

static void expect(struct disk *d, uint64_t offset, size_t n, int byte)
{
    assert_int_equal(scratch_read(d, found, n, offset), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(found[i], byte);
}

static struct disk *begin(struct scratch *s)
{
    scratch_begin(s);
    assert_int_equal(mount("tmpfs", s->dir, "tmpfs", 0, "size=4m"), 0);
    memset(data, 0x11, sizeof data);
    scratch_raw(s, data, sizeof data);
    scratch_layer(s, 1, sizeof data);
    memset(data, 0x22, sizeof data);
    return scratch_open(s, 2, false);
}

static void end(struct scratch *s, struct disk *d)
{
    disk_close(d);
    assert_int_equal(umount2(s->dir, MNT_DETACH), 0);
    scratch_end(s);
}

static void test_write_again(void **state)
{
    (void)state;
    struct scratch s;
    struct disk *d = begin(&s);
    /* Two pages of data, then one of the bitmap: each try gets one page further. */
    for (unsigned try = 0; try < 4; try++) {
        leave_free(&s, try > 0);
        int r = scratch_write(d, data, 4096, 4096 * 3 - 512);
        assert_int_equal(r, try < 3 ? -ENOSPC : 0);
        expect(d, 0, 4096 * 3 - 512, 0x11);
        expect(d, 4096 * 3 - 512, 4096, try < 3 ? 0x11 : 0x22);
        expect(d, 4096 * 4 - 512, 4096, 0x11);
    }
    disk_close(d);
    d = scratch_open(&s, 2, false); /* the bits reached the file */
    expect(d, 4096 * 3 - 512, 4096, 0x22);
    end(&s, d);
}

static void test_overwriting_needs_no_space(void **state)
{
    (void)state;
    struct scratch s;
    struct disk *d = begin(&s);
    assert_int_equal(scratch_write(d, data, 8192, 0), 0);
    leave_free(&s, 0);
    memset(data, 0x33, sizeof data);
    assert_int_equal(scratch_write(d, data, 8192, 0), 0);
    assert_int_equal(disk_write_zeroes(d, 4096, 4096), 0); /* gives a page back */
    assert_int_equal(scratch_write(d, data, 4096, 65536), 0);
    assert_int_equal(scratch_write(d, data, 4096, 131072), -ENOSPC);
    expect(d, 0, 4096, 0x33);
    expect(d, 4096, 4096, 0);
    expect(d, 65536, 4096, 0x33);
    expect(d, 131072, 4096, 0x11);
    end(&s, d);
}

static void test_flatten_reports(void **state)
{
    (void)state;
    struct scratch s;
    struct err e = {0};
    char path[SCRATCH_PATH];
    disk_close(begin(&s));
    leave_free(&s, 10);
    struct disk *d = scratch_open(&s, 2, true);
    int fd = open(scratch_path(&s, "flat", 0, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(disk_flatten(d, fd, NULL, &e), -ENOSPC);
    close(fd);
    end(&s, d);
}

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

static bool own_mounts(void)
{
    char uid[64], gid[64];
    snprintf(uid, sizeof uid, "0 %u 1\n", getuid());
    snprintf(gid, sizeof gid, "0 %u 1\n", getgid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && put("/proc/self/setgroups", "deny") &&
           put("/proc/self/uid_map", uid) && put("/proc/self/gid_map", gid) &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_again),
        cmocka_unit_test(test_overwriting_needs_no_space),
        cmocka_unit_test(test_flatten_reports),
    };
    if (!own_mounts()) {
        puts("skipped: no user namespaces here");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
