/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev/i8042.h"

#include <string.h>

#define PORT_COMMAND 4
#define COMMAND_PULSE_RESET 0xfe

/* Zero everywhere: no key waiting and ready for a command; at 0x61, which lies between the two
 * ports, no cause of an NMI. */
static void i8042_read(void *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    memset(data, 0, len);
}

static void i8042_write(void *dev, uint64_t offset, const void *data, unsigned len)
{
    struct i8042 *k = dev;
    const uint8_t *p = data;
    if (offset + len > PORT_COMMAND && p[PORT_COMMAND - offset] == COMMAND_PULSE_RESET)
        k->on_reset(k->arg);
}

const struct bus_ops i8042_ops = {i8042_read, i8042_write};
