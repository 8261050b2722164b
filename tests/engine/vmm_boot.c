/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM monitor's boot loading and ACPI tables under a real Linux, on any machine: QEMU (TCG)
 * runs on memory that boot_load() and acpi_build() have filled, with a ROM that does nothing but
 * set the registers of struct boot_entry. QEMU's microvm has serial port, RTC and I/O APIC where
 * our tables say they are; behind the sleep and reset registers it has a device that ends QEMU and
 * tells the value written. What the guest finds on its console is checked.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/boot/acpi.h"
#include "vmm/boot/boot.h"
#include "vmm/layout.h"

#define RAM_MIB 4096 /* on both sides of the hole */
#define ROM_BYTES 65536
#define ROM_BASE 0xffff0000u
#define LINE                                                                                    \
    "console=ttyS0 panic=-1 rdinit=/init mitigations=off no_timer_check tsc_early_khz=2500000 " \
    "lpj=10000000 reboot=acpi "

static const char *guest_dir, *init_path;
static char dir[] = "/tmp/tinderbox-boot-XXXXXX";
static char console[1 << 20];

/* ---- the ROM ---- */

struct rom {
    uint8_t p[ROM_BYTES];
    size_t n;
};

#define EMIT(r, bytes) emit(r, bytes, sizeof(bytes) - 1)

static void emit(struct rom *r, const char *bytes, size_t n)
{
    memcpy(r->p + r->n, bytes, n);
    r->n += n;
}

static void emit32(struct rom *r, uint64_t v)
{
    memcpy(r->p + r->n, &v, 4);
    r->n += 4;
}

/* cr0 |= bits; far jump to the next instruction with code segment 0x10; data segments. */
static void emit_switch(struct rom *r, uint32_t cr0)
{
    EMIT(r, "\x0f\x20\xc0\x66\x0d"); /* mov eax, cr0; or eax, bits */
    emit32(r, cr0);
    EMIT(r, "\x0f\x22\xc0\x66\xea"); /* mov cr0, eax; jmp */
    emit32(r, ROM_BASE + r->n + 6);
    EMIT(r, "\x10\x00\xb8\x18\x00\x00\x00\x8e\xd8\x8e\xc0\x8e\xd0");
}

static void make_rom(struct rom *r, const struct boot_entry *b)
{
    memset(r, 0, sizeof *r);
    EMIT(r, "\xfa\x2e\x66\x0f\x01\x16\x00\x80"); /* cli; lgdt cs:[0x8000] */
    if (b->mode == BOOT_MODE_PVH32) {
        emit_switch(r, 1);
        EMIT(r, "\xbb"); /* mov ebx */
        emit32(r, b->rbx);
    } else {
        EMIT(r, "\x0f\x20\xe0\x66\x83\xc8\x20\x0f\x22\xe0\x66\xb8"); /* CR4.PAE; mov eax */
        emit32(r, b->cr3);
        EMIT(r, "\x0f\x22\xd8\x66\xb9\x80\x00\x00\xc0\x0f\x32"); /* CR3; rdmsr EFER */
        EMIT(r, "\x66\x0d\x00\x01\x00\x00\x0f\x30");             /* EFER.LME */
        emit_switch(r, 0x80000001);
        EMIT(r, "\xbe"); /* mov esi */
        emit32(r, b->rsi);
    }
    EMIT(r, "\xbc"); /* mov esp */
    emit32(r, b->rsp);
    EMIT(r, "\xb8"); /* mov eax; jmp rax */
    emit32(r, b->rip);
    EMIT(r, "\xff\xe0");
    r->n = 0x8000;
    EMIT(r, "\x1f\x00");
    emit32(r, b->gdt);
    r->n = 0xfff0; /* where the processor starts: jmp 0 */
    EMIT(r, "\xe9\x0d\x00");
}

/* ---- files ---- */

static int new_file(const char *name, const void *p, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    return fd;
}

