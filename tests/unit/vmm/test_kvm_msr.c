/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "vmm/kvm/internal.h"

static struct msr_table table;

static void test_sizes(void **state)
{
    static const struct kvm_msr_entry p[KVM_MSRS_MAX + 1] = {{.index = 0x10, .data = 7}};
    static const size_t bad[] = {1, 15, 17, sizeof p};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        assert_int_equal(msr_decode(p, bad[i], &table, &e), -EBADMSG);
        assert_true(e.text[0]);
    }
    struct err e = {0};
    assert_int_equal(msr_decode(p, 0, &table, &e), 0);
    assert_int_equal(table.n, 0);
    assert_int_equal(msr_decode(p, 32, &table, &e), 0);
    assert_int_equal(table.n, 2);
    assert_int_equal(table.entry[0].index, 0x10);
    assert_int_equal(table.entry[0].data, 7);
    assert_int_equal(msr_decode(p, sizeof p - sizeof p[0], &table, &e), 0);
    assert_int_equal(table.n, KVM_MSRS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
