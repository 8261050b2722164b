/* SPDX-License-Identifier: Apache-2.0 */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/boot/boot.h"
#include "vmm/layout.h"

#define MIB UINT64_C(0x100000)
#define RSDP 0xe0000

static struct gmem mem;
static struct err err;

static int set_up(void **state)
{
    (void)state;
    return gmem_reserve(&mem, 64 * MIB, &err) < 0 || gmem_map_zero(&mem, false, &err) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    gmem_done(&mem);
    return 0;
}

static int file_of(const void *p, size_t n)
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_int_equal(write(fd, p, n), n);
    return fd;
}

/* ---- an ELF file: headers, notes at 0x200, code at 0x1000 ---- */

struct elf {
    Elf64_Ehdr h;
    Elf64_Phdr p[3];
    uint8_t gap[0x200 - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr)];
    struct {
        Elf64_Nhdr other;
        char other_name[8];
        uint8_t other_desc[4];
        Elf64_Nhdr pvh;
        char name[4];
        uint32_t entry[2];
    } notes;
    uint8_t gap2[0x1000 - 0x200 - 48];
    uint8_t code[64];
};

static struct elf make_elf(void)
{
    struct elf f = {0};
    memcpy(f.h.e_ident, "\177ELF\2\1\1", 7);
    f.h.e_type = ET_EXEC;
    f.h.e_machine = EM_X86_64;
    f.h.e_entry = 16 * MIB + 4;
    f.h.e_phoff = sizeof f.h;
    f.h.e_phentsize = sizeof f.p[0];
    f.h.e_phnum = 3;
    f.p[0] = (Elf64_Phdr){.p_type = PT_LOAD,
                          .p_offset = offsetof(struct elf, code),
                          .p_vaddr = 0xffffffff81000000,
                          .p_paddr = 16 * MIB,
                          .p_filesz = sizeof f.code,
                          .p_memsz = 4 * MIB};
    f.p[1] = (Elf64_Phdr){.p_type = PT_NOTE,
                          .p_offset = offsetof(struct elf, notes),
                          .p_filesz = sizeof f.notes,
                          .p_align = 4};
    f.p[2] = (Elf64_Phdr){.p_type = PT_LOAD, .p_paddr = 1}; /* empty: ignored */
    f.notes.other = (Elf64_Nhdr){.n_namesz = 6, .n_descsz = 1, .n_type = 18};
    memcpy(f.notes.other_name, "Linux", 6);
    f.notes.pvh = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 8, .n_type = 18};
    memcpy(f.notes.name, "Xen", 4);
    f.notes.entry[0] = 16 * MIB + 8;
    memset(f.code, 0x90, sizeof f.code);
    return f;
}

static int load(int fd, int initrd, const char *cmdline, struct boot_entry *b)
{
    struct boot_config c = {fd, initrd, cmdline, RSDP};
    err = (struct err){0};
    int r = boot_load(&mem, &c, b, &err);
    assert_true(r == 0 || err.text[0]);
    close(fd);
    if (initrd >= 0)
        close(initrd);
    return r;
}

static int load_elf(const struct elf *f)
{
    struct boot_entry b;
    return load(file_of(f, sizeof *f), -1, "", &b);
}

static uint64_t get(uint64_t gpa, unsigned bytes)
{
    uint64_t v = 0;
    const void *p = gmem_ptr(&mem, gpa, bytes);
    assert_non_null(p);
    memcpy(&v, p, bytes);
    return v;
}

static void assert_map_entry(uint64_t gpa, uint64_t addr, uint64_t bytes, uint32_t type)
{
    assert_int_equal(get(gpa, 8), addr);
    assert_int_equal(get(gpa + 8, 8), bytes);
    assert_int_equal(get(gpa + 16, 4), type);
}

