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

/* Fixed ACPI description table, revision 6 (§5.2.9): the fields that are not zero. */
#define FADT_BYTES 276
#define FADT_DSDT 40
#define FADT_PROFILE 45
#define FADT_CENTURY 108
#define FADT_BOOT_ARCH 109
#define FADT_FLAGS 112
#define FADT_RESET_REGISTER 116
#define FADT_RESET_VALUE 128
#define FADT_MINOR 131
#define FADT_X_DSDT 140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS 256
#define FADT_HYPERVISOR 268

#define PROFILE_ENTERPRISE_SERVER 4
#define BOOT_ARCH_NO_VGA (1u << 2) /* and no i8042, no legacy devices: those bits are clear */
#define FLAG_WBINVD (1u << 0)
#define FLAG_POWER_BUTTON (1u << 4) /* if there is one, the DSDT has it: no fixed one */
#define FLAG_SLEEP_BUTTON (1u << 5)
#define FLAG_RESET_REGISTER (1u << 10)
#define FLAG_HW_REDUCED (1u << 20)
#define CMOS_CENTURY 0x32

struct tables {
    struct aml a;
    uint64_t gpa; /* of a.p */
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
static uint64_t end_table(struct tables *t, size_t start)
{
    uint8_t *p = t->a.p + start;
    size_t n = t->a.n - start;
    if (!t->a.full) {
        put_at(p, 4, n, 4);
        p[9] = checksum(p, n);
    }
    return t->gpa + start;
}

static uint64_t write_dsdt(struct tables *t, const struct acpi_config *c)
{
    size_t start = begin_table(&t->a, "DSDT", 2); /* 2: integers have 64 bits */
    dsdt_write(&t->a, c);
    return end_table(t, start);
}

/* Generic address structure (§5.2.3.2) of a byte-wide port. */
static void put_port(uint8_t *p, size_t offset, uint16_t port)
{
    put_at(p, offset, 0x01000801, 4); /* system I/O, 8 bits at bit 0, byte access */
    put_at(p, offset + 4, port, 8);
}

static uint64_t write_fadt(struct tables *t, uint64_t dsdt)
{
    uint8_t f[FADT_BYTES] = {0};
    put_at(f, FADT_DSDT, dsdt, 4);
    put_at(f, FADT_PROFILE, PROFILE_ENTERPRISE_SERVER, 1);
    put_at(f, FADT_CENTURY, CMOS_CENTURY, 1);
    put_at(f, FADT_BOOT_ARCH, BOOT_ARCH_NO_VGA, 2);
    put_at(f, FADT_FLAGS,
           FLAG_WBINVD | FLAG_POWER_BUTTON | FLAG_SLEEP_BUTTON | FLAG_RESET_REGISTER |
               FLAG_HW_REDUCED,
           4);
    put_port(f, FADT_RESET_REGISTER, LAYOUT_PORT_RESET);
    put_at(f, FADT_RESET_VALUE, 1, 1);
    put_at(f, FADT_MINOR, 4, 1);
    put_at(f, FADT_X_DSDT, dsdt, 8);
    put_port(f, FADT_SLEEP_CONTROL, LAYOUT_PORT_SLEEP);
    put_port(f, FADT_SLEEP_STATUS, LAYOUT_PORT_SLEEP + 1);
    memcpy(f + FADT_HYPERVISOR, OEM_ID, 6);
    size_t start = begin_table(&t->a, "FACP", 6);
    aml_bytes(&t->a, f + HEADER_BYTES, sizeof f - HEADER_BYTES);
    return end_table(t, start);
}

/* §5.2.12. No PCAT_COMPAT flag: there are no 8259s. */
static uint64_t write_madt(struct tables *t, unsigned vcpus)
{
    struct aml *a = &t->a;
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
    return end_table(t, start);
}

static uint64_t write_xsdt(struct tables *t, uint64_t fadt, uint64_t madt)
{
    size_t start = begin_table(&t->a, "XSDT", 1);
    aml_number(&t->a, fadt, 8);
    aml_number(&t->a, madt, 8);
    return end_table(t, start);
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
    struct tables t = {.a = {.p = gmem_ptr(m, LAYOUT_ACPI, room), .cap = room}, .gpa = LAYOUT_ACPI};
    static const uint8_t zero[RSDP_BYTES];
    if (c->vcpus == 0 || c->vcpus > VCPUS_MAX || c->n_virtio > LAYOUT_VIRTIO_MAX || !t.a.p)
        return err_set(e, EINVAL, "ACPI tables: no such machine (%u vCPUs, %u virtio devices)",
                       c->vcpus, c->n_virtio);
    aml_bytes(&t.a, zero, sizeof zero);
    uint64_t dsdt = write_dsdt(&t, c);
    uint64_t fadt = write_fadt(&t, dsdt);
    uint64_t madt = write_madt(&t, c->vcpus);
    uint64_t xsdt = write_xsdt(&t, fadt, madt);
    if (t.a.full)
        return err_set(e, ENOSPC, "ACPI tables: more than %zu bytes", room);
    write_rsdp(t.a.p, xsdt);
    if (c->vmclock)
        vmclock_init(m);
    *rsdp = LAYOUT_ACPI;
    return 0;
}
