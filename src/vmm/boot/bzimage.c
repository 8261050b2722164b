/* SPDX-License-Identifier: Apache-2.0 */
/* Linux Documentation/arch/x86/boot.rst: a real-mode part with the set-up header, which is only
 * read, and the protected-mode part, which is loaded and unpacks the kernel itself. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/boot/image.h"
#include "vmm/layout.h"

#define HEADER_OFFSET 0x1f1
#define JUMP_TARGET 0x202 /* the jump's displacement counts from here; the header ends there */
#define SECTOR 512u
#define DEFAULT_SETUP_SECTORS 4u
#define SETUP_MAGIC 0x53726448 /* "HdrS" */
#define VERSION_MIN 0x20c      /* has xloadflags */
#define ENTRY_64 0x200

static int read_header(int fd, struct setup_header *h, struct err *e)
{
    int r = image_read(fd, HEADER_OFFSET, h, sizeof *h, e);
    if (r < 0)
        return r;
    if (h->header != SETUP_MAGIC)
        return err_set(e, EINVAL, "neither an ELF file nor a bzImage");
    if (h->version < VERSION_MIN || !(h->xloadflags & XLF_KERNEL_64))
        return err_set(e, EINVAL, "boot protocol %u.%02u without a 64-bit entry", h->version >> 8,
                       h->version & 0xff);
    /* What lies behind the header is not part of it. */
    size_t used = JUMP_TARGET + (h->jump >> 8) - HEADER_OFFSET;
    if (used < sizeof *h)
        memset((uint8_t *)h + used, 0, sizeof *h - used);
    return 0;
}

static void *choose_address(const struct gmem *m, const struct setup_header *h, uint64_t need,
                            uint64_t *gpa)
{
    *gpa = h->pref_address;
    void *p = image_place(m, *gpa, need);
    if (p || !h->relocatable_kernel)
        return p;
    *gpa = LAYOUT_KERNEL;
    return image_place(m, *gpa, need);
}

int image_load_bzimage(const struct gmem *m, int fd, struct boot_image *ret, struct err *e)
{
    struct setup_header *h = &ret->header;
    uint64_t size = 0, gpa;
    int r = read_header(fd, h, e);
    if (r < 0 || (r = image_size(fd, &size, e)) < 0)
        return r;
    uint64_t offset = ((h->setup_sects ? h->setup_sects : DEFAULT_SETUP_SECTORS) + 1) * SECTOR;
    if (size <= offset + ENTRY_64)
        return err_set(e, EINVAL, "a bzImage without its protected-mode part");
    uint64_t need = size - offset > h->init_size ? size - offset : h->init_size;
    void *to = choose_address(m, h, need, &gpa);
    if (!to)
        return err_set(e, E2BIG, "no memory for %llu bytes at %#llx", (unsigned long long)need,
                       (unsigned long long)gpa);
    ret->mode = BOOT_MODE_LONG64;
    ret->entry = gpa + ENTRY_64;
    ret->end = gpa + need;
    ret->initrd_limit = (uint64_t)h->initrd_addr_max + 1;
    h->type_of_loader = 0xff;
    h->loadflags |= LOADED_HIGH;
    h->code32_start = (uint32_t)gpa;
    h->setup_data = 0; /* a list in memory: there is none */
    return image_read(fd, offset, to, size - offset, e);
}
