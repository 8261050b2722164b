/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel goes where its file says (image.h), the initrd as high as it may below 3 GiB, the
 * parameters into low memory (params.h). Data is read with pread straight into guest memory: one
 * copy.
 */
#include "vmm/boot/boot.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "vmm/boot/params.h"
#include "vmm/layout.h"

#define MIB UINT64_C(0x100000)
#define FLAT_ENTRY_LIMIT 0x10000u /* IP has 16 bits */

int image_read(int fd, uint64_t offset, void *p, uint64_t n, struct err *e)
{
    int r = fs_read_at(fd, p, (size_t)n, offset);
    if (r == -EBADMSG)
        return err_set(e, EINVAL, "the file ends too early");
    return r < 0 ? err_set_errno(e, -r, "read") : 0;
}

int image_size(int fd, uint64_t *ret, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "size of the file");
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "not a regular file");
    *ret = (uint64_t)st.st_size;
    return 0;
}

void *image_place(const struct gmem *m, uint64_t gpa, uint64_t n)
{
    return gpa >= MIB && gpa < GMEM_HOLE_START ? gmem_ptr(m, gpa, n) : NULL;
}

static int load_kernel(const struct gmem *m, int fd, struct boot_image *ret, struct err *e)
{
    char magic[4];
    int r = image_read(fd, 0, magic, sizeof magic, e);
    if (r < 0)
        return r;
    *ret = (struct boot_image){0};
    return memcmp(magic, "\177ELF", 4) == 0 ? image_load_elf(m, fd, ret, e)
                                            : image_load_bzimage(m, fd, ret, e);
}

static int load_initrd(const struct gmem *m, int fd, const struct boot_image *image,
                       struct boot_params_in *in, struct err *e)
{
    uint64_t size, limit = m->region[0].bytes;
    int r = image_size(fd, &size, e);
    if (r < 0 || size == 0)
        return r;
    if (limit > image->initrd_limit)
        limit = image->initrd_limit;
    uint64_t gpa = size < limit ? (limit - size) & ~(uint64_t)(GMEM_PAGE - 1) : 0;
    void *to = gpa >= image->end ? image_place(m, gpa, size) : NULL;
    if (!to)
        return err_set(e, E2BIG, "no memory for %llu bytes above the kernel",
                       (unsigned long long)size);
    in->initrd = gpa;
    in->initrd_bytes = size;
    return image_read(fd, 0, to, size, e);
}

int boot_load(const struct gmem *m, const struct boot_config *c, struct boot_entry *ret,
              struct err *e)
{
    struct boot_image image;
    struct boot_params_in in = {.cmdline = c->cmdline, .rsdp = c->rsdp};
    if (strlen(c->cmdline) >= LAYOUT_CMDLINE_MAX)
        return err_set(e, EINVAL, "the kernel's command line has more than %u bytes",
                       LAYOUT_CMDLINE_MAX - 1);
    if (load_kernel(m, c->kernel_fd, &image, e) < 0)
        return err_wrap(e, "kernel");
    if (c->initrd_fd >= 0 && load_initrd(m, c->initrd_fd, &image, &in, e) < 0)
        return err_wrap(e, "initrd");
    params_write(m, &image, &in, ret);
    return 0;
}

int boot_load_flat(const struct gmem *m, int fd, uint64_t gpa, struct boot_entry *ret,
                   struct err *e)
{
    uint64_t size;
    int r = image_size(fd, &size, e);
    if (r < 0)
        return r;
    void *to = gpa < FLAT_ENTRY_LIMIT && size <= LAYOUT_EBDA - gpa ? gmem_ptr(m, gpa, size) : NULL;
    if (!to)
        return err_set(e, E2BIG, "flat binary: no memory for %llu bytes at %#llx",
                       (unsigned long long)size, (unsigned long long)gpa);
    *ret = (struct boot_entry){.mode = BOOT_MODE_FLAT16, .rip = gpa, .rsp = LAYOUT_BOOT_STACK};
    return image_read(fd, 0, to, size, e);
}
