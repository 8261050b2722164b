/* SPDX-License-Identifier: Apache-2.0 */
/* The definition block of the DSDT: what Linux enumerates besides CPUs. Pure. */
#ifndef VMM_BOOT_DSDT_H
#define VMM_BOOT_DSDT_H

#include "vmm/boot/acpi.h"
#include "vmm/boot/aml.h"

void dsdt_write(struct aml *a, const struct acpi_config *c);

#endif
