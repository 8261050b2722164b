/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMClock page (Linux include/uapi/linux/vmclock-abi.h): tells the guest, without an exit, that
 * its clocks were disrupted. The disruption marker is all we provide; no clock is described.
 * Control thread, vCPUs not running.
 */
#ifndef VMM_BOOT_VMCLOCK_H
#define VMM_BOOT_VMCLOCK_H

#include "vmm/gmem.h"

void vmclock_init(const struct gmem *m);
/* After a restore, before the first vCPU runs. Nothing if the guest has no VMClock. */
void vmclock_disrupt(const struct gmem *m);

#endif