static void test_pvh(void **state)
{
    (void)state;
    struct elf f = make_elf();
    struct boot_entry b;
    assert_int_equal(load(file_of(&f, sizeof f), file_of("initrd", 6), "console=ttyS0", &b), 0);
    assert_int_equal(b.mode, BOOT_MODE_PVH32);
    assert_int_equal(b.rip, 16 * MIB + 8);
    assert_int_equal(get(b.gdt + 0x10, 8), 0x00cf9b000000ffff);
    assert_int_equal(get(16 * MIB + 60, 4), 0x90909090);
    uint64_t si = b.rbx;
    assert_int_equal(get(si, 4), 0x336ec578);
    assert_int_equal(get(si + 4, 4), 1);
    assert_int_equal(get(si + 12, 4), 1); /* modules */
    uint64_t module = get(si + 16, 8);
    assert_string_equal(gmem_ptr(&mem, get(si + 24, 8), 14), "console=ttyS0");
    assert_int_equal(get(si + 32, 8), RSDP);
    uint64_t map = get(si + 40, 8);
    assert_int_equal(get(si + 48, 4), 5);
    assert_int_equal(get(module, 8), 64 * MIB - 4096);
    assert_int_equal(get(module + 8, 8), 6);
    assert_memory_equal(gmem_ptr(&mem, get(module, 8), 6), "initrd", 6);
    assert_map_entry(map, 0, 0x9fc00, 1);
    assert_map_entry(map + 24, 0x9fc00, 0xe0000 - 0x9fc00, 2);
    assert_map_entry(map + 48, 0xe0000, 0x10000, 3);
    assert_map_entry(map + 72, 0xf0000, 0x10000, 2);
    assert_map_entry(map + 96, MIB, 63 * MIB, 1);
}

static void test_64bit_elf(void **state)
{
    (void)state;
    struct elf f = make_elf();
    struct boot_entry b;
    f.notes.pvh.n_type = 17;
    assert_int_equal(load(file_of(&f, sizeof f), -1, "quiet", &b), 0);
    assert_int_equal(b.mode, BOOT_MODE_LONG64);
    assert_int_equal(b.rip, 16 * MIB + 4);
    assert_int_equal(get(b.gdt + 0x10, 8), 0x00af9b000000ffff);
    const struct boot_params *p = gmem_ptr(&mem, b.rsi, sizeof *p);
    assert_int_equal(p->hdr.header, 0x53726448);
    assert_int_equal(p->hdr.ramdisk_size, 0);
    assert_int_equal(p->acpi_rsdp_addr, RSDP);
    assert_int_equal(p->sentinel, 0);
    assert_int_equal(p->e820_entries, 5);
    assert_int_equal(p->e820_table[4].addr, MIB);
    assert_int_equal(p->e820_table[4].size, 63 * MIB);
    assert_string_equal(gmem_ptr(&mem, p->hdr.cmd_line_ptr, 6), "quiet");
}

/* What the page tables say for an address, as the processor walks them. */
static uint64_t translate(uint64_t cr3, uint64_t va)
{
    uint64_t pml4e = get(cr3 + 8 * (va >> 39 & 511), 8);
    assert_true(pml4e & 1);
    uint64_t pdpte = get((pml4e & ~UINT64_C(4095)) + 8 * (va >> 30 & 511), 8);
    assert_int_equal(pdpte & 0x81, 1);
    uint64_t pde = get((pdpte & ~UINT64_C(4095)) + 8 * (va >> 21 & 511), 8);
    assert_int_equal(pde & 0x83, 0x83);
    return (pde & ~UINT64_C(0x1fffff)) + (va & 0x1fffff);
}

static void test_page_tables(void **state)
{
    (void)state;
    struct elf f = make_elf();
    struct boot_entry b;
    f.notes.pvh.n_type = 17;
    assert_int_equal(load(file_of(&f, sizeof f), -1, "", &b), 0);
    for (uint64_t va = 0; va < UINT64_C(1) << 32; va += 0x1ff123)
        assert_int_equal(translate(b.cr3, va), va);
}

