/* SPDX-License-Identifier: Apache-2.0 */
/* The header's codec, and every class of damage the checker knows. */
#include "scratch.h"

#include <sys/stat.h>

#include "disk/header.h"

static struct layer_info sample(void)
{
    return (struct layer_info){.bytes = 10 * 4096 + 512, .base_cow = true, .base = "/a/base"};
}

static void encode(const struct layer_info *in, unsigned char out[LAYER_BLOCK])
{
    assert_int_equal(layer_encode(in, scratch_key, out, NULL), 0);
}

static void reseal(unsigned char p[LAYER_BLOCK]) /* the checksum, not the HMAC */
{
    uint32_t sum = header_checksum(p);
    memcpy(p + HEADER_AT_CHECKSUM, &sum, sizeof sum);
}

static void test_round_trip(void **state)
{
    (void)state;
    unsigned char p[LAYER_BLOCK];
    struct layer_info in = sample(), out;
    for (unsigned len = 1; len <= LAYER_NAME_MAX; len += 73) {
        memset(in.base, 'x', len);
        in.base[0] = '/';
        in.base[len] = '\0';
        in.base_cow = len & 1;
        encode(&in, p);
        assert_true(layer_is_one(p, sizeof p));
        assert_int_equal(layer_decode(p, sizeof p, &out, NULL), 0);
        assert_int_equal(layer_verify(p, sizeof p, scratch_key, &out, NULL), 0);
        assert_int_equal(out.bytes, in.bytes);
        assert_int_equal(out.base_cow, in.base_cow);
        assert_string_equal(out.base, in.base);
    }
}

static void test_encode_refuses(void **state)
{
    (void)state;
    unsigned char p[LAYER_BLOCK];
    static const uint64_t sizes[] = {0, 511, 513, LAYER_BYTES_MAX + 512, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct layer_info in = sample();
        in.bytes = sizes[i];
        assert_int_equal(layer_encode(&in, scratch_key, p, NULL), -EINVAL);
    }
    struct layer_info in = sample();
    strcpy(in.base, "relative");
    assert_int_equal(layer_encode(&in, scratch_key, p, NULL), -EINVAL);
    memset(in.base, '/', sizeof in.base); /* no end */
    assert_int_equal(layer_encode(&in, scratch_key, p, NULL), -EINVAL);
}

static void test_every_bit_counts(void **state)
{
    (void)state;
    unsigned char p[LAYER_BLOCK];
    struct layer_info in = sample(), out;
    encode(&in, p);
    for (size_t i = 0; i < sizeof p; i++) {
        p[i] ^= (unsigned char)(1u << (i % 8));
        assert_int_equal(layer_decode(p, sizeof p, &out, NULL), -EBADMSG);
        p[i] ^= (unsigned char)(1u << (i % 8));
    }
    for (size_t n = 0; n < sizeof p; n += 15)
        assert_int_equal(layer_decode(p, n, &out, NULL), -EBADMSG);
}

/* With a checksum that fits, as a process that owns its layer can make it. */
static void test_malformed_fields(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
    } bad[] = {
        {HEADER_AT_VERSION, 2},        {HEADER_AT_FEATURES, 1},
        {HEADER_AT_FEATURES + 4, 1},   {HEADER_AT_BYTES, 1},
        {HEADER_AT_BYTES, 0},          {HEADER_AT_BYTES + 4, UINT32_MAX},
        {HEADER_AT_BLOCK, 8192},       {HEADER_AT_BLOCK, 0},
        {HEADER_AT_BASE_FORMAT, 2},    {HEADER_AT_NAME_LEN, 0},
        {HEADER_AT_NAME_LEN, 6},       {HEADER_AT_NAME_LEN, 8},
        {HEADER_AT_NAME_LEN, 1024},    {HEADER_AT_NAME_LEN, UINT32_MAX},
        {HEADER_AT_NAME_LEN + 4, 1},   {HEADER_AT_MAC + 32, 1},
        {HEADER_AT_NAME - 4, 1},       {HEADER_AT_NAME, 0x61626364},
        {HEADER_AT_NAME + 3, 0},       {HEADER_AT_NAME + 8, 1},
        {LAYER_BLOCK - 4, 0x01000000},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        unsigned char p[LAYER_BLOCK];
        struct layer_info in = sample(), out;
        encode(&in, p);
        memcpy(p + bad[i].at, &bad[i].value, 4);
        reseal(p);
        if (layer_decode(p, sizeof p, &out, NULL) != -EBADMSG)
            fail_msg("case %zu was taken", i);
    }
}

static void test_hmac(void **state)
{
    (void)state;
    static const size_t signed_at[] = {HEADER_AT_BYTES + 1, HEADER_AT_BASE_FORMAT,
                                       HEADER_AT_NAME + 3, HEADER_AT_MAC, HEADER_AT_MAC + 31};
    unsigned char p[LAYER_BLOCK], other[LAYER_KEY_LEN] = {1};
    struct layer_info in = sample(), out;
    for (size_t i = 0; i < ARRAY_LEN(signed_at); i++) {
        struct err e = {0};
        encode(&in, p);
        p[signed_at[i]] ^= i == 0 ? 2 : 1;
        reseal(p);
        assert_int_equal(layer_decode(p, sizeof p, &out, &e), 0);
        assert_int_equal(layer_verify(p, sizeof p, scratch_key, &out, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "was changed"));
    }
    encode(&in, p);
    assert_int_equal(layer_verify(p, sizeof p, other, &out, NULL), -EBADMSG);
}

