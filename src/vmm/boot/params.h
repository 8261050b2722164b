/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel finds in low memory when it starts: inside of boot/. Control thread. */
#ifndef VMM_BOOT_PARAMS_H
#define VMM_BOOT_PARAMS_H

#include "vmm/boot/image.h"

struct boot_params_in {
    const char *cmdline; /* fits */
    uint64_t rsdp;
    uint64_t initrd, initrd_bytes; /* 0, 0 = none */
};

/* Writes everything the image's mode needs; ret says where it is. */
void params_write(const struct gmem *m, const struct boot_image *image,
                  const struct boot_params_in *in, struct boot_entry *ret);

#endif
