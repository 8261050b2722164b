/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/manifest.h"

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct manifest sample(void)
{
    struct manifest m = {
        .kind = MANIFEST_SNAPSHOT,
        .engine = "qemu",
        .engine_version = "7.2.22",
        .cpu = "max,-la57",
        .machine = HEX64,
        .memory_mib = 512,
        .vcpus = 2,
        .tsc_khz = 2300000,
        .network = true,
        .disk_bytes = {8u << 20, 0, 512},
        .n_disks = 3,
        .files = {{"state", 63000, MANIFEST_PLAIN, HEX64},
                  {"memory", 512u << 20, MANIFEST_SPARSE, HEX64}},
        .n_files = 2,
    };
    return m;
}

static char *encode(const struct manifest *m)
{
    struct buf b = BUF_INIT(MANIFEST_MAX);
    struct err e = {0};
    assert_int_equal(manifest_encode(m, &b, &e), 0);
    return buf_take(&b);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct manifest m = sample(), back;
    struct err e = {0};
    char *text = encode(&m);
    assert_int_equal(manifest_decode(text, strlen(text), &back, &e), 0);
    assert_int_equal(manifest_compare(&m, &back, &e), 0);
    assert_int_equal(back.kind, m.kind);
    assert_int_equal(back.n_files, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_string_equal(back.files[i].name, m.files[i].name);
        assert_int_equal(back.files[i].bytes, m.files[i].bytes);
        assert_int_equal(back.files[i].how, m.files[i].how);
        assert_string_equal(back.files[i].digest, m.files[i].digest);
    }
    assert_ptr_equal(manifest_find(&back, "memory"), &back.files[1]);
    assert_null(manifest_find(&back, "other"));
    free(text);
}

/* No single flipped bit may go unnoticed. A few only change white space or the case of nothing that
 * is read; those must then decode to the same manifest. */
static void test_every_bit(void **state)
{
    (void)state;
    struct manifest m = sample(), back;
    char *text = encode(&m);
    size_t n = strlen(text), accepted = 0;
    for (size_t i = 0; i < n * 8; i++) {
        struct err e = {0};
        text[i / 8] = (char)(text[i / 8] ^ (1 << (i % 8)));
        int r = manifest_decode(text, n, &back, &e);
        if (r == 0) {
            accepted++;
            assert_int_equal(manifest_compare(&m, &back, &e), 0);
            assert_memory_equal(m.files, back.files, sizeof m.files);
        } else {
            assert_int_equal(r, -EBADMSG);
        }
        text[i / 8] = (char)(text[i / 8] ^ (1 << (i % 8)));
    }
    assert_true(accepted < 16);
    free(text);
}

struct bad {
    const char *find, *put; /* in the compact body */
    const char *word;       /* of the error */
};

static const struct bad bad[] = {
    {"\"format\":1", "\"format\":2", "format 2"},
    {"\"kind\":\"snapshot\"", "\"kind\":\"other\"", "missing or out of range"},
    {"\"memoryMiB\":512", "\"memoryMiB\":-1", "out of range"},
    {"\"vcpus\":2", "\"vcpus\":\"2\"", "out of range"},
    {"\"vcpus\":2", "\"vcpus\":99999999", "out of range"},
    {"\"name\":\"state\"", "\"name\":\"../x\"", "out of range"},
    {"\"name\":\"state\"", "\"name\":\"\"", "out of range"},
    {"\"sparse-sha256\"", "\"md5\"", "out of range"},
    {"\"network\":true", "\"network\":1", "out of range"},
    {"\"diskBytes\":[", "\"diskBytes\":[1,1,1,1,", "out of range"},
    {"\"engine\":\"qemu\"", "\"engine\":null", "out of range"},
    {"\"bytes\":63000", "\"bytes\":-63000", "out of range"},
};

/* Replaces text in the body and makes the digest right again. */
static char *forge(const char *text, const struct bad *b)
{
    const char *start = strstr(text, "{\"body\":") + 8, *end = strstr(text, ",\n\"sha256\"");
    char body[4096], out[5000], hex[SHA256_HEX_LEN + 1];
    const char *at = strstr(text, b->find);
    assert_non_null(at);
    snprintf(body, sizeof body, "%.*s%s%.*s", (int)(at - start), start, b->put,
             (int)(end - at - (ptrdiff_t)strlen(b->find)), at + strlen(b->find));
    sha256_hex_of(body, strlen(body), hex);
    snprintf(out, sizeof out, "{\"body\":%s,\n\"sha256\":\"%s\"}\n", body, hex);
    return strdup(out);
}

static void test_bad_bodies(void **state)
{
    (void)state;
    struct manifest m = sample(), back;
    char *text = encode(&m);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        char *forged = forge(text, &bad[i]);
        int r = manifest_decode(forged, strlen(forged), &back, &e);
        if (r != -EBADMSG || !strstr(e.text, bad[i].word))
            fail_msg("row %zu: %d '%s'", i, r, e.text);
        free(forged);
    }
    struct err e = {0};
    assert_int_equal(manifest_decode("", 0, &back, &e), -EBADMSG);
    assert_int_equal(manifest_decode("{}", 2, &back, &e), -EBADMSG);
    free(text);
}

static void test_compare(void **state)
{
    (void)state;
    const struct manifest have = sample();
    struct err e = {0};
    static const char *const words[] = {"engine",  "7.2.23", "CPU",    "MiB",     "processors",
                                        "network", "disks",  "disk 1", "counter", "hardware"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct manifest need = have;
        switch (i) {
        case 0:
            strcpy(need.engine, "kvm");
            break;
        case 1:
            strcpy(need.engine_version, "7.2.23");
            break;
        case 2:
            strcpy(need.cpu, "max");
            break;
        case 3:
            need.memory_mib = 1024;
            break;
        case 4:
            need.vcpus = 1;
            break;
        case 5:
            need.network = false;
            break;
        case 6:
            need.n_disks = 2;
            break;
        case 7:
            need.disk_bytes[1] = 1;
            break;
        case 8:
            need.tsc_khz += need.tsc_khz / 100;
            break;
        case 9:
            need.machine[3] = 'f';
            break;
        }
        assert_int_equal(manifest_compare(&have, &need, &e), -EBADMSG);
        if (!strstr(e.text, words[i]))
            fail_msg("'%s' does not mention '%s'", e.text, words[i]);
    }
    struct manifest near = have;
    near.tsc_khz += 1000; /* two measurements of one processor */
    assert_int_equal(manifest_compare(&have, &near, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
