/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel images: inside of boot/. Control thread; file bytes are hostile. */
#ifndef VMM_BOOT_IMAGE_H
#define VMM_BOOT_IMAGE_H

#include <asm/bootparam.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/gmem.h"

struct boot_image {
    enum boot_mode mode;
    uint64_t entry;
    uint64_t end;               /* first byte the kernel does not need before it runs */
    uint64_t initrd_limit;      /* first byte its initrd must not reach */
    struct setup_header header; /* 64-bit entry: what the kernel is told in boot_params */
};

/* Both load below GMEM_HOLE_START and not below 1 MiB. -EINVAL, -E2BIG. */
int image_load_elf(const struct gmem *m, int fd, struct boot_image *ret, struct err *e) MUST_CHECK;
int image_load_bzimage(const struct gmem *m, int fd, struct boot_image *ret,
                       struct err *e) MUST_CHECK;

/* Exactly n bytes from offset; -EINVAL when the file ends earlier. */
int image_read(int fd, uint64_t offset, void *p, uint64_t n, struct err *e) MUST_CHECK;
/* Size of a regular file; -EINVAL for anything else. */
int image_size(int fd, uint64_t *ret, struct err *e) MUST_CHECK;
/* Where a piece of kernel may lie: host address of [gpa, gpa+n), NULL if it may not. */
void *image_place(const struct gmem *m, uint64_t gpa, uint64_t n);

#endif
