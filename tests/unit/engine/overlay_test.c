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
#include "base/json.h"
#include "base/proc.h"
#include "engine/disks.h"
#include "engine/overlay.h"

static char dir[] = "/tmp/tb-overlay.XXXXXX";
static struct overlay_key key;

static int make_dir(void **state)
{
    (void)state;
    struct err e;
    return mkdtemp(dir) ? overlay_key_load(dir, &key, &e) : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    struct err e;
    return fs_remove_tree(dir, &e);
}

static char *in_dir(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", dir, name);
    return out;
}

static void make_raw(const char *path, off_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    assert_int_equal(pwrite(fd, "base", 4, 0), 4);
    close(fd);
}

static void test_key_is_kept(void **state)
{
    (void)state;
    struct overlay_key again;
    struct err e = {0};
    char path[256];
    struct stat st;
    assert_int_equal(overlay_key_load(dir, &again, &e), 0);
    assert_memory_equal(&again, &key, sizeof key);
    assert_int_equal(stat(in_dir(path, "overlay.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(overlay_key_load(dir, &again, &e), -EBADMSG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(overlay_key_load(dir, &key, &e), 0);
    assert_int_equal(overlay_key_load("/nonexistent", &again, &e), -ENOENT);
}

static void test_codec(void **state)
{
    (void)state;
    unsigned char *c = malloc(OVERLAY_CLUSTER);
    assert_non_null(c);
    static const uint64_t sizes[] = {512, 1 << 20, UINT64_C(32) << 30, OVERLAY_SIZE_MAX};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (int f = 0; f < 2; f++) {
            struct overlay_info in = {.bytes = sizes[i], .base_format = (enum engine_disk_format)f},
                                back;
            struct err e = {0};
            memset(in.base, 'x', i ? 100 : OVERLAY_PATH_MAX); /* the longest name, too */
            in.base[0] = '/';
            assert_int_equal(overlay_encode(&in, &key, c, &e), 0);
            assert_int_equal(overlay_decode(c, 4096, &key, &back, &e), 0);
            assert_int_equal(back.bytes, in.bytes);
            assert_int_equal(back.base_format, in.base_format);
            assert_string_equal(back.base, in.base);
        }
    struct err e;
    static const struct overlay_info bad[] = {
        {0, "/x", 0}, {511, "/x", 0}, {1000, "/x", 0}, {OVERLAY_SIZE_MAX + 512, "/x", 0},
        {512, "", 0}, {512, "x", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(overlay_encode(&bad[i], &key, c, &e), -EINVAL);
    free(c);
}

/* Nothing that is believed can be changed by one who has no key, and nothing crashes. */
static void test_tampering(void **state)
{
    (void)state;
    unsigned char *c = malloc(OVERLAY_CLUSTER);
    struct overlay_info in = {.bytes = 1 << 20, .base = "/srv/images/base.raw"}, back;
    struct err e = {0};
    assert_non_null(c);
    assert_int_equal(overlay_encode(&in, &key, c, &e), 0);
    for (size_t i = 0; i < 400 * 8; i++) {
        c[i / 8] ^= (unsigned char)(1 << (i % 8));
        if (overlay_decode(c, 4096, &key, &back, &e) == 0) {
            assert_string_equal(back.base, in.base);
            assert_int_equal(back.bytes, in.bytes);
            assert_int_equal(back.base_format, in.base_format);
        }
        c[i / 8] ^= (unsigned char)(1 << (i % 8));
    }
    for (size_t n = 0; n < 168 + strlen(in.base); n++) {
        unsigned char *exact = malloc(n + 1);
        assert_non_null(exact);
        memcpy(exact, c, n);
        assert_int_equal(overlay_decode(exact, n, &key, &back, &e), -EBADMSG);
        free(exact);
    }
    struct overlay_key other = key;
    other.bytes[0] ^= 1;
    assert_int_equal(overlay_decode(c, 4096, &other, &back, &e), -EBADMSG);
    assert_non_null(strstr(e.text, "another installation"));
    free(c);
}

/* qemu-img agrees that the file is sound, and the data comes through. */
static void test_qemu_img(void **state)
{
    (void)state;
    struct err e = {0};
    char raw[256], one[256], two[256];
    struct stat st;
    struct buf out = BUF_INIT(65536);
    make_raw(in_dir(raw, "base.raw"), 1 << 20);
    struct overlay_info in = {.bytes = UINT64_C(32) << 30, .base_format = ENGINE_DISK_RAW};
    strcpy(in.base, raw);
    assert_int_equal(overlay_create(in_dir(one, "one.qcow2"), &in, &key, &e), 0);
    assert_int_equal(overlay_create(one, &in, &key, &e), -EEXIST);
    in.base_format = ENGINE_DISK_OVERLAY;
    strcpy(in.base, one);
    assert_int_equal(overlay_create(in_dir(two, "two.qcow2"), &in, &key, &e), 0);
    assert_int_equal(stat(two, &st), 0);
    assert_true(st.st_blocks * 512 <= 64 * 1024);
    const char *check[] = {"qemu-img", "check", "-f", "qcow2", two, NULL};
    const char *info[] = {"qemu-img", "info", "-f", "qcow2", "--output=json", two, NULL};
    const char *compare[] = {"qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, two, NULL};
    if (proc_run(check, NULL, 30000, &out, &e) == -ENOENT) {
        print_message("qemu-img is not installed\n");
        skip();
    }
    assert_non_null(strstr(out.data, "No errors"));
    buf_clear(&out);
    assert_int_equal(proc_run(info, NULL, 30000, &out, &e), 0);
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    assert_int_equal(json_parse(out.data, out.len, 65536, &v, &e), 0);
    assert_int_equal(json_get_int(v, "virtual-size", 0), UINT64_C(32) << 30);
    assert_string_equal(json_get_str(v, "backing-filename"), one);
    assert_string_equal(json_get_str(v, "backing-filename-format"), "qcow2");
    buf_clear(&out);
    if (proc_run(compare, NULL, 60000, &out, &e) < 0)
        fail_msg("%s", e.text);
    buf_done(&out);
}

static void test_chain(void **state)
{
    (void)state;
    struct err e = {0};
    struct overlay_chain c;
    char raw[256], path[256], link[256];
    make_raw(in_dir(raw, "chain.raw"), 1 << 20);
    struct overlay_info in = {.bytes = 2 << 20, .base_format = ENGINE_DISK_RAW};
    strcpy(in.base, raw);
    for (int i = 0; i < OVERLAY_CHAIN_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer-%d", i);
        assert_int_equal(overlay_create(in_dir(path, name), &in, &key, &e), 0);
        strcpy(in.base, path);
        in.base_format = ENGINE_DISK_OVERLAY;
        int r = disks_chain_read(&disks_qcow2, path, ENGINE_DISK_OVERLAY, &key, &c, &e);
        if (i + 2 > OVERLAY_CHAIN_MAX) {
            assert_int_equal(r, -EINVAL);
            break;
        }
        assert_int_equal(r, 0);
        assert_int_equal(c.n, i + 2);
        assert_int_equal(c.bytes, 2 << 20);
        assert_string_equal(c.node[0].path, path);
        assert_string_equal(c.node[c.n - 1].path, raw);
        assert_int_equal(c.node[c.n - 1].format, ENGINE_DISK_RAW);
        disks_chain_done(&c);
    }
    /* A raw disk is raw, whatever a guest has written to its start. */
    assert_int_equal(
        disks_chain_read(&disks_qcow2, in_dir(path, "layer-0"), ENGINE_DISK_RAW, &key, &c, &e), 0);
    assert_int_equal(c.n, 1);
    disks_chain_done(&c);
    assert_int_equal(symlink(raw, in_dir(link, "link")), 0);
    assert_int_equal(disks_chain_read(&disks_qcow2, link, ENGINE_DISK_RAW, &key, &c, &e), -ELOOP);
    assert_int_equal(disks_chain_read(&disks_qcow2, "relative", ENGINE_DISK_RAW, &key, &c, &e),
                     -EINVAL);
    assert_int_equal(disks_chain_read(&disks_qcow2, dir, ENGINE_DISK_RAW, &key, &c, &e), -EINVAL);
    assert_int_equal(disks_chain_read(&disks_qcow2, raw, ENGINE_DISK_OVERLAY, &key, &c, &e),
                     -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_is_kept), cmocka_unit_test(test_codec),
        cmocka_unit_test(test_tampering),   cmocka_unit_test(test_qemu_img),
        cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
