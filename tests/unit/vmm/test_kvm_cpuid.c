/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/kvm/cpuid.h"

/* What KVM says on some Intel server and some AMD server, abridged. */
static const struct cpuid_entry intel[] = {
    {0x0, 0, 0, {0x20, 0x756e6547, 0x6c65746e, 0x49656e69}, {0}},
    {0x1, 0, 0, {0x806f8, 0x2200800, 0xfffaba2f, 0xffffffff}, {0}},
    {0x4, 0, 1, {0xfc004121, 0x2c0003f, 0x3f, 0}, {0}},
    {0x4, 3, 1, {0xfc1fc163, 0x3800000, 0x1bfff, 0}, {0}},
    {0x5, 0, 0, {0x40, 0x40, 3, 0x2020}, {0}}, /* MONITOR */
    {0x6, 0, 0, {0x77, 2, 9, 0}, {0}},
    {0x7, 0, 1, {2, UINT32_MAX, UINT32_MAX, UINT32_MAX}, {0}},
    {0x7, 1, 1, {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}, {0}},
    {0xa, 0, 0, {0x8300805, 0, 0, 0x8603}, {0}}, /* PMU */
    {0xb, 0, 1, {1, 2, 0x100, 77}, {0}},
    {0xd, 0, 1, {0x602e7, 0x2b00, 0x2b00, 0}, {0}},
    {0xd, 1, 1, {0x1f, 0x2990, 0x1800, 0}, {0}},
    {0xd, 2, 1, {0x100, 0x240, 0, 0}, {0}},
    {0xd, 9, 1, {0x8, 0xa80, 0, 0}, {0}},
    {0xd, 18, 1, {0x2000, 0xb00, 6, 0}, {0}}, /* AMX */
    {0x12, 0, 1, {0x3, 0, 0, 0}, {0}},        /* SGX */
    {0x14, 0, 1, {0x1, 0xf, 0, 0}, {0}},      /* PT */
    {0x1f, 0, 1, {1, 2, 0x100, 77}, {0}},
    {0x40000000, 0, 0, {0x40000010, 0x4b4d564b, 0x564b4d56, 0x4d}, {0}},
    {0x40000001, 0, 0, {0x0100fffb, 0, 0, 0x1}, {0}},
    {0x40000010, 0, 0, {0x1e8480, 0, 0, 0}, {0}},
    {0x80000000, 0, 0, {0x80000008, 0, 0, 0}, {0}},
    {0x80000001, 0, 0, {0, 0, 0x121, 0x2c100800}, {0}},
    {0x80000008, 0, 0, {0x3934, 0x200, 0, 0}, {0}},
};

static const struct cpuid_entry amd[] = {
    {0x0, 0, 0, {0x10, 0x68747541, 0x444d4163, 0x69746e65}, {0}},
    {0x1, 0, 0, {0xa20f12, 0x800, 0x7ef8320b, 0x178bfbff}, {0}},
    {0x80000000, 0, 0, {0x80000028, 0x68747541, 0x444d4163, 0x69746e65}, {0}},
    {0x80000001, 0, 0, {0xa20f12, 0x40000000, 0x75c237ff, 0x2fd3fbff}, {0}},
    {0x80000008, 0, 0, {0x3030, UINT32_MAX, 0x4007, 0}, {0}},
    {0x8000000a, 0, 0, {1, 0x8000, 0, 0x119b9cff}, {0}}, /* SVM */
    {0x8000001d, 0, 1, {0x4121, 0x1c0003f, 0x3f, 0}, {0}},
    {0x8000001d, 3, 1, {0x3c163, 0x3c0003f, 0x7fff, 1}, {0}},
    {0x8000001e, 0, 0, {0, 0, 0, 0}, {0}},
    {0x8000001f, 0, 0, {0x1, 0, 0, 0}, {0}}, /* SEV */
};

static struct cpuid_table supported, base, table; /* large */

static void fill(const struct cpuid_entry *e, size_t n)
{
    memset(&supported, 0, sizeof supported);
    supported.n = (uint32_t)n;
    memcpy(supported.entry, e, n * sizeof *e);
    cpuid_template(&supported, true, &base);
}

static struct cpuid_entry *get(struct cpuid_table *t, uint32_t leaf, uint32_t index)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->entry[i].leaf == leaf && t->entry[i].index == index)
            return &t->entry[i];
    return NULL;
}

static uint32_t reg(struct cpuid_table *t, uint32_t leaf, uint32_t index, unsigned r)
{
    struct cpuid_entry *e = get(t, leaf, index);
    assert_non_null(e);
    return e->reg[r];
}