/* One entry of a cpio archive (newc). */
static void add_entry(FILE *f, const char *name, unsigned mode, unsigned major, unsigned minor,
                      const void *p, size_t n)
{
    static const char zero[4];
    size_t name_n = strlen(name) + 1;
    fprintf(f, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x%s%c", 1, mode, 0, 0, 1,
            0, n, 0, 0, major, minor, name_n, 0, name, 0);
    fwrite(zero, 1, -(110 + name_n) & 3, f);
    fwrite(p, 1, n, f);
    fwrite(zero, 1, -n & 3, f);
}

static int make_initrd(void)
{
    char *p = NULL;
    size_t n = 0;
    static char init[4 << 20];
    int in = open(init_path, O_RDONLY | O_CLOEXEC);
    ssize_t init_n = in < 0 ? -1 : read(in, init, sizeof init);
    assert_true(init_n > 0 && (size_t)init_n < sizeof init);
    close(in);
    FILE *f = open_memstream(&p, &n);
    add_entry(f, "dev", 0040755, 0, 0, "", 0);
    add_entry(f, "dev/console", 0020600, 5, 1, "", 0);
    add_entry(f, "init", 0100755, 0, 0, init, (size_t)init_n);
    add_entry(f, "TRAILER!!!", 0, 0, 0, "", 0);
    assert_int_equal(fclose(f), 0);
    int fd = new_file("initrd", p, n);
    free(p);
    return fd;
}

