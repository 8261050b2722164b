/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are: guest physical addresses, ports, interrupts. Part of what a snapshot depends
 * on: a change here is a new MONITOR_VERSION. */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

#include <stdint.h>

/* Low memory. The first megabyte is RAM, reported as usual (EBDA and above reserved). */
#define LAYOUT_PVH_INFO 0x6000u  /* struct hvm_start_info and what it points to, one page */
#define LAYOUT_ZERO_PAGE 0x7000u /* struct boot_params */
#define LAYOUT_GDT 0x500u
#define LAYOUT_PAGE_TABLES 0x9000u /* PML4, PDPT, 4 PDs: 6 pages, map 4 GiB */
#define LAYOUT_BOOT_STACK 0x8ff0u
#define LAYOUT_CMDLINE 0x20000u
#define LAYOUT_CMDLINE_MAX 2048u
#define LAYOUT_EBDA 0x9fc00u
#define LAYOUT_ACPI 0xe0000u /* RSDP first; tables up to LAYOUT_ACPI_END */
#define LAYOUT_ACPI_END 0xf0000u
#define LAYOUT_VMGENID 0xf0000u /* one page; nothing else in it, as the specification asks */
#define LAYOUT_VMGENID_ID (LAYOUT_VMGENID + 40) /* 16 bytes of generation id, as in OVMF */
#define LAYOUT_VMCLOCK 0xf1000u                 /* one page */
#define LAYOUT_KERNEL 0x1000000u /* 16 MiB: where a bzImage goes; an ELF says itself */

/* Memory-mapped devices, all inside the hole below 4 GiB. */
#define LAYOUT_VIRTIO_BASE UINT64_C(0xd0000000)
#define LAYOUT_VIRTIO_STRIDE UINT64_C(0x1000) /* of which the device claims 0x200 bytes */
#define LAYOUT_VIRTIO_MAX 14u
#define LAYOUT_GED_BASE UINT64_C(0xd0100000) /* generic event device: one 32-bit selector */
#define LAYOUT_IOAPIC_BASE UINT64_C(0xfec00000)
#define LAYOUT_LAPIC_BASE UINT64_C(0xfee00000)
#define LAYOUT_TSS UINT64_C(0xfffbd000) /* three pages KVM wants on Intel */
#define LAYOUT_IDENTITY_MAP UINT64_C(0xfffbc000)

/* Interrupt lines (IOAPIC pins). */
#define LAYOUT_IRQ_SERIAL 4u
#define LAYOUT_IRQ_RTC 8u
#define LAYOUT_IRQ_GED 9u
#define LAYOUT_IRQ_VIRTIO 10u /* device n uses this + n: 10..23 */

/* I/O ports. */
#define LAYOUT_PORT_I8042 0x60u /* 0x60 and 0x64 */
#define LAYOUT_PORT_RTC 0x70u   /* 0x70, 0x71 */
#define LAYOUT_PORT_SERIAL 0x3f8u
#define LAYOUT_PORT_SLEEP 0x600u /* ACPI sleep control and status register, one byte each */
#define LAYOUT_PORT_RESET 0x604u /* ACPI reset register: write 1 */

#endif