static void test_memory_around_the_hole(void **state)
{
    (void)state;
    struct elf f = make_elf();
    struct boot_entry b;
    gmem_done(&mem);
    assert_int_equal(gmem_reserve(&mem, 4096 * MIB, &err), 0);
    assert_int_equal(gmem_map_zero(&mem, false, &err), 0);
    assert_int_equal(load(file_of(&f, sizeof f), file_of("initrd", 6), "", &b), 0);
    uint64_t map = get(b.rbx + 40, 8), module = get(b.rbx + 16, 8);
    assert_int_equal(get(b.rbx + 48, 4), 6);
    assert_map_entry(map + 96, MIB, 3071 * MIB, 1);
    assert_map_entry(map + 120, 4096 * MIB, 1024 * MIB, 1);
    assert_int_equal(get(module, 8), 3072 * MIB - 4096);
}

static void test_hostile_headers(void **state)
{
    (void)state;
    struct elf f = make_elf();
    f.h.e_ident[EI_CLASS] = ELFCLASS32;
    assert_int_equal(load_elf(&f), -EINVAL);
    f = make_elf();
    f.h.e_machine = EM_386;
    assert_int_equal(load_elf(&f), -EINVAL);
    f = make_elf();
    f.h.e_phentsize = 55;
    assert_int_equal(load_elf(&f), -EINVAL);
    f = make_elf();
    f.h.e_phnum = 65;
    assert_int_equal(load_elf(&f), -EINVAL);
    f = make_elf();
    f.h.e_phoff = UINT64_MAX - 7;
    assert_int_equal(load_elf(&f), -EINVAL);
    f = make_elf();
    f.h.e_phoff = sizeof f;
    assert_int_equal(load_elf(&f), -EINVAL);
}

static void test_hostile_segments(void **state)
{
    (void)state;
    struct {
        uint64_t paddr, memsz, filesz, offset;
        int want;
    } row[] = {
        {0, 64, 64, 0x1000, -E2BIG}, /* over the tables and parameters in low memory */
        {MIB - 4096, 8192, 64, 0x1000, -E2BIG},
        {64 * MIB - 32, 64, 64, 0x1000, -E2BIG},
        {16 * MIB, UINT64_MAX, 64, 0x1000, -E2BIG},
        {UINT64_MAX - 31, 64, 64, 0x1000, -E2BIG},
        {4096 * MIB, 64, 64, 0x1000, -E2BIG},
        {16 * MIB, 32, 64, 0x1000, -EINVAL},
        {16 * MIB, 4096, 4096, 0x1000, -EINVAL}, /* the file is shorter */
        {16 * MIB, 64, 64, UINT64_MAX, -EINVAL},
        {16 * MIB, 64, 64, INT64_MAX, -EINVAL},
        {20 * MIB, 64, 64, 0x1000, -EINVAL}, /* the entry point is not in it */
    };
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct elf f = make_elf();
        f.p[0].p_paddr = row[i].paddr;
        f.p[0].p_memsz = row[i].memsz;
        f.p[0].p_filesz = row[i].filesz;
        f.p[0].p_offset = row[i].offset;
        assert_int_equal(load_elf(&f), row[i].want);
    }
}

static void test_hostile_notes(void **state)
{
    (void)state;
    struct elf f = make_elf();
    f.notes.entry[1] = 1; /* above 4 GiB */
    assert_int_equal(load_elf(&f), -EINVAL);
    f = make_elf();
    f.p[1].p_offset = UINT64_MAX - 4;
    assert_int_equal(load_elf(&f), -EINVAL);
    /* Not an entry point, so the ELF header's counts: notes that end early, or nowhere. */
    f = make_elf();
    f.p[1].p_filesz -= 8;
    assert_int_equal(load_elf(&f), 0);
    f = make_elf();
    f.notes.other.n_namesz = UINT32_MAX;
    f.notes.other.n_descsz = UINT32_MAX;
    f.p[1].p_filesz = UINT64_MAX;
    assert_int_equal(load_elf(&f), 0);
    f = make_elf();
    f.notes.pvh.n_descsz = 0;
    assert_int_equal(load_elf(&f), 0);
}

