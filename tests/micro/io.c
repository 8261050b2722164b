/* SPDX-License-Identifier: Apache-2.0 */
/* Port and memory-mapped accesses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

const struct micro_test micro_io_tests[] = {{"ports", test_ports}, {NULL, NULL}};
const struct micro_test micro_cpu_tests[] = {{NULL, NULL}};
const struct micro_test micro_state_tests[] = {{NULL, NULL}};
