/* SPDX-License-Identifier: Apache-2.0 */
/* Input: vCPUs, virtio devices, VMClock, 16 bits of buffer size. Tables of any machine are well
 * formed; a buffer that is too small is never written past its end. */
#include <stdlib.h>

#include "../../unit/vmm/aml_check.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/dsdt.h"
#include "vmm/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static uint64_t get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static const uint8_t *table(const struct gmem *m, uint64_t gpa, const char *signature, uint32_t *n)
{
    check(gpa >= LAYOUT_ACPI && gpa < LAYOUT_ACPI_END);
    const uint8_t *p = gmem_ptr(m, gpa, LAYOUT_ACPI_END - gpa);
    check(acpi_check_table(p, LAYOUT_ACPI_END - gpa, signature, n));
    return p;
}

static void check_tables(const struct gmem *m, const struct acpi_config *c, uint64_t rsdp)
{
    uint32_t n;
    struct aml_in in;
    const uint8_t *p = gmem_ptr(m, rsdp, 36);
    check(p && memcmp(p, "RSD PTR ", 8) == 0);
    const uint8_t *xsdt = table(m, get(p + 24, 8), "XSDT", &n);
    const uint8_t *fadt = table(m, get(xsdt + 36, 8), "FACP", &n);
    (void)table(m, get(xsdt + 44, 8), "APIC", &n);
    check(n == 44 + 8 * c->vcpus + 12);
    const uint8_t *dsdt = table(m, get(fadt + 140, 8), "DSDT", &n);
    check(aml_check(&in, dsdt + 36, n - 36));
    check(in.devices == c->n_virtio + 4 + c->vmclock);
}

static void write_into(const struct acpi_config *c, size_t cap)
{
    struct aml_in in;
    struct aml a = {.p = malloc(cap ? cap : 1), .cap = cap};
    check(a.p != NULL);
    dsdt_write(&a, c);
    check(a.n <= cap && (a.full || aml_check(&in, a.p, a.n)));
    free(a.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gmem m;
    struct err e;
    uint64_t rsdp = 0;
    if (size < 5)
        return 0;
    if (!m.host)
        check(gmem_reserve(&m, 2 << 20, &e) == 0 && gmem_map_zero(&m, false, &e) == 0);
    struct acpi_config c = {.vcpus = data[0], .n_virtio = data[1] % 32, .vmclock = data[2] & 1};
    int r = acpi_build(&m, &c, &rsdp, &e);
    check((r < 0) == (c.vcpus == 0 || c.n_virtio > LAYOUT_VIRTIO_MAX));
    if (r == 0) {
        check_tables(&m, &c, rsdp);
        write_into(&c, get(data + 3, 2) % 4096);
    }
    return 0;
}