static void test_parameters_that_do_not_fit(void **state)
{
    (void)state;
    struct elf f = make_elf();
    struct boot_entry b;
    char line[LAYOUT_CMDLINE_MAX + 1];
    memset(line, 'x', sizeof line - 1);
    line[LAYOUT_CMDLINE_MAX] = '\0';
    assert_int_equal(load(file_of(&f, sizeof f), -1, line, &b), -EINVAL);
    assert_int_equal(load(file_of(&f, sizeof f), -1, line + 1, &b), 0);
    int initrd = file_of("x", 1);
    assert_int_equal(ftruncate(initrd, 44 * MIB), 0); /* kernel ends at 20 MiB, RAM at 64 */
    assert_int_equal(load(file_of(&f, sizeof f), initrd, "", &b), 0);
    initrd = file_of("x", 1);
    assert_int_equal(ftruncate(initrd, 44 * MIB + 1), 0);
    assert_int_equal(load(file_of(&f, sizeof f), initrd, "", &b), -E2BIG);
    initrd = file_of("x", 1);
    assert_int_equal(ftruncate(initrd, INT64_MAX), 0);
    assert_int_equal(load(file_of(&f, sizeof f), initrd, "", &b), -E2BIG);
    assert_int_equal(load(file_of(&f, sizeof f), open("/dev/null", O_RDONLY), "", &b), -EINVAL);
    assert_int_equal(load(file_of(&f, sizeof f), file_of("", 0), "", &b), 0);
    assert_int_equal(get(b.rbx + 12, 4), 0);
}

/* ---- bzImage: one sector of set-up code after the boot sector, 4 KiB of kernel ---- */

struct bzimage {
    uint8_t boot[0x1f1];
    struct setup_header h;
    uint8_t gap[1024 - 0x1f1 - sizeof(struct setup_header)];
    uint8_t kernel[4096];
};

static struct bzimage make_bzimage(void)
{
    struct bzimage f = {0};
    f.h = (struct setup_header){.setup_sects = 1,
                                .boot_flag = 0xaa55,
                                .jump = 0x6aeb,
                                .header = 0x53726448,
                                .version = 0x20f,
                                .loadflags = LOADED_HIGH,
                                .initrd_addr_max = 0x7fffffff,
                                .kernel_alignment = 0x200000,
                                .relocatable_kernel = 1,
                                .xloadflags = XLF_KERNEL_64,
                                .pref_address = 32 * MIB,
                                .init_size = 8 * MIB};
    memset(f.boot, 0xff, sizeof f.boot);
    memset(f.kernel, 0x90, sizeof f.kernel);
    return f;
}

static int load_bzimage(const struct bzimage *f, size_t n, struct boot_entry *b)
{
    return load(file_of(f, n), -1, "", b);
}

static void test_bzimage(void **state)
{
    (void)state;
    struct bzimage f = make_bzimage();
    struct boot_entry b;
    assert_int_equal(load(file_of(&f, sizeof f), file_of("initrd", 6), "quiet", &b), 0);
    assert_int_equal(b.mode, BOOT_MODE_LONG64);
    assert_int_equal(b.rip, 32 * MIB + 0x200);
    const struct boot_params *p = gmem_ptr(&mem, b.rsi, sizeof *p);
    assert_int_equal(p->hdr.type_of_loader, 0xff);
    assert_int_equal(p->hdr.version, 0x20f);
    assert_int_equal(p->hdr.init_size, 8 * MIB);
    assert_int_equal(p->hdr.code32_start, 32 * MIB);
    assert_int_equal(p->hdr.ramdisk_image, 64 * MIB - 4096);
    assert_int_equal(p->hdr.ramdisk_size, 6);
    assert_int_equal(p->sentinel, 0);
    assert_int_equal(get(32 * MIB, 1), 0x90);
    assert_int_equal(get(32 * MIB + 4095, 2), 0x90);
    f.h.pref_address = 60 * MIB; /* init_size does not fit there */
    assert_int_equal(load_bzimage(&f, sizeof f, &b), 0);
    assert_int_equal(b.rip, LAYOUT_KERNEL + 0x200);
    f.h.initrd_addr_max = 40 * MIB - 1;
    f.h.pref_address = 0;
    assert_int_equal(load(file_of(&f, sizeof f), file_of("initrd", 6), "quiet", &b), 0);
    assert_int_equal(p->hdr.ramdisk_image, 40 * MIB - 4096);
    f.h.jump = 0x62eb; /* a shorter header: what follows it is code */
    f.h.pref_address = 32 * MIB;
    f.h.handover_offset = 0x1234;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), 0);
    assert_int_equal(p->hdr.init_size, 8 * MIB);
    assert_int_equal(p->hdr.handover_offset, 0);
}

