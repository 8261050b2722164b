/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables (ACPI 6.4): RSDP, XSDT, FADT (hardware-reduced), MADT (one local APIC entry per vCPU
 * and one I/O APIC), DSDT with the virtio-mmio devices (LNRO0005), serial port, RTC, GED, VM
 * generation id and, if asked for, the VMClock device. Pure: guest memory in, bytes out.
 */
#ifndef VMM_BOOT_ACPI_H
#define VMM_BOOT_ACPI_H

#include <stdbool.h>

#include "base/err.h"
#include "vmm/gmem.h"

struct acpi_config {
    unsigned vcpus;
    unsigned n_virtio; /* devices in slots 0..n-1 */
    bool vmclock;
};

/* Writes the tables to LAYOUT_ACPI; *rsdp is the RSDP's guest physical address. */
int acpi_build(const struct gmem *m, const struct acpi_config *c, uint64_t *rsdp,
               struct err *e) MUST_CHECK;

#endif
