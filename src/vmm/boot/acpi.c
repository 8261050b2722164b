/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables lie one behind the other from LAYOUT_ACPI: RSDP, DSDT, FADT, MADT, XSDT, each aligned
 * to 16 bytes. The machine is "hardware-reduced": no ACPI timer, no fixed events, no PIC or PIT,
 * which is what keeps Linux from looking for them. It is left through the sleep control and reset
 * registers (dev/ged.h).
 */
#include "vmm/boot/acpi.h"

#include <errno.h>
#include <string.h>

#include "vmm/boot/dsdt.h"
#include "vmm/boot/vmclock.h"
#include "vmm/layout.h"

#define OEM_ID "TNDRBX"
#define OEM_TABLE_ID "TNDRVMM "
#define HEADER_BYTES 36
#define VCPUS_MAX 255 /* an 8-bit APIC id each */

#define FADT_BYTES 276
#define FADT_DSDT 40
#define FADT_X_DSDT 140

#define BYTE_PORT 0x01000801 /* generic address (§5.2.3.2): system I/O, 8 bits, byte access */

/* Fixed ACPI description table, revision 6 (§5.2.9): what is constant and not zero. */
static const struct {
    uint16_t offset, bytes;
    uint32_t value;
} fadt_fields[] = {
    {45, 1, 4},       /* profile: enterprise server */
    {108, 1, 0x32},   /* the RTC's century byte */
    {109, 2, 1 << 2}, /* no VGA; and no i8042, no legacy devices: those bits are clear */
    /* WBINVD works; power and sleep button are not fixed ones; reset register; hardware-reduced */
    {112, 4, 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20},
    {116, 4, BYTE_PORT},
    {120, 8, LAYOUT_PORT_RESET},
    {128, 1, 1}, /* what resets */
    {131, 1, 4}, /* minor version: ACPI 6.4 */
    {244, 4, BYTE_PORT},
    {248, 8, LAYOUT_PORT_SLEEP}, /* control */
    {256, 4, BYTE_PORT},
    {260, 8, LAYOUT_PORT_SLEEP + 1}, /* status */
    {268, 4, 0x52444e54},            /* hypervisor: "TNDR" */
};

static void put_at(uint8_t *p, size_t offset, uint64_t v, unsigned bytes)
{
    struct aml a = {.p = p + offset, .cap = bytes};
    aml_number(&a, v, bytes);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    while (n--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

static void align(struct aml *a)
{
    static const uint8_t zero[16];
    aml_bytes(a, zero, -a->n & 15);
}

/* Starts a table (§5.2.6); length and checksum follow in end_table(). */
static size_t begin_table(struct aml *a, const char *signature, unsigned revision)
{
    align(a);
    size_t start = a->n;
    aml_bytes(a, signature, 4);
    aml_number(a, 0, 4);
    aml_number(a, revision, 1);
    aml_number(a, 0, 1);
    aml_bytes(a, OEM_ID OEM_TABLE_ID, 14);
    aml_number(a, 1, 4); /* OEM revision */
    aml_bytes(a, "TNDR", 4);
    aml_number(a, 1, 4); /* creator and its revision */
    return start;
}

/* Returns the table's guest physical address. */
static uint64_t end_table(struct aml *a, size_t start)
{
    uint8_t *p = a->p + start;
    if (!a->full) {
        put_at(p, 4, a->n - start, 4);
        p[9] = checksum(p, a->n - start);
    }
    return LAYOUT_ACPI + start;
}

static uint64_t write_dsdt(struct aml *a, const struct acpi_config *c)
{
    size_t start = begin_table(a, "DSDT", 2); /* 2: integers have 64 bits */
    dsdt_write(a, c);
    return end_table(a, start);
}

static uint64_t write_fadt(struct aml *a, uint64_t dsdt)
{
    uint8_t f[FADT_BYTES] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(fadt_fields); i++)
        put_at(f, fadt_fields[i].offset, fadt_fields[i].value, fadt_fields[i].bytes);
    put_at(f, FADT_DSDT, dsdt, 4);
    put_at(f, FADT_X_DSDT, dsdt, 8);
    size_t start = begin_table(a, "FACP", 6);
    aml_bytes(a, f + HEADER_BYTES, sizeof f - HEADER_BYTES);
    return end_table(a, start);
}

/* §5.2.12. No PCAT_COMPAT flag: there are no 8259s. */
static uint64_t write_madt(struct aml *a, unsigned vcpus)
{
    size_t start = begin_table(a, "APIC", 5);
    aml_number(a, LAYOUT_LAPIC_BASE, 4);
    aml_number(a, 0, 4);
    for (unsigned i = 0; i < vcpus; i++) {
        aml_number(a, 0 | 8 << 8, 2); /* processor local APIC, 8 bytes */
        aml_number(a, i | i << 8, 2); /* processor uid, APIC id */
        aml_number(a, 1, 4);          /* enabled */
    }
    aml_number(a, 1 | 12 << 8, 2); /* I/O APIC, 12 bytes */
    aml_number(a, 0, 2);           /* its id */
    aml_number(a, LAYOUT_IOAPIC_BASE, 4);
    aml_number(a, 0, 4); /* first interrupt */
    return end_table(a, start);
}

static uint64_t write_xsdt(struct aml *a, uint64_t fadt, uint64_t madt)
{
    size_t start = begin_table(a, "XSDT", 1);
    aml_number(a, fadt, 8);
    aml_number(a, madt, 8);
    return end_table(a, start);
}

#define RSDP_BYTES 36
#define RSDP_BYTES_V1 20

static void write_rsdp(uint8_t p[RSDP_BYTES], uint64_t xsdt)
{
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, OEM_ID, 6);
    p[15] = 2; /* revision */
    put_at(p, 20, RSDP_BYTES, 4);
    put_at(p, 24, xsdt, 8);
    p[8] = checksum(p, RSDP_BYTES_V1);
    p[32] = checksum(p, RSDP_BYTES);
}

int acpi_build(const struct gmem *m, const struct acpi_config *c, uint64_t *rsdp, struct err *e)
{
    size_t room = LAYOUT_ACPI_END - LAYOUT_ACPI;
    struct aml a = {.p = gmem_ptr(m, LAYOUT_ACPI, room), .cap = room};
    static const uint8_t zero[RSDP_BYTES];
    if (c->vcpus == 0 || c->vcpus > VCPUS_MAX || c->n_virtio > LAYOUT_VIRTIO_MAX || !a.p)
        return err_set(e, EINVAL, "ACPI tables: no such machine (%u vCPUs, %u virtio devices)",
                       c->vcpus, c->n_virtio);
    aml_bytes(&a, zero, sizeof zero);
    uint64_t dsdt = write_dsdt(&a, c);
    uint64_t fadt = write_fadt(&a, dsdt);
    uint64_t madt = write_madt(&a, c->vcpus);
    uint64_t xsdt = write_xsdt(&a, fadt, madt);
    if (a.full)
        return err_set(e, ENOSPC, "ACPI tables: more than %zu bytes", room);
    write_rsdp(a.p, xsdt);
    if (c->vmclock)
        vmclock_init(m);
    *rsdp = LAYOUT_ACPI;
    return 0;
}