static void test_hostile_bzimage(void **state)
{
    (void)state;
    struct bzimage f = make_bzimage();
    struct boot_entry b;
    for (size_t n = 0; n <= 1024 + 0x200; n++)
        assert_int_equal(load_bzimage(&f, n, &b), -EINVAL);
    assert_int_equal(load_bzimage(&f, 1024 + 0x201, &b), 0);
    f.h.header ^= 1;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), -EINVAL);
    f = make_bzimage();
    f.h.version = 0x20b;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), -EINVAL);
    f = make_bzimage();
    f.h.xloadflags = 0;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), -EINVAL);
    f = make_bzimage();
    f.h.setup_sects = 255;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), -EINVAL);
    f = make_bzimage();
    f.h.init_size = UINT32_MAX;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), -E2BIG);
    f = make_bzimage();
    f.h.relocatable_kernel = 0;
    f.h.pref_address = UINT64_MAX;
    assert_int_equal(load_bzimage(&f, sizeof f, &b), -E2BIG);
}

static void test_flat(void **state)
{
    (void)state;
    struct boot_entry b;
    int fd = file_of("\xf4", 1);
    assert_int_equal(boot_load_flat(&mem, fd, 0x7c00, &b, &err), 0);
    assert_int_equal(b.mode, BOOT_MODE_FLAT16);
    assert_int_equal(b.rip, 0x7c00);
    assert_int_equal(get(0x7c00, 2), 0xf4);
    assert_int_equal(boot_load_flat(&mem, fd, 0x10000, &b, &err), -E2BIG);
    assert_int_equal(boot_load_flat(&mem, fd, UINT64_MAX, &b, &err), -E2BIG);
    assert_int_equal(ftruncate(fd, 0x9fc00 - 0x7c00), 0);
    assert_int_equal(boot_load_flat(&mem, fd, 0x7c00, &b, &err), 0);
    assert_int_equal(boot_load_flat(&mem, fd, 0x7c01, &b, &err), -E2BIG);
    close(fd);
}

/* The kernel of the guest kit, when there is one. */
static void test_real_kernel(void **state)
{
    (void)state;
    const char *dir = getenv("TINDERBOX_GUEST_DIR");
    char path[4096];
    struct boot_entry b;
    if (!dir)
        skip();
    snprintf(path, sizeof path, "%s/vmlinux", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/initramfs.cpio", dir);
    int initrd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || initrd < 0)
        skip();
    gmem_done(&mem);
    assert_int_equal(gmem_reserve(&mem, 256 * MIB, &err), 0);
    assert_int_equal(gmem_map_zero(&mem, false, &err), 0);
    assert_int_equal(load(fd, initrd, "console=ttyS0", &b), 0);
    assert_int_equal(b.mode, BOOT_MODE_PVH32);
    assert_memory_equal(gmem_ptr(&mem, get(get(b.rbx + 16, 8), 8), 5), "07070", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        T(test_pvh),
        T(test_64bit_elf),
        T(test_page_tables),
        T(test_memory_around_the_hole),
        T(test_hostile_headers),
        T(test_hostile_segments),
        T(test_hostile_notes),
        T(test_parameters_that_do_not_fit),
        T(test_bzimage),
        T(test_hostile_bzimage),
        T(test_flat),
        T(test_real_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
