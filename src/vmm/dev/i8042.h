/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of the keyboard controller: ports 0x60 and 0x64 (registered as 5 ports from 0x60),
 * no keyboard, no mouse, and the pulse of the reset line (command 0xfe), which is how Linux
 * reboots. Stateless. */
#ifndef VMM_DEV_I8042_H
#define VMM_DEV_I8042_H

#include "vmm/bus.h"

struct i8042 {
    void (*on_reset)(void *arg);
    void *arg;
};

extern const struct bus_ops i8042_ops;

#endif
