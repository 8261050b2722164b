/* SPDX-License-Identifier: Apache-2.0 */
/* The check values of the CRC catalogues and the digests' test vectors, for "123456789". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "api/s3_checksum.h"
#include "base/encode.h"

static const struct {
    const char *header;
    const char *hex;
} CASES[] = {
    {"x-amz-checksum-crc32", "cbf43926"},
    {"X-Amz-Checksum-CRC32C", "e3069283"},
    {"x-amz-checksum-crc64nvme", "ae8b14860a799888"},
    {"x-amz-checksum-sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"},
    {"x-amz-checksum-sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"},
};

static void digest(const struct s3_algorithm *a, const char *text, char hex[65])
{
    struct s3_checksum c;
    unsigned char raw[EVP_MAX_MD_SIZE];
    s3_checksum_begin(&c, a);
    for (size_t i = 0; i < strlen(text); i++) /* in pieces */
        s3_checksum_add(&c, text + i, 1);
    s3_checksum_end(&c, raw);
    hex_encode(hex, raw, a->bytes);
}

static void test_check_values(void **state)
{
    (void)state;
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        const struct s3_algorithm *a = s3_algorithm_find(slice_from(CASES[i].header));
        assert_non_null(a);
        digest(a, "123456789", hex);
        assert_string_equal(hex, CASES[i].hex);
    }
    digest(&S3_MD5, "123456789", hex);
    assert_string_equal(hex, "25f9e794323b453885f5181f1b624d0b");
    assert_null(s3_algorithm_find(slice_from("x-amz-checksum-other")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_check_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