/* The guest kit's kernel; without its PVH note if `plain`. */
static int open_kernel(bool plain)
{
    static const struct {
        Elf64_Nhdr h;
        char name[4];
    } note = {{4, 8, 18}, "Xen"};
    char path[4096];
    snprintf(path, sizeof path, "%s/vmlinux", guest_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t n = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    assert_true(n > 0);
    if (!plain)
        return fd;
    uint8_t *p = mmap(NULL, (size_t)n, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    uint8_t *at = memmem(p, (size_t)n, &note, sizeof note);
    assert_non_null(at);
    at[offsetof(Elf64_Nhdr, n_type)] = 19;
    close(fd);
    fd = new_file("vmlinux", p, (size_t)n);
    munmap(p, (size_t)n);
    return fd;
}

/* ---- a machine ---- */

static void fill_memory(bool plain, unsigned vcpus, const char *cmdline)
{
    struct gmem m;
    struct err e = {0};
    struct boot_entry entry;
    static struct rom rom;
    struct acpi_config a = {.vcpus = vcpus, .n_virtio = 6, .vmclock = true};
    struct boot_config c = {.kernel_fd = open_kernel(plain), .initrd_fd = make_initrd()};
    int fd = new_file("ram", "", 0);
    assert_int_equal(gmem_reserve(&m, (uint64_t)RAM_MIB << 20, &e), 0);
    assert_int_equal(ftruncate(fd, (off_t)m.bytes), 0);
    assert_ptr_not_equal(
        mmap(m.host, m.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), MAP_FAILED);
    assert_int_equal(acpi_build(&m, &a, &c.rsdp, &e), 0);
    c.cmdline = cmdline;
    assert_int_equal(boot_load(&m, &c, &entry, &e), 0);
    assert_int_equal(entry.mode, plain ? BOOT_MODE_LONG64 : BOOT_MODE_PVH32);
    make_rom(&rom, &entry);
    close(new_file("rom", rom.p, sizeof rom.p));
    gmem_done(&m);
    close(c.kernel_fd);
    close(c.initrd_fd);
    close(fd);
}

/* QEMU's exit status. */
static int run_qemu(const char *vcpus)
{
    extern char **environ;
    char mem[400], bios[300], serial[300];
    snprintf(mem, sizeof mem, "memory-backend-file,id=mem,mem-path=%s/ram,share=on,size=%dM", dir,
             RAM_MIB);
    snprintf(bios, sizeof bios, "%s/rom", dir);
    snprintf(serial, sizeof serial, "file:%s/console", dir);
    char machine[] = "microvm,acpi=off,pic=off,pit=off,rtc=on,isa-serial=on,x-option-roms=off,"
                     "auto-kernel-cmdline=off,memory-backend=mem";
    char *argv[] = {"timeout",
                    "-k",
                    "5",
                    "100",
                    "qemu-system-x86_64",
                    "-M",
                    machine,
                    "-object",
                    mem,
                    "-m",
                    "4096M",
                    "-smp",
                    (char *)vcpus,
                    "-bios",
                    bios,
                    "-serial",
                    serial,
                    "-cpu",
                    "max,-la57",
                    "-accel",
                    "tcg",
                    "-display",
                    "none",
                    "-nodefaults",
                    "-no-user-config",
                    "-no-reboot",
                    "-device",
                    "isa-debug-exit,iobase=0x600,iosize=1",
                    "-device",
                    "isa-debug-exit,iobase=0x604,iosize=1",
                    NULL};
    pid_t pid;
    int status = -1;
    assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void read_console(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/console", dir);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    console[fread(console, 1, sizeof console - 1, f)] = '\0';
    fclose(f);
}

static void assert_said(const char *text)
{
    if (!strstr(console, text))
        fail_msg("the console lacks \"%s\":\n%s", text, console);
}

static int boot(bool plain, unsigned vcpus, const char *cmdline)
{
    char number[12];
    snprintf(number, sizeof number, "%u", vcpus);
    fill_memory(plain, vcpus, cmdline);
    int status = run_qemu(number);
    read_console();
    return status;
}

static void assert_found_everything(void)
{
    static const char *const lines[] = {
        "BIOS-e820: [mem 0x00000000000e0000-0x00000000000effff] ACPI data",
        "BIOS-e820: [mem 0x0000000100000000-0x000000013fffffff] usable",
        "IOAPIC[0]: apic_id 0, version 32, address 0xfec00000, GSI 0-23",
        "ACPI: PM: (supports S0 S5)",
        "ttyS0 at I/O 0x3f8",
        "is a 16550A",
        "setting system clock to 20",
        "IO-APIC   9-edge      ACPI:Ged",
        "IO-APIC   4-edge      ttyS0",
        "IO-APIC   8-edge      rtc0",
        "d0000000-d00001ff : LNRO0005:00",
        "d0005000-d00051ff : LNRO0005:05",
        "000f1000-000f1fff : AMZNC10C:00",
        "acpi:TNDR0001:VM_GEN_COUNTER:",
    };
    for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_said(lines[i]);
    assert_null(strstr(console, "ACPI Error"));
    assert_null(strstr(console, "ACPI BIOS"));
    assert_null(strstr(console, "ACPI Warning"));
}

/* The device of QEMU ends with the status 2 * value + 1. */
static void test_pvh_powers_off(void **state)
{
    (void)state;
    assert_int_equal(boot(false, 1, LINE), 2 * 0x34 + 1); /* SLP_EN, type 5 */
    assert_found_everything();
}

static void test_64bit_elf_powers_off(void **state)
{
    (void)state;
    assert_int_equal(boot(true, 1, LINE), 2 * 0x34 + 1);
    assert_found_everything();
}

static void test_two_processors_reset(void **state)
{
    (void)state;
    assert_int_equal(boot(false, 2, LINE "reset"), 2 * 1 + 1);
    assert_said("smp: Brought up 1 node, 2 CPUs");
}

static int remove_files(void **state)
{
    static const char *const names[] = {"ram", "rom", "initrd", "vmlinux", "console"};
    char path[256];
    (void)state;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pvh_powers_off),
        cmocka_unit_test(test_64bit_elf_powers_off),
        cmocka_unit_test(test_two_processors_reset),
    };
    guest_dir = getenv("TINDERBOX_GUEST_DIR");
    init_path = argv[1];
    if (argc != 2 || !guest_dir) {
        printf("skipped: TINDERBOX_GUEST_DIR is not set: make the guest kit with guest/assemble\n");
        return 77;
    }
    if (!mkdtemp(dir))
        return 1;
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
