/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot/params.h"

#include <assert.h>
#include <string.h>

#include "vmm/layout.h"

enum { MAP_RAM = 1, MAP_RESERVED = 2, MAP_ACPI = 3 }; /* the same for e820 and Xen */

#define MAP_MAX 6
#define MIB UINT64_C(0x100000)

struct map_entry {
    uint64_t start, end;
    uint32_t type;
};

/* Firmware areas are "reserved": the generation id must be in neither RAM nor ACPI memory
 * (Microsoft's specification), or the guest would reuse the page. */
static unsigned memory_map(const struct gmem *m, struct map_entry map[MAP_MAX])
{
    unsigned n = 0;
    map[n++] = (struct map_entry){0, LAYOUT_EBDA, MAP_RAM};
    map[n++] = (struct map_entry){LAYOUT_EBDA, LAYOUT_ACPI, MAP_RESERVED};
    map[n++] = (struct map_entry){LAYOUT_ACPI, LAYOUT_ACPI_END, MAP_ACPI};
    map[n++] = (struct map_entry){LAYOUT_ACPI_END, MIB, MAP_RESERVED};
    for (unsigned i = 0; i < m->n_regions; i++) {
        const struct gmem_region *r = &m->region[i];
        map[n++] = (struct map_entry){r->gpa ? r->gpa : MIB, r->gpa + r->bytes, MAP_RAM};
    }
    return n;
}

/* Low memory is always there: RAM has at least 2 MiB. */
static void *low(const struct gmem *m, uint64_t gpa, size_t n)
{
    void *p = gmem_ptr(m, gpa, n);
    assert(p && gpa + n <= LAYOUT_EBDA);
    memset(p, 0, n);
    return p;
}

/* ---- PVH (Xen docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h) ---- */

#define START_INFO_MAGIC 0x336ec578u
#define START_INFO_VERSION 1 /* has a memory map */

struct start_info {
    uint32_t magic, version, flags, n_modules;
    uint64_t modules, cmdline, rsdp, map;
    uint32_t map_entries, reserved;
};

struct start_info_page {
    struct start_info info;
    struct {
        uint64_t addr, bytes, cmdline, reserved;
    } module;
    struct {
        uint64_t addr, bytes;
        uint32_t type, reserved;
    } map[MAP_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "start_info.h");
_Static_assert(sizeof(struct start_info_page) == 56 + 32 + 24 * MAP_MAX, "no padding");
#define PVH_GPA(member) (LAYOUT_PVH_INFO + offsetof(struct start_info_page, member))

static void write_pvh(const struct gmem *m, const struct boot_params_in *in)
{
    struct start_info_page *p = low(m, LAYOUT_PVH_INFO, sizeof *p);
    struct map_entry map[MAP_MAX];
    unsigned n = memory_map(m, map);
    p->info = (struct start_info){
        .magic = START_INFO_MAGIC,
        .version = START_INFO_VERSION,
        .n_modules = in->initrd_bytes ? 1 : 0,
        .modules = in->initrd_bytes ? PVH_GPA(module) : 0,
        .cmdline = LAYOUT_CMDLINE,
        .rsdp = in->rsdp,
        .map = PVH_GPA(map),
        .map_entries = n,
    };
    p->module.addr = in->initrd;
    p->module.bytes = in->initrd_bytes;
    for (unsigned i = 0; i < n; i++) {
        p->map[i].addr = map[i].start;
        p->map[i].bytes = map[i].end - map[i].start;
        p->map[i].type = map[i].type;
    }
}

/* ---- 64-bit entry (Linux Documentation/arch/x86/boot.rst, zero-page.rst) ---- */

static void write_zero_page(const struct gmem *m, const struct boot_image *image,
                            const struct boot_params_in *in)
{
    struct boot_params *p = low(m, LAYOUT_ZERO_PAGE, sizeof *p);
    struct map_entry map[MAP_MAX];
    unsigned n = memory_map(m, map);
    p->hdr = image->header;
    p->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
    p->hdr.ramdisk_image = (uint32_t)in->initrd; /* below 4 GiB */
    p->hdr.ramdisk_size = (uint32_t)in->initrd_bytes;
    p->acpi_rsdp_addr = in->rsdp;
    p->e820_entries = (uint8_t)n;
    for (unsigned i = 0; i < n; i++)
        p->e820_table[i] =
            (struct boot_e820_entry){map[i].start, map[i].end - map[i].start, map[i].type};
}

#define PAGE_TABLE 0x03u /* present, writable */
#define PAGE_LARGE 0x83u /* ... and 2 MiB */
#define TABLE_ENTRIES 512u
#define DIRECTORIES 4u

static void write_page_tables(const struct gmem *m)
{
    uint64_t *pml4 = low(m, LAYOUT_PAGE_TABLES, (2 + DIRECTORIES) * GMEM_PAGE);
    uint64_t *pdpt = pml4 + TABLE_ENTRIES, *pd = pdpt + TABLE_ENTRIES;
    pml4[0] = (LAYOUT_PAGE_TABLES + GMEM_PAGE) | PAGE_TABLE;
    for (uint64_t i = 0; i < DIRECTORIES; i++)
        pdpt[i] = (LAYOUT_PAGE_TABLES + (2 + i) * GMEM_PAGE) | PAGE_TABLE;
    for (uint64_t i = 0; i < DIRECTORIES * TABLE_ENTRIES; i++)
        pd[i] = i << 21 | PAGE_LARGE;
}

/* Flat code (ring 0, execute-read, accessed) of the mode's width, flat data. */
static void write_gdt(const struct gmem *m, enum boot_mode mode)
{
    uint64_t *gdt = low(m, LAYOUT_GDT, 4 * sizeof *gdt);
    gdt[2] = mode == BOOT_MODE_LONG64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff;
    gdt[3] = 0x00cf93000000ffff;
}

void params_write(const struct gmem *m, const struct boot_image *image,
                  const struct boot_params_in *in, struct boot_entry *ret)
{
    size_t n = strlen(in->cmdline) + 1;
    memcpy(low(m, LAYOUT_CMDLINE, n), in->cmdline, n);
    *ret = (struct boot_entry){
        .mode = image->mode, .rip = image->entry, .rsp = LAYOUT_BOOT_STACK, .gdt = LAYOUT_GDT};
    write_gdt(m, image->mode);
    if (image->mode == BOOT_MODE_PVH32) {
        write_pvh(m, in);
        ret->rbx = LAYOUT_PVH_INFO;
        return;
    }
    write_zero_page(m, image, in);
    write_page_tables(m);
    ret->rsi = LAYOUT_ZERO_PAGE;
    ret->cr3 = LAYOUT_PAGE_TABLES;
}
