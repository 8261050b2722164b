/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "aml_check.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/vmclock.h"
#include "vmm/layout.h"

static struct gmem mem;

static int set_up(void **state)
{
    (void)state;
    struct err e;
    return gmem_reserve(&mem, 4 << 20, &e) < 0 || gmem_map_zero(&mem, false, &e) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    gmem_done(&mem);
    return 0;
}

static uint64_t get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;
    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

struct found {
    const uint8_t *fadt, *madt, *dsdt;
    uint32_t fadt_n, madt_n, dsdt_n;
};

static const uint8_t *table(uint64_t gpa, const char *signature, uint32_t *n)
{
    assert_true(gpa >= LAYOUT_ACPI && gpa < LAYOUT_ACPI_END && gpa % 16 == 0);
    const uint8_t *p = gmem_ptr(&mem, gpa, LAYOUT_ACPI_END - gpa);
    assert_true(acpi_check_table(p, LAYOUT_ACPI_END - gpa, signature, n));
    return p;
}

static struct found build(const struct acpi_config *c)
{
    struct err e = {0};
    struct found f;
    uint64_t rsdp = 0;
    uint32_t n;
    assert_int_equal(acpi_build(&mem, c, &rsdp, &e), 0);
    const uint8_t *p = gmem_ptr(&mem, rsdp, 36);
    assert_memory_equal(p, "RSD PTR ", 8);
    assert_int_equal(sum(p, 20), 0);
    assert_int_equal(sum(p, 36), 0);
    assert_int_equal(p[15], 2);
    assert_int_equal(get(p + 20, 4), 36);
    const uint8_t *xsdt = table(get(p + 24, 8), "XSDT", &n);
    assert_int_equal(n, 36 + 16);
    f.fadt = table(get(xsdt + 36, 8), "FACP", &f.fadt_n);
    f.madt = table(get(xsdt + 44, 8), "APIC", &f.madt_n);
    f.dsdt = table(get(f.fadt + 140, 8), "DSDT", &f.dsdt_n);
    return f;
}

static void test_tables(void **state)
{
    (void)state;
    for (unsigned vcpus = 1; vcpus <= 255; vcpus += 127) {
        for (unsigned n = 0; n <= LAYOUT_VIRTIO_MAX; n++) {
            struct acpi_config c = {.vcpus = vcpus, .n_virtio = n, .vmclock = n & 1};
            struct found f = build(&c);
            struct aml_in in;
            assert_true(aml_check(&in, f.dsdt + 36, f.dsdt_n - 36));
            assert_int_equal(in.devices, 4 + n + (n & 1));
            assert_int_equal(in.interrupts, 3 + n);
            assert_int_equal(f.madt_n, 44 + 8 * vcpus + 12);
        }
    }
}

static void test_fadt(void **state)
{
    (void)state;
    struct acpi_config c = {.vcpus = 1, .n_virtio = 3};
    struct found f = build(&c);
    static const uint8_t sleep_control[] = {1, 8, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0};
    static const uint8_t sleep_status[] = {1, 8, 0, 1, 1, 6, 0, 0, 0, 0, 0, 0};
    static const uint8_t reset[] = {1, 8, 0, 1, 4, 6, 0, 0, 0, 0, 0, 0};
    assert_int_equal(f.fadt_n, 276);
    assert_int_equal(get(f.fadt + 40, 4), get(f.fadt + 140, 8)); /* DSDT and X_DSDT */
    assert_true(get(f.fadt + 112, 4) & 1 << 20);                 /* hardware-reduced */
    assert_true(get(f.fadt + 112, 4) & 1 << 10);                 /* reset register */
    assert_int_equal(get(f.fadt + 109, 2), 1 << 2);              /* no i8042, no VGA */
    assert_memory_equal(f.fadt + 116, reset, sizeof reset);
    assert_int_equal(f.fadt[128], 1);
    assert_memory_equal(f.fadt + 244, sleep_control, sizeof sleep_control);
    assert_memory_equal(f.fadt + 256, sleep_status, sizeof sleep_status);
    for (unsigned i = 148; i < 244; i++) /* no fixed hardware */
        assert_int_equal(f.fadt[i], 0);
}

static void test_madt(void **state)
{
    (void)state;
    struct acpi_config c = {.vcpus = 16};
    struct found f = build(&c);
    assert_int_equal(get(f.madt + 36, 4), LAYOUT_LAPIC_BASE);
    assert_int_equal(get(f.madt + 40, 4), 0); /* no 8259 */
    for (unsigned i = 0; i < 16; i++) {
        uint8_t lapic[] = {0, 8, (uint8_t)i, (uint8_t)i, 1, 0, 0, 0};
        assert_memory_equal(f.madt + 44 + 8 * i, lapic, sizeof lapic);
    }
    static const uint8_t ioapic[] = {1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0};
    assert_memory_equal(f.madt + 44 + 128, ioapic, sizeof ioapic);
}

