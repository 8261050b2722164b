/* SPDX-License-Identifier: Apache-2.0 */
/* Port and memory-mapped accesses. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness.h"

static struct micro m; /* too large for a stack */

static void expect(const struct micro_recorder *r, unsigned n, bool write, unsigned len,
                   uint64_t offset, uint64_t value)
{
    const struct micro_access *a = &r->log[n];
    if (n < r->n && a->write == write && a->len == len && a->offset == offset && a->value == value)
        return;
    fprintf(stderr, "access %u of %u: %s of %u bytes at %llx: %llx; expected %s %u %llx: %llx\n", n,
            r->n, a->write ? "write" : "read", a->len, (unsigned long long)a->offset,
            (unsigned long long)a->value, write ? "write" : "read", len, (unsigned long long)offset,
            (unsigned long long)value);
    exit(1);
}

static void test_ports(const char *guest)
{
    micro_new(&m, 1, -1);
    micro_start(&m, guest, BOOT_MODE_FLAT16);
    micro_run_to_end(&m);
    unsigned n = 0;
    expect(&m.port, n++, true, 1, 0, 0x11);
    expect(&m.port, n++, true, 2, 1, 0x2211);
    expect(&m.port, n++, true, 4, 4, 0x44332211);
    expect(&m.port, n++, false, 1, 3, 0xa3);
    expect(&m.port, n++, false, 2, 3, 0xa4a3);
    expect(&m.port, n++, false, 4, 3, 0xa6a5a4a3);
    expect(&m.port, n++, false, 2, 14, 0xafae);
    for (unsigned i = 0; i < 5; i++)
        expect(&m.port, n++, true, 1, 0, i + 1);
    for (unsigned i = 0; i < 5; i++)
        expect(&m.port, n++, true, 2, 0, 2 * i + 1 + ((2 * i + 2) << 8));
    for (unsigned i = 0; i < 5; i++)
        expect(&m.port, n++, true, 4, 0, 0x04030201 + i * 0x04040404);
    n += 12; /* string input: judged by what arrived */
    CHECK(m.port.n == n);
    static const uint32_t result[] = {0xa3,       0xa4a3,     0xa6a5a4a3, UINT32_MAX, 0xffffafae,
                                      0xff,       0xffff,     UINT32_MAX, 0xa0a0a0a0, 0xa1a0a1a0,
                                      0xa1a0a1a0, 0xa3a2a1a0, 0xa3a2a1a0, 0xa3a2a1a0, 0xa3a2a1a0};
    for (unsigned i = 0; i < ARRAY_LEN(result); i++)
        CHECK(micro_result(&m, i) == result[i]);
    micro_free(&m);
}

static void test_mmio(const char *guest)
{
    micro_new(&m, 1, -1);
    micro_start(&m, guest, BOOT_MODE_PVH32);
    micro_run_to_end(&m);
    unsigned n = 0;
    for (unsigned at = 0; at < 4; at++) {
        expect(&m.window, n++, true, 1, at, 0x11);
        expect(&m.window, n++, true, 2, at, 0x2211);
        expect(&m.window, n++, true, 4, at, 0x44332211);
        expect(&m.window, n++, false, 1, at, 0xa0 + at);
        expect(&m.window, n++, false, 2, at, 0xa1a0 + at * 0x0101);
        expect(&m.window, n++, false, 4, at, 0xa3a2a1a0 + at * 0x01010101);
        CHECK(micro_result(&m, at) == 0xa3a2a1a0 + at * 0x01010101);
    }
    CHECK(micro_result(&m, 4) == UINT32_MAX && micro_result(&m, 5) == 0xffff);
    CHECK(micro_result(&m, 6) == 0x9f && micro_result(&m, 7) == 0xffffffa1);
    expect(&m.window, n++, false, 1, 0x1ff, 0x9f);
    expect(&m.window, n++, false, 1, 1, 0xa1);
    for (unsigned i = 0; i < 3; i++)
        expect(&m.window, n++, true, 4, 8 + 4 * i, 0x01020304);
    for (unsigned i = 0; i < 2; i++)
        expect(&m.window, n++, false, 4, 8 + 4 * i, 0xabaaa9a8 + i * 0x04040404);
    CHECK(micro_result(&m, 8) == 0xabaaa9a8 && micro_result(&m, 9) == 0xafaeadac);
    CHECK(m.window.n == n);
    micro_free(&m);
}

static void test_mmio64(const char *guest)
{
    micro_new(&m, 1, -1);
    micro_start(&m, guest, BOOT_MODE_LONG64);
    micro_run_to_end(&m);
    expect(&m.window, 0, true, 8, 8, UINT64_C(0x8877665544332211));
    expect(&m.window, 1, true, 8, 3, UINT64_C(0x8877665544332211));
    expect(&m.window, 2, false, 8, 16, UINT64_C(0xb7b6b5b4b3b2b1b0));
    expect(&m.window, 3, false, 8, 5, UINT64_C(0xacabaaa9a8a7a6a5));
    CHECK(m.window.n == 4);
    uint64_t result[3];
    memcpy(result, micro_ram(&m, MICRO_RESULT, sizeof result), sizeof result);
    CHECK(result[0] == UINT64_C(0xb7b6b5b4b3b2b1b0) && result[1] == UINT64_C(0xacabaaa9a8a7a6a5));
    CHECK(result[2] == UINT64_MAX);
    micro_free(&m);
}

static void test_unclaimed(const char *guest)
{
    micro_new(&m, 1, -1);
    micro_start(&m, guest, BOOT_MODE_PVH32);
    micro_run_to_end(&m);
    static const uint32_t ones[] = {UINT32_MAX, 0xffff, 0xff};
    for (unsigned i = 0; i < 15; i++)
        CHECK(micro_result(&m, i) == ones[i % 3]);
    CHECK(micro_result(&m, 15) == 0xffff5678); /* the half that is RAM was written */
    CHECK(m.window.n == 0);
    micro_free(&m);
}

static void test_ioeventfd(const char *guest)
{
    struct err e = {0};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(fd >= 0);
    micro_new(&m, 1, -1);
    CHECK(kvm_vm_ioeventfd(m.vm, MICRO_MMIO + 0x50, 3, fd, &e) == 0);
    CHECK(kvm_vm_ioeventfd(m.vm, MICRO_MMIO + 0x50, 3, fd, &e) == -EEXIST && e.text[0]);
    micro_start(&m, guest, BOOT_MODE_PVH32);
    micro_run_to_end(&m);
    uint64_t count = 0;
    CHECK(read(fd, &count, sizeof count) == sizeof count && count == 2);
    expect(&m.window, 0, true, 2, 0x50, 3);
    expect(&m.window, 1, true, 4, 0x54, 3);
    expect(&m.window, 2, true, 4, 0x50, 4);
    CHECK(m.window.n == 3);
    CHECK(vcpu_exits(kvm_vm_vcpu(m.vm, 0)) == 4); /* those and the end */
    micro_free(&m);
    close(fd);
}

const struct micro_test micro_io_tests[] = {
    {"ports", test_ports, NULL},         {"mmio", test_mmio, NULL},
    {"mmio64", test_mmio64, NULL},       {"unclaimed", test_unclaimed, NULL},
    {"ioeventfd", test_ioeventfd, NULL}, {0}};
