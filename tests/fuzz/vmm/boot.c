/* SPDX-License-Identifier: Apache-2.0 */
/* Input: one byte (1: the file is also the initrd; 2: a flat binary for the address in the next two
 * bytes), then the kernel file. Whatever it says, it is loaded above 1 MiB and entered in RAM; the
 * ACPI tables are not touched. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot/boot.h"
#include "vmm/layout.h"

#define RAM_BYTES (4u << 20)
#define MIB (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem mem;
static int file;

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void set_up(void)
{
    struct err e;
    check(gmem_reserve(&mem, RAM_BYTES, &e) == 0 && gmem_map_zero(&mem, false, &e) == 0);
    memset(gmem_ptr(&mem, LAYOUT_EBDA, MIB - LAYOUT_EBDA), 0xa5, MIB - LAYOUT_EBDA);
    check((file = memfd_create("kernel", MFD_CLOEXEC)) >= 0);
}

static void check_tables_untouched(void)
{
    const uint8_t *p = gmem_ptr(&mem, LAYOUT_EBDA, MIB - LAYOUT_EBDA);
    check(*p == 0xa5 && memcmp(p, p + 1, MIB - LAYOUT_EBDA - 1) == 0);
}

static void check_entry(const struct boot_entry *b)
{
    const uint32_t *magic = gmem_ptr(&mem, LAYOUT_PVH_INFO, 4);
    check(b->rip >= MIB && b->rip < RAM_BYTES);
    check(b->mode == BOOT_MODE_PVH32 || b->mode == BOOT_MODE_LONG64);
    check(b->mode == BOOT_MODE_LONG64 || (b->rbx == LAYOUT_PVH_INFO && *magic == 0x336ec578));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct boot_entry b = {0};
    struct err e;
    if (size < 3)
        return 0;
    if (!mem.host)
        set_up();
    size_t skip = data[0] & 2 ? 3 : 1;
    check(ftruncate(file, 0) == 0);
    check(pwrite(file, data + skip, size - skip, 0) == (ssize_t)(size - skip));
    if (data[0] & 2) {
        if (boot_load_flat(&mem, file, data[1] | data[2] << 8, &b, &e) == 0)
            check(b.mode == BOOT_MODE_FLAT16 && b.rip <= UINT16_MAX);
    } else {
        struct boot_config c = {file, data[0] & 1 ? file : -1, "console=ttyS0", LAYOUT_ACPI};
        if (boot_load(&mem, &c, &b, &e) == 0)
            check_entry(&b);
    }
    check_tables_untouched();
    return 0;
}