static void test_intel_template(void **state)
{
    (void)state;
    fill(intel, ARRAY_LEN(intel));
    uint32_t c = reg(&base, 1, 0, CPUID_ECX), b = reg(&base, 7, 0, CPUID_EBX);
    assert_int_equal(c & (1 << 3 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 27), 0);
    assert_int_equal(c >> 31 & c >> 24 & c >> 21 & 1, 1);
    assert_int_equal(reg(&base, 1, 0, CPUID_EDX) & (1 << 7 | 1 << 14 | 1 << 21), 0);
    assert_int_equal(b & (1 << 2 | 1 << 4 | 1 << 11 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 25), 0);
    assert_int_equal(b >> 5 & b >> 16 & 1, 1);
    assert_int_equal(reg(&base, 7, 0, CPUID_EDX) & (1 << 18 | 1 << 22 | 1 << 24 | 1 << 25), 0);
    assert_int_equal(reg(&base, 7, 0, CPUID_ECX) & (1 << 4 | 1 << 7 | 1 << 16 | 1 << 30), 0);
    assert_int_equal(reg(&base, 6, 0, CPUID_EAX), 4);
    assert_int_equal(reg(&base, 0xd, 0, CPUID_EAX), 0x2e7);
    assert_int_equal(reg(&base, 0xd, 0, CPUID_ECX), 0xa88); /* up to PKRU, without AMX */
    assert_int_equal(reg(&base, 0x40000000, 0, CPUID_EAX), 0x40000001);
    assert_int_equal(reg(&base, 0x40000001, 0, CPUID_EAX) & (1 << 4 | 1 << 10 | 1 << 14), 0);
    static const uint32_t gone[][2] = {{0x5, 0},  {0xa, 0},  {0xb, 0},  {0xd, 18},
                                       {0x12, 0}, {0x14, 0}, {0x1f, 0}, {0x40000010, 0}};
    for (size_t i = 0; i < ARRAY_LEN(gone); i++)
        assert_null(get(&base, gone[i][0], gone[i][1]));
}

static void test_amd_template(void **state)
{
    (void)state;
    fill(amd, ARRAY_LEN(amd));
    assert_int_equal(reg(&base, 0x80000000, 0, CPUID_EAX), 0x80000021);
    assert_int_equal(reg(&base, 0x80000001, 0, CPUID_ECX) & (1 << 2 | 1 << 23 | 1 << 29), 0);
    assert_null(get(&base, 0x8000000a, 0));
    assert_null(get(&base, 0x8000001f, 0));
    assert_non_null(get(&base, 0x8000001e, 0));
}

static void test_without_deadline(void **state)
{
    (void)state;
    fill(amd, ARRAY_LEN(amd));
    supported.entry[1].reg[CPUID_ECX] = 0;
    cpuid_template(&supported, false, &base);
    assert_int_equal(reg(&base, 1, 0, CPUID_ECX), 1u << 31 | 1u << 21);
}

static void test_stable(void **state)
{
    (void)state;
    fill(intel, ARRAY_LEN(intel));
    cpuid_template(&base, true, &table);
    assert_memory_equal(&base, &table, sizeof base);
}

static void test_topology(void **state)
{
    static const struct {
        unsigned vcpus, index, bits;
    } cases[] = {{1, 0, 0}, {2, 1, 1}, {3, 2, 2}, {4, 0, 2}, {16, 15, 4}};
    (void)state;
    fill(intel, ARRAY_LEN(intel));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned n = cases[i].vcpus, id = cases[i].index, bits = cases[i].bits;
        cpuid_for_vcpu(&base, n, id, &table);
        assert_int_equal(reg(&table, 1, 0, CPUID_EBX), 0x800 | n << 16 | id << 24);
        assert_int_equal(reg(&table, 1, 0, CPUID_EDX) >> 28 & 1, n > 1);
        assert_int_equal(reg(&table, 0xb, 0, CPUID_EBX), 1);
        assert_int_equal(reg(&table, 0xb, 1, CPUID_EAX), bits);
        assert_int_equal(reg(&table, 0xb, 1, CPUID_EBX), n);
        assert_int_equal(reg(&table, 0xb, 2, CPUID_EBX), 0);
        assert_int_equal(reg(&table, 0xb, 2, CPUID_EDX), id);
        assert_int_equal(reg(&table, 4, 0, CPUID_EAX), 0x121 | ((1u << bits) - 1) << 26);
        assert_int_equal(reg(&table, 4, 3, CPUID_EAX),
                         0x163 | ((1u << bits) - 1) << 26 | ((1u << bits) - 1) << 14);
    }
    fill(amd, ARRAY_LEN(amd));
    cpuid_for_vcpu(&base, 3, 2, &table);
    assert_int_equal(reg(&table, 0x80000001, 0, CPUID_ECX) >> 1 & 1, 1);
    assert_int_equal(reg(&table, 0x80000008, 0, CPUID_ECX), 2 | 2 << 12);
    assert_int_equal(reg(&table, 0x8000001e, 0, CPUID_EAX), 2);
    assert_int_equal(reg(&table, 0x8000001e, 0, CPUID_EBX), 2);
    assert_int_equal(reg(&table, 0x8000001d, 0, CPUID_EAX) >> 14, 0);
    assert_int_equal(reg(&table, 0x8000001d, 3, CPUID_EAX) >> 14, 3);
    cpuid_for_vcpu(&base, 1, 0, &table);
    assert_int_equal(reg(&table, 0x80000001, 0, CPUID_ECX) >> 1 & 1, 0);
}

