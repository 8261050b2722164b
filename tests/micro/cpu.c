/* SPDX-License-Identifier: Apache-2.0 */
/* What happens inside a vCPU: registers, exceptions, interrupts, kicks, other vCPUs. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "harness.h"
#include "vmm/dev/ioapic.h"
#include "vmm/layout.h"

static struct micro m;

static void start(const char *guest, unsigned vcpus)
{
    micro_new(&m, vcpus, -1);
    micro_start(&m, guest, BOOT_MODE_PVH32);
}

static void test_msr(const char *guest)
{
    start(guest, 1);
    micro_run_to_end(&m);
    CHECK(micro_result(&m, 0) == (LAYOUT_LAPIC_BASE | 0x900)); /* on, boot processor */
    CHECK(micro_result(&m, 1) == 0x806);                       /* on, write-back */
    CHECK(micro_result(&m, 2) == 0x00070406);
    CHECK(micro_result(&m, 3) == 0x1234);
    if (micro_result(&m, 4) == 0)
        micro_skip("the kvm module is loaded with ignore_msrs");
    for (unsigned i = 0; i < 3; i++)
        CHECK(micro_result(&m, 4 + i) == i + 1);
    micro_free(&m);
}

static void test_cpuid(const char *guest)
{
    uint32_t r[24];
    start(guest, 1);
    micro_run_to_end(&m);
    memcpy(r, micro_ram(&m, MICRO_RESULT, sizeof r), sizeof r);
    CHECK(r[0] >= 1 && r[0] <= 0x1f);
    CHECK(r[5] >> 24 == 0 && (r[5] >> 16 & 0xff) == 1); /* APIC id, ids per socket */
    CHECK((r[6] & 0x81200000) == 0x81200000);           /* hypervisor, deadline, x2APIC */
    CHECK((r[6] & (1u << 5 | 1u << 3)) == 0);           /* VMX, MONITOR */
    CHECK(r[8] == 0x40000001 && memcmp(r + 9, "KVMKVMKVM\0\0\0", 12) == 0);
    CHECK((r[14] & (1u << 2)) == 0);                     /* SVM */
    CHECK((r[15] & 1u << 29) != 0);                      /* long mode */
    CHECK(r[0] < 0xb || (r[18] == 0x100 && r[19] == 0)); /* threads, APIC id */
    CHECK(r[0] < 0xb || (r[21] == 1 && r[22] == 0x201)); /* one core */
    micro_free(&m);
}

/* ---- interrupts -------------------------------------------------------------------------------
 */

static void *raise_later(void *arg)
{
    const struct timespec until_it_halts = {.tv_nsec = 20000000};
    nanosleep(&until_it_halts, NULL);
    ioapic_raise(arg, LAYOUT_IRQ_GED);
    return NULL;
}

struct interrupts {
    struct ioapic ioapic;
    pthread_t thread;
};

static void program_pin(struct ioapic *a, unsigned pin, uint32_t entry)
{
    uint32_t index = 0x10 + 2 * pin, high = 0;
    ioapic_ops.write(a, 0x00, &index, 4);
    ioapic_ops.write(a, 0x10, &entry, 4);
    index++;
    ioapic_ops.write(a, 0x00, &index, 4);
    ioapic_ops.write(a, 0x10, &high, 4);
}

static void interrupt(void *arg, const struct micro_access *a)
{
    struct interrupts *i = arg;
    if (a->value == 1)
        kvm_vm_msi(m.vm, LAYOUT_LAPIC_BASE, 0x40);
    else
        CHECK(pthread_create(&i->thread, NULL, raise_later, &i->ioapic) == 0);
}

static void test_msi(const char *guest)
{
    struct interrupts i;
    start(guest, 1);
    ioapic_init(&i.ioapic, kvm_vm_msi, m.vm);
    program_pin(&i.ioapic, LAYOUT_IRQ_GED, 0x41);
    m.port.hook = interrupt;
    m.port.arg = &i;
    micro_run_to_end(&m);
    pthread_join(i.thread, NULL);
    CHECK(m.port.n == 2);
    micro_free(&m);
}

/* ---- how runs end -----------------------------------------------------------------------------
 */

static void test_triple(const char *guest)
{
    start(guest, 1);
    CHECK(micro_run(&m) == VCPU_RESET);
    CHECK(strstr(m.text, "triple fault"));
    micro_free(&m);
}

static void test_nowhere(const char *guest)
{
    start(guest, 1);
    CHECK(micro_run(&m) == VCPU_FAILED);
    CHECK(strstr(m.text, "internal error"));
    printf("%s\n", m.text);
    micro_free(&m);
}

static void *stop_later(void *arg)
{
    const struct timespec until_it_spins = {.tv_nsec = 5000000};
    nanosleep(&until_it_spins, NULL);
    clock_gettime(CLOCK_MONOTONIC, arg);
    micro_stop(&m);
    return NULL;
}

static double run_and_kick(void)
{
    struct timespec kicked, now;
    pthread_t t;
    CHECK(pthread_create(&t, NULL, stop_later, &kicked) == 0);
    CHECK(micro_run(&m) == VCPU_KICKED);
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_join(t, NULL);
    return (double)(now.tv_sec - kicked.tv_sec) * 1e6 +
           (double)(now.tv_nsec - kicked.tv_nsec) / 1e3;
}

static void test_kick(const char *guest)
{
    double worst = 0;
    start(guest, 1);
    for (unsigned i = 0; i < 20; i++) {
        double us = run_and_kick();
        worst = us > worst ? us : worst;
        CHECK(!vcpu_is_dead_halted(kvm_vm_vcpu(m.vm, 0)));
    }
    printf("slowest of 20 kicks: %.0f us\n", worst);
    vcpu_kick(kvm_vm_vcpu(m.vm, 0)); /* one that comes before the run is not lost */
    CHECK(vcpu_run(kvm_vm_vcpu(m.vm, 0), m.text) == VCPU_KICKED);
    CHECK(m.port.n == 1 && vcpu_exits(kvm_vm_vcpu(m.vm, 0)) == 1);
    micro_free(&m);
}

static void test_halt(const char *guest)
{
    start(guest, 1);
    run_and_kick();
    CHECK(vcpu_is_dead_halted(kvm_vm_vcpu(m.vm, 0)));
    micro_free(&m);
}

static void test_smp(const char *guest)
{
    start(guest, 2);
    micro_run_to_end(&m);
    CHECK(micro_result(&m, 0) > 0 && micro_result(&m, 1) == 1);
    micro_free(&m);
}

const struct micro_test micro_cpu_tests[] = {
    {"msr", test_msr, NULL},       {"cpuid", test_cpuid, NULL},     {"msi", test_msi, NULL},
    {"triple", test_triple, NULL}, {"nowhere", test_nowhere, NULL}, {"kick", test_kick, "spin"},
    {"halt", test_halt, NULL},     {"smp", test_smp, NULL},         {0}};
