/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/boot/image.h"
#include "vmm/layout.h"

#define SEGMENTS_MAX 64
#define NOTES_MAX 65536u            /* bytes of a note segment that are looked at */
#define XEN_ELFNOTE_PHYS32_ENTRY 18 /* Xen xen/include/public/elfnote.h */
#define SETUP_MAGIC 0x53726448      /* "HdrS" */

struct segments {
    Elf64_Phdr p[SEGMENTS_MAX];
    unsigned n;
};

static int read_headers(int fd, Elf64_Ehdr *h, struct segments *s, struct err *e)
{
    int r = image_read(fd, 0, h, sizeof *h, e);
    if (r < 0)
        return r;
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
        h->e_machine != EM_X86_64 || h->e_type != ET_EXEC)
        return err_set(e, EINVAL, "not an x86-64 executable");
    if (h->e_phentsize != sizeof s->p[0] || h->e_phnum == 0 || h->e_phnum > SEGMENTS_MAX)
        return err_set(e, EINVAL, "%u program headers of %u bytes", h->e_phnum, h->e_phentsize);
    s->n = h->e_phnum;
    return image_read(fd, h->e_phoff, s->p, s->n * sizeof s->p[0], e);
}

/* The rest of p_memsz stays as it is: fresh RAM is zero. */
static int load_segment(const struct gmem *m, int fd, const Elf64_Phdr *p, struct boot_image *ret,
                        struct err *e)
{
    if (p->p_filesz > p->p_memsz)
        return err_set(e, EINVAL, "a segment is longer in the file than in memory");
    if (p->p_memsz == 0)
        return 0;
    void *to = image_place(m, p->p_paddr, p->p_memsz);
    if (!to)
        return err_set(e, E2BIG, "no memory for %llu bytes at %#llx",
                       (unsigned long long)p->p_memsz, (unsigned long long)p->p_paddr);
    if (ret->end < p->p_paddr + p->p_memsz)
        ret->end = p->p_paddr + p->p_memsz;
    return p->p_filesz ? image_read(fd, p->p_offset, to, p->p_filesz, e) : 0;
}

static bool is_loaded(const struct segments *s, uint64_t gpa)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->p[i].p_type == PT_LOAD && gpa >= s->p[i].p_paddr &&
            gpa - s->p[i].p_paddr < s->p[i].p_filesz)
            return true;
    return false;
}

struct note { /* as far as the one that is searched */
    Elf64_Nhdr h;
    char name[4];
    uint8_t desc[8];
};

_Static_assert(sizeof(struct note) == 24, "as in the file");

static bool is_pvh(const struct note *n, uint64_t available)
{
    return n->h.n_type == XEN_ELFNOTE_PHYS32_ENTRY && n->h.n_namesz == 4 &&
           memcmp(n->name, "Xen", 4) == 0 && (n->h.n_descsz == 4 || n->h.n_descsz == 8) &&
           offsetof(struct note, desc) + n->h.n_descsz <= available;
}

static uint64_t round_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* 1 found, 0 not in this segment. */
static int find_pvh(int fd, const Elf64_Phdr *p, uint64_t *ret, struct err *e)
{
    uint64_t align = p->p_align == 8 ? 8 : 4;
    uint64_t size = p->p_filesz < NOTES_MAX ? p->p_filesz : NOTES_MAX;
    for (uint64_t at = 0; at < size && size - at >= sizeof(Elf64_Nhdr);) {
        struct note n = {0};
        uint64_t rest = size - at, offset;
        if (ckd_add(&offset, p->p_offset, at))
            return err_set(e, EINVAL, "notes outside of the file");
        int r = image_read(fd, offset, &n, rest < sizeof n ? rest : sizeof n, e);
        if (r < 0)
            return r;
        if (is_pvh(&n, rest)) {
            memcpy(ret, n.desc, n.h.n_descsz);
            return 1;
        }
        at += round_up(sizeof n.h + (uint64_t)n.h.n_namesz, align) + round_up(n.h.n_descsz, align);
    }
    return 0;
}

static int find_entry(int fd, const struct segments *s, struct boot_image *ret, struct err *e)
{
    for (unsigned i = 0; i < s->n; i++) {
        uint64_t entry = 0;
        int r = s->p[i].p_type == PT_NOTE ? find_pvh(fd, &s->p[i], &entry, e) : 0;
        if (r < 0)
            return r;
        if (r > 0) {
            ret->mode = BOOT_MODE_PVH32;
            ret->entry = entry;
            break;
        }
    }
    if (!is_loaded(s, ret->entry))
        return err_set(e, EINVAL, "the entry point %#llx is not in a loaded segment",
                       (unsigned long long)ret->entry);
    return 0;
}

int image_load_elf(const struct gmem *m, int fd, struct boot_image *ret, struct err *e)
{
    Elf64_Ehdr h;
    struct segments s = {0};
    int r = read_headers(fd, &h, &s, e);
    for (unsigned i = 0; r >= 0 && i < s.n; i++)
        if (s.p[i].p_type == PT_LOAD)
            r = load_segment(m, fd, &s.p[i], ret, e);
    if (r < 0)
        return r;
    ret->mode = BOOT_MODE_LONG64;
    ret->entry = h.e_entry;
    ret->initrd_limit = GMEM_HOLE_START;
    /* A vmlinux has no set-up header; these are the fields boot_params is checked by. */
    ret->header = (struct setup_header){.boot_flag = 0xaa55,
                                        .header = SETUP_MAGIC,
                                        .version = 0x20f,
                                        .type_of_loader = 0xff,
                                        .loadflags = LOADED_HIGH,
                                        .cmdline_size = LAYOUT_CMDLINE_MAX - 1};
    return find_entry(fd, &s, ret, e);
}