static void test_refused(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t rsdp;
    assert_int_equal(acpi_build(&mem, &(struct acpi_config){.vcpus = 0}, &rsdp, &e), -EINVAL);
    assert_int_equal(acpi_build(&mem, &(struct acpi_config){.vcpus = 256}, &rsdp, &e), -EINVAL);
    assert_int_equal(
        acpi_build(&mem, &(struct acpi_config){.vcpus = 1, .n_virtio = LAYOUT_VIRTIO_MAX + 1},
                   &rsdp, &e),
        -EINVAL);
}

/* The lengths around which the encoding of a PkgLength gets longer. */
static void test_block_lengths(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 61, 62, 63, 64, 4092, 4093, 4094, 4095, 1 << 20};
    static uint8_t space[(1 << 20) + 64];
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct aml a = {.p = space, .cap = sizeof space};
        size_t mark = aml_open(&a, AML_SCOPE);
        for (size_t n = 0; n < sizes[i]; n++)
            aml_number(&a, n, 1);
        aml_close(&a, mark);
        assert_false(a.full);
        struct aml_in in = {.p = space + 1, .end = space + a.n};
        aml_enter(&in);
        assert_false(in.bad);
        assert_ptr_equal(in.end, space + a.n);
        assert_int_equal(in.end - in.p, sizes[i]);
        assert_true(sizes[i] == 0 || in.end[-1] == (uint8_t)(sizes[i] - 1));
    }
}

static void test_full(void **state)
{
    (void)state;
    uint8_t space[16] = {0};
    struct aml a = {.p = space, .cap = 12};
    size_t mark = aml_device(&a, "ABCD");
    aml_named_string(&a, "_HID", "too long");
    aml_close(&a, mark);
    assert_true(a.full);
    assert_true(a.n <= 12);
    assert_int_equal(get(space + 12, 4), 0);
}

static void test_vmclock(void **state)
{
    (void)state;
    const uint8_t *p = gmem_ptr(&mem, LAYOUT_VMCLOCK, 4096);
    struct acpi_config c = {.vcpus = 1, .vmclock = true};
    vmclock_disrupt(&mem);
    assert_int_equal(get(p + 12, 4), 0); /* there is none yet */
    (void)build(&c);
    assert_memory_equal(p, "VCLK", 4);
    assert_int_equal(get(p + 4, 4), 4096);
    assert_int_equal(get(p + 8, 2), 1);
    assert_int_equal(p[10], 0xff);
    vmclock_disrupt(&mem);
    vmclock_disrupt(&mem);
    assert_int_equal(get(p + 16, 8), 2);
    assert_int_equal(get(p + 12, 4), 4); /* even: no update in progress */
}

static int run_iasl(const char *dir)
{
    extern char **environ;
    char prefix[600];
    char source[] = DSDT_ASL;
    char *argv[] = {"iasl", "-p", prefix, source, NULL};
    posix_spawn_file_actions_t quiet;
    pid_t pid;
    int status = -1;
    snprintf(prefix, sizeof prefix, "%s/dsdt", dir);
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&quiet, 1, 2);
    int r = posix_spawnp(&pid, "iasl", &quiet, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&quiet);
    if (r != 0)
        return -r;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Intel's compiler makes the same bytes out of the source. */
static void test_same_as_iasl(void **state)
{
    (void)state;
    char dir[] = "/tmp/tinderbox-iasl-XXXXXX", path[600];
    uint8_t want[8192];
    assert_non_null(mkdtemp(dir));
    int r = run_iasl(dir);
    snprintf(path, sizeof path, "%s/dsdt.aml", dir);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(want, 1, sizeof want, f) : 0;
    if (f)
        fclose(f);
    unlink(path);
    rmdir(dir);
    if (r == -ENOENT) {
        print_message("iasl (Debian package acpica-tools) is not installed\n");
        skip();
    }
    assert_int_equal(r, 0);
    struct acpi_config c = {.vcpus = 1, .n_virtio = 2, .vmclock = true};
    struct found found = build(&c);
    assert_int_equal(n, found.dsdt_n);
    assert_memory_equal(found.dsdt + 36, want + 36, n - 36);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fadt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_madt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test(test_block_lengths),
        cmocka_unit_test(test_full),
        cmocka_unit_test_setup_teardown(test_vmclock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_as_iasl, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