static void test_fits(void **state)
{
    (void)state;
    memset(&supported, 0, sizeof supported);
    supported.n = KVM_CPUID_MAX;
    for (uint32_t i = 0; i < supported.n; i++)
        supported.entry[i] = (struct cpuid_entry){0x4, i, 1, {0x121, 1, 1, 1}, {0}};
    supported.entry[0] = intel[0];
    cpuid_template(&supported, true, &base);
    assert_int_equal(base.n, CPUID_BASE_MAX);
    cpuid_for_vcpu(&base, 16, 3, &table);
    assert_int_equal(table.n, KVM_CPUID_MAX);
}

/* ---- saved tables -----------------------------------------------------------------------------
 */

static void test_subset(void **state)
{
    (void)state;
    struct err e = {0};
    fill(intel, ARRAY_LEN(intel));
    table = base;
    assert_int_equal(cpuid_check(&table, &base, &e), 0);
    get(&table, 7, 0)->reg[CPUID_EBX] &= ~(1u << 16); /* a lesser machine */
    get(&table, 1, 0)->reg[CPUID_EAX] = 0x12345;      /* another model */
    table.n--;
    assert_int_equal(cpuid_check(&table, &base, &e), 0);
}

static void refused(uint32_t leaf, uint32_t index, unsigned r, uint32_t bits, const char *text)
{
    struct err e = {0};
    table = base;
    get(&table, leaf, index)->reg[r] |= bits;
    assert_int_equal(cpuid_check(&table, &base, &e), -ENOTSUP);
    if (!strstr(e.text, text))
        fail_msg("\"%s\" does not say \"%s\"", e.text, text);
}

static void test_missing(void **state)
{
    (void)state;
    fill(intel, ARRAY_LEN(intel));
    refused(0x1, 0, CPUID_ECX, 1 << 5, "leaf 0x1.0, ecx, bits 0x20");
    refused(0x7, 0, CPUID_EBX, 1 << 2 | 1 << 11, "leaf 0x7.0, ebx, bits 0x804");
    refused(0xd, 0, CPUID_EAX, 1 << 18, "leaf 0xd.0, eax, bits 0x40000");
    refused(0x40000001, 0, CPUID_EAX, 1 << 4, "leaf 0x40000001.0, eax, bits 0x10");
    refused(0x80000001, 0, CPUID_ECX, 1 << 2, "leaf 0x80000001.0, ecx, bits 0x4");
    refused(0x80000008, 0, CPUID_EAX, 0x3f, "63 physical address bits, this host's 52");
    struct err e = {0};
    table = base;
    get(&base, 7, 1)->leaf = 0x99; /* a host without that leaf */
    assert_int_equal(cpuid_check(&table, &base, &e), -ENOTSUP);
    assert_non_null(strstr(e.text, "leaf 0x7.1, eax"));
    table.entry[table.n++] = (struct cpuid_entry){0xa, 0, 0, {1, 0, 0, 0}, {0}};
    fill(intel, ARRAY_LEN(intel));
    assert_int_equal(cpuid_check(&table, &base, &e), -ENOTSUP);
    assert_non_null(strstr(e.text, "leaf 0xa.0"));
    table = base; /* the second of two entries for one leaf counts as well */
    table.entry[table.n] = *get(&base, 1, 0);
    table.entry[table.n++].reg[CPUID_ECX] |= 1 << 5;
    assert_int_equal(cpuid_check(&table, &base, &e), -ENOTSUP);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct err e = {0};
    struct state_writer w;
    fill(amd, ARRAY_LEN(amd));
    state_writer_init(&w);
    cpuid_save(&base, &w);
    assert_int_equal(w.failed, 0);
    /* Behind the headers of file and section. */
    assert_int_equal(
        cpuid_decode(w.data + w.len - ((base.n * 28 + 7) & ~7u), base.n * 28, &table, &e), 0);
    assert_memory_equal(&base, &table, sizeof base);
    state_writer_done(&w);
}

static void test_hostile_sizes(void **state)
{
    static const uint8_t p[(CPUID_BASE_MAX + 1) * 28];
    static const size_t bad[] = {0, 1, 27, 29, sizeof p};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        assert_int_equal(cpuid_decode(p, bad[i], &table, &e), -EBADMSG);
        assert_true(e.text[0]);
    }
    struct err e = {0};
    assert_int_equal(cpuid_decode(p, sizeof p - 28, &table, &e), 0);
    cpuid_for_vcpu(&table, 16, 1, &base);
    assert_true(base.n <= KVM_CPUID_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intel_template),   cmocka_unit_test(test_amd_template),
        cmocka_unit_test(test_without_deadline), cmocka_unit_test(test_stable),
        cmocka_unit_test(test_topology),         cmocka_unit_test(test_fits),
        cmocka_unit_test(test_subset),           cmocka_unit_test(test_missing),
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_hostile_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