static void test_geometry(void **state)
{
    (void)state;
    struct layer_geometry g;
    assert_int_equal(layer_geometry(512, &g), 0);
    assert_int_equal(g.blocks, 1);
    assert_int_equal(g.file_bytes, 3 * 4096);
    assert_int_equal(layer_geometry(UINT64_C(4096) * 4096 * 8, &g), 0);
    assert_int_equal(g.bitmap_bytes, 4096);
    assert_int_equal(layer_geometry(UINT64_C(4096) * 4096 * 8 + 512, &g), 0);
    assert_int_equal(g.bitmap_bytes, 8192);
    assert_int_equal(g.data_offset, 3 * 4096);
    assert_int_equal(layer_geometry(LAYER_BYTES_MAX, &g), 0);
    assert_int_equal(g.bitmap_bytes, 1 << 27);
    assert_int_equal(layer_geometry(0, &g), -EINVAL);
    assert_int_equal(layer_geometry(100, &g), -EINVAL);
    assert_int_equal(layer_geometry(LAYER_BYTES_MAX + 512, &g), -EINVAL);
}

static void test_create(void **state)
{
    (void)state;
    struct scratch s;
    char path[SCRATCH_PATH];
    struct layer_info in = sample();
    struct stat st;
    scratch_begin(&s);
    in.bytes = UINT64_C(8) << 30;
    scratch_path(&s, "file", 1, path);
    assert_int_equal(layer_create(path, &in, scratch_key, NULL), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4096 + (256 << 10) + (INT64_C(8) << 30));
    assert_in_range(st.st_blocks, 0, 16);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(layer_create(path, &in, scratch_key, NULL), -EEXIST);
    in.base[0] = 'x';
    scratch_path(&s, "file", 2, path);
    assert_int_equal(layer_create(path, &in, scratch_key, NULL), -EINVAL);
    assert_false(fs_exists(path));
    scratch_end(&s);
}

/* ---- the checker ----------------------------------------------------------------------------- */

enum { BLOCKS = 11, DATA = 8192 }; /* of sample() */

static int damaged(const struct scratch *s)
{
    char path[SCRATCH_PATH];
    unlink(scratch_path(s, "file", 1, path));
    scratch_layer(s, 1, sample().bytes);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char block[LAYER_BLOCK] = {7}, bits[2] = {0x05, 0x04}; /* blocks 0, 2 and 10 */
    assert_int_equal(pwrite(fd, block, sizeof block, DATA), sizeof block);
    assert_int_equal(pwrite(fd, bits, 2, LAYER_BLOCK), 2);
    return fd;
}

static void expect(int fd, uint64_t present, uint64_t leaked, uint64_t errors, const char *text)
{
    struct layer_check c;
    struct err e = {0};
    if (layer_check(fd, &c, &e) < 0)
        fail_msg("%s", e.text);
    close(fd);
    assert_int_equal(c.blocks, BLOCKS);
    assert_int_equal(c.present, present);
    assert_int_equal(c.leaked, leaked);
    assert_int_equal(c.errors, errors);
    if (!strstr(c.first, text))
        fail_msg("'%s' instead of '%s'", c.first, text);
}

static void test_check(void **state)
{
    (void)state;
    struct scratch s;
    scratch_begin(&s);
    int fd = damaged(&s);
    expect(fd, 3, 0, 0, "");

    fd = damaged(&s); /* a write that was cut short */
    assert_int_equal(pwrite(fd, "x", 1, DATA + 4 * LAYER_BLOCK + 99), 1);
    expect(fd, 3, 1, 0, "");

    fd = damaged(&s);
    assert_int_equal(pwrite(fd, "\x0c", 1, LAYER_BLOCK + 1), 1); /* bit 11 */
    expect(fd, 3, 0, 1, "bit 11 is set");

    fd = damaged(&s);
    assert_int_equal(pwrite(fd, "\xff", 1, LAYER_BLOCK + 4095), 1);
    expect(fd, 3, 0, 1, "is set, the disk ends with block 10");

    fd = damaged(&s); /* after the last sector, in the last block */
    assert_int_equal(pwrite(fd, "x", 1, DATA + 10 * LAYER_BLOCK + 512), 1);
    expect(fd, 3, 0, 1, "past the end");

    fd = damaged(&s);
    assert_int_equal(ftruncate(fd, DATA + LAYER_BLOCK + 5), 0);
    expect(fd, 3, 0, 1, "bytes instead of");

    fd = damaged(&s);
    assert_int_equal(ftruncate(fd, LAYER_BLOCK + 1), 0);
    expect(fd, 2, 0, 1, "bytes instead of");

    fd = damaged(&s);
    assert_int_equal(ftruncate(fd, DATA + (BLOCKS + 1) * LAYER_BLOCK), 0);
    expect(fd, 3, 0, 1, "bytes instead of");

    struct layer_check c;
    fd = damaged(&s);
    assert_int_equal(pwrite(fd, "x", 1, 77), 1);
    assert_int_equal(layer_check(fd, &c, NULL), -EBADMSG);
    close(fd);
    scratch_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_encode_refuses),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_malformed_fields),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
