/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a kernel and says how vCPU 0 starts. Three forms, found by their magic: an ELF with a PVH
 * note (entered in 32-bit protected mode, docs/misc/pvh of Xen), an ELF without one (64-bit, with
 * boot parameters: Documentation/arch/x86/boot.rst §1.15), a bzImage (64-bit entry at 0x200 of the
 * protected-mode code). Also a flat binary for tests (loaded where told, real mode).
 *
 * The files are read with pread from descriptors and treated as hostile: every offset is checked.
 */
#ifndef VMM_BOOT_BOOT_H
#define VMM_BOOT_BOOT_H

#include "base/err.h"
#include "vmm/gmem.h"

enum boot_mode { BOOT_MODE_PVH32, BOOT_MODE_LONG64, BOOT_MODE_FLAT16 };

struct boot_entry { /* registers of vCPU 0; the accelerator turns them into a full state */
    enum boot_mode mode;
    uint64_t rip;
    uint64_t rbx; /* PVH: start info */
    uint64_t rsi; /* 64-bit: boot parameters */
    uint64_t rsp;
    uint64_t cr3; /* 64-bit: page tables that map the first 4 GiB 1:1 */
    uint64_t gdt; /* guest physical; flat code and data segments 0x10, 0x18 */
};

struct boot_config {
    int kernel_fd;       /* borrowed */
    int initrd_fd;       /* borrowed; -1 = none */
    const char *cmdline; /* at most LAYOUT_CMDLINE_MAX - 1 bytes */
    uint64_t rsdp;
};

/* RAM is as gmem_map_zero() left it, but for the ACPI tables. -EINVAL: not a kernel we can start
 * (the text says why), -E2BIG: does not fit into RAM. */
int boot_load(const struct gmem *m, const struct boot_config *c, struct boot_entry *ret,
              struct err *e) MUST_CHECK;
/* Copies the file to gpa and enters it there in real mode (cs base 0, ip gpa): gpa < 64 KiB. */
int boot_load_flat(const struct gmem *m, int fd, uint64_t gpa, struct boot_entry *ret,
                   struct err *e) MUST_CHECK;

#endif
