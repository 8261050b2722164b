/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/vmm/dsdt.asl is this definition block as source. */
#include "vmm/boot/dsdt.h"

#include "vmm/dev/ged.h"
#include "vmm/layout.h"

#define VIRTIO_MMIO_BYTES 0x200

#define OP_STORE 0x70
#define OP_LOCAL0 0x60
#define OP_AND 0x7b
#define OP_NOTIFY 0x86
#define OP_REGION 0x805b /* extended opcodes, first byte low */
#define REGION_MEMORY 0
#define FIELD_DWORD 3          /* access; no lock, preserve */
#define METHOD_SERIALIZED 0x08 /* the low bits count arguments */
#define NOTIFY_CHANGED 0x80

static void write_virtio(struct aml *a, unsigned slot)
{
    char name[4] = {'V', 'R', (char)('0' + slot / 10), (char)('0' + slot % 10)};
    size_t device = aml_device(a, name);
    aml_named_string(a, "_HID", "LNRO0005");
    aml_named_integer(a, "_UID", slot);
    aml_named_resources(
        a, &(struct aml_resources){
               .memory_base = (uint32_t)(LAYOUT_VIRTIO_BASE + slot * LAYOUT_VIRTIO_STRIDE),
               .memory_bytes = VIRTIO_MMIO_BYTES,
               .irq = (int)(LAYOUT_IRQ_VIRTIO + slot),
           });
    aml_close(a, device);
}

static void write_isa(struct aml *a, const char *name, const char *id,
                      const struct aml_resources *r)
{
    size_t device = aml_device(a, name);
    aml_named_eisa(a, "_HID", id);
    aml_named_integer(a, "_UID", 1);
    aml_named_integer(a, "_STA", 0x0f);
    aml_named_resources(a, r);
    aml_close(a, device);
}

static void write_ids(struct aml *a, const char *hid, const char *cid)
{
    aml_named_string(a, "_HID", hid);
    aml_named_string(a, "_CID", cid);
    aml_named_string(a, "_DDN", cid);
}

/* "Virtual Machine Generation ID" (Microsoft, 2012). ADDR is {low, high} half of the address. Linux
 * (drivers/virt/vmgenid.c) matches the _CID, in capitals after ACPICA's repair. */
static void write_vmgenid(struct aml *a)
{
    size_t device = aml_device(a, "VGEN");
    write_ids(a, "TNDR0001", "VM_Gen_Counter");
    aml_named(a, "ADDR");
    size_t package = aml_open(a, AML_PACKAGE);
    aml_number(a, 2, 1);
    aml_integer(a, LAYOUT_VMGENID_ID);
    aml_integer(a, 0);
    aml_close(a, package);
    aml_close(a, device);
}

/* As QEMU and EC2 describe it (Linux drivers/ptp/ptp_vmclock.c). */
static void write_vmclock(struct aml *a)
{
    size_t device = aml_device(a, "VCLK");
    write_ids(a, "AMZNC10C", "VMCLOCK");
    aml_named_resources(a, &(struct aml_resources){.memory_base = LAYOUT_VMCLOCK,
                                                   .memory_bytes = GMEM_PAGE,
                                                   .irq = -1});
    aml_close(a, device);
}

/* Method (_EVT, 1, Serialized) { Local0 = ESEL; If (Local0 & 1) { Notify (VGEN, 0x80) } } */
static void write_event_method(struct aml *a)
{
    size_t method = aml_open(a, AML_METHOD);
    aml_name(a, "_EVT");
    aml_number(a, METHOD_SERIALIZED | 1, 1);
    aml_number(a, OP_STORE, 1);
    aml_name(a, "ESEL");
    aml_number(a, OP_LOCAL0, 1);
    size_t condition = aml_open(a, AML_IF);
    aml_number(a, OP_AND | OP_LOCAL0 << 8, 2);
    aml_integer(a, GED_EVENT_VMGENID);
    aml_number(a, 0, 1); /* no target */
    aml_number(a, OP_NOTIFY, 1);
    aml_name(a, "VGEN");
    aml_integer(a, NOTIFY_CHANGED);
    aml_close(a, condition);
    aml_close(a, method);
}

/* Generic event device (ACPI 6.4 §5.6.9): the selector register is the 32-bit field ESEL. */
static void write_ged(struct aml *a)
{
    size_t device = aml_device(a, "GED_");
    aml_named_string(a, "_HID", "ACPI0013");
    aml_named_integer(a, "_UID", 0);
    aml_named_resources(a, &(struct aml_resources){.irq = LAYOUT_IRQ_GED});
    aml_number(a, OP_REGION, 2);
    aml_name(a, "EREG");
    aml_number(a, REGION_MEMORY, 1);
    aml_integer(a, LAYOUT_GED_BASE);
    aml_integer(a, 4);
    size_t field = aml_open(a, AML_FIELD);
    aml_name(a, "EREG");
    aml_number(a, FIELD_DWORD, 1);
    aml_name(a, "ESEL");
    aml_number(a, 32, 1); /* bits */
    aml_close(a, field);
    write_event_method(a);
    aml_close(a, device);
}

/* Name (_S5, Package { 5, 0, 0, 0 }): the type that goes into the sleep control register. */
static void write_s5(struct aml *a)
{
    aml_named(a, "_S5_");
    size_t package = aml_open(a, AML_PACKAGE);
    aml_number(a, 4, 1);
    aml_integer(a, 5);
    for (int i = 0; i < 3; i++)
        aml_integer(a, 0);
    aml_close(a, package);
}

void dsdt_write(struct aml *a, const struct acpi_config *c)
{
    size_t scope = aml_open(a, AML_SCOPE);
    aml_name(a, "_SB_");
    write_isa(a, "COM1", "PNP0501",
              &(struct aml_resources){
                  .port_base = LAYOUT_PORT_SERIAL, .ports = 8, .irq = LAYOUT_IRQ_SERIAL});
    write_isa(
        a, "RTC_", "PNP0B00",
        &(struct aml_resources){.port_base = LAYOUT_PORT_RTC, .ports = 2, .irq = LAYOUT_IRQ_RTC});
    for (unsigned i = 0; i < c->n_virtio; i++)
        write_virtio(a, i);
    write_vmgenid(a);
    if (c->vmclock)
        write_vmclock(a);
    write_ged(a);
    aml_close(a, scope);
    write_s5(a);
}
