/* SPDX-License-Identifier: Apache-2.0 */
/* The VM and its parts, made in the order in which current kernels make and destroy them fast. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/kvm/internal.h"
#include "vmm/layout.h"

#define IRQCHIP_PINS 24u
#define TSC_TOLERANCE_PPM 250u /* KVM's own: below it a guest keeps the host's rate */

static int check_host(int kvm_fd, struct err *e)
{
    static const struct {
        int cap;
        const char *name;
    } need[] = {
        /* The others that are used are older than this one. */
        {KVM_CAP_SREGS2, "KVM_GET_SREGS2 (Linux 5.14)"},
        {KVM_CAP_SPLIT_IRQCHIP, "split irqchip"},
    };
    int version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
    if (version < 0)
        return err_set_errno(e, errno, "/dev/kvm does not answer");
    if (version != KVM_API_VERSION)
        return err_set(e, ENOTSUP, "KVM speaks API version %d, not %d", version, KVM_API_VERSION);
    for (size_t i = 0; i < ARRAY_LEN(need); i++)
        if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, need[i].cap) <= 0)
            return err_set(e, ENOTSUP, "this host's KVM has no %s", need[i].name);
    return 0;
}

static int create_vm(struct kvm_vm *v, int kvm_fd, struct err *e)
{
    v->fd = (int)TEMP_FAILURE_RETRY(ioctl(kvm_fd, KVM_CREATE_VM, 0));
    if (v->fd < 0)
        return err_set_errno(e, errno, "KVM_CREATE_VM");
    int xsave = ioctl(v->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    v->xsave2 = xsave > 0;
    v->xsave_bytes = v->xsave2 ? (uint32_t)xsave : (uint32_t)sizeof(struct kvm_xsave);
    if (v->xsave_bytes > sizeof v->xsave)
        return err_set(e, ENOTSUP, "KVM wants %u bytes of XSAVE state", v->xsave_bytes);
    v->tsc_control = ioctl(v->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
    return 0;
}

static int add_memory(const struct kvm_vm *v, const struct gmem *m, struct err *e)
{
    /* Intel needs these pages when it has no "unrestricted guest"; a refusal means nothing. */
    uint64_t identity_map = LAYOUT_IDENTITY_MAP;
    (void)ioctl(v->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    (void)ioctl(v->fd, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_TSS);
    for (unsigned i = 0; i < m->n_regions; i++) {
        struct kvm_userspace_memory_region r = {
            .slot = i,
            .guest_phys_addr = m->region[i].gpa,
            .memory_size = m->region[i].bytes,
            .userspace_addr = (uintptr_t)(m->host + m->region[i].offset),
        };
        if (ioctl(v->fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
            return err_set_errno(e, errno, "KVM memory slot %u of %llu MiB", i,
                                 (unsigned long long)(r.memory_size >> 20));
    }
    return 0;
}

static int add_irqchip(const struct kvm_vm *v, struct err *e)
{
    struct kvm_enable_cap x2apic = {
        .cap = KVM_CAP_X2APIC_API,
        .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
    (void)ioctl(v->fd, KVM_ENABLE_CAP, &x2apic); /* 16 vCPUs can do without */
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IRQCHIP_PINS}};
    if (ioctl(v->fd, KVM_ENABLE_CAP, &split) < 0)
        return err_set_errno(e, errno, "KVM split irqchip");
    return 0;
}

static int add_vcpu(struct kvm_vm *v, unsigned index, struct err *e)
{
    struct kvm_vcpu *c = &v->vcpu[index];
    int fd = ioctl(v->fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (fd < 0)
        return err_set_errno(e, errno, "KVM_CREATE_VCPU %u", index);
    c->vm = v;
    c->index = index;
    c->fd = fd;
    void *p = mmap(NULL, v->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, "map vCPU %u", index);
    c->run = p;
    return 0;
}

static int add_vcpus(struct kvm_vm *v, int kvm_fd, struct err *e)
{
    int bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes < (int)sizeof(struct kvm_run))
        return err_set(e, ENOTSUP, "KVM_GET_VCPU_MMAP_SIZE: %d", bytes);
    v->run_bytes = (size_t)bytes;
    for (unsigned i = 0; i < v->n_vcpus; i++) {
        int r = add_vcpu(v, i, e);
        if (r < 0)
            return r;
    }
    int khz = ioctl(v->vcpu[0].fd, KVM_GET_TSC_KHZ, 0);
    v->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
    return 0;
}

static int choose_cpu(struct kvm_vm *v, int kvm_fd, struct err *e)
{
    struct cpuid_table supported = {.n = KVM_CPUID_MAX};
    if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &supported) < 0)
        return err_set_errno(e, errno, "KVM_GET_SUPPORTED_CPUID");
    bool deadline = ioctl(v->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    cpuid_template(&supported, deadline, &v->host);
    int r = vm_set_cpuid(v, &v->host, e);
    return r < 0 ? r : msr_list(kvm_fd, &v->msrs, e);
}

static int build(struct kvm_vm *v, const struct kvm_vm_config *c, struct err *e)
{
    int r = check_host(c->kvm_fd, e);
    if (r < 0 || (r = create_vm(v, c->kvm_fd, e)) < 0 || (r = add_memory(v, c->mem, e)) < 0 ||
        (r = add_irqchip(v, e)) < 0 || (r = add_vcpus(v, c->kvm_fd, e)) < 0)
        return r;
    return choose_cpu(v, c->kvm_fd, e);
}

int kvm_vm_new(const struct kvm_vm_config *c, struct kvm_vm **ret, struct err *e)
{
    if (c->vcpus == 0 || c->vcpus > KVM_VCPUS_MAX)
        return err_set(e, EINVAL, "a machine has 1 to %u vCPUs, not %u", KVM_VCPUS_MAX, c->vcpus);
    struct kvm_vm *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(e, ENOMEM, "no memory for a VM");
    v->fd = -1;
    v->ports = c->ports;
    v->mmio = c->mmio;
    v->n_vcpus = c->vcpus;
    int r = build(v, c, e);
    if (r < 0)
        kvm_vm_free(v);
    else
        *ret = v;
    return r;
}

void kvm_vm_free(struct kvm_vm *v)
{
    for (unsigned i = 0; v && i < v->n_vcpus; i++) {
        if (v->vcpu[i].run)
            munmap(v->vcpu[i].run, v->run_bytes);
        if (v->vcpu[i].vm)
            close(v->vcpu[i].fd);
    }
    if (v && v->fd >= 0)
        close(v->fd);
    free(v);
}

int vm_set_cpuid(struct kvm_vm *v, const struct cpuid_table *base, struct err *e)
{
    for (unsigned i = 0; i < v->n_vcpus; i++) {
        struct cpuid_table t;
        cpuid_for_vcpu(base, v->n_vcpus, i, &t);
        if (ioctl(v->vcpu[i].fd, KVM_SET_CPUID2, &t) < 0)
            return err_set_errno(e, errno, "KVM_SET_CPUID2 on vCPU %u", i);
    }
    v->cpuid = *base;
    return 0;
}

/* Without scaling in hardware KVM would let a guest's clock run at the wrong rate and catch up in
 * steps: better refused. */
int vm_set_tsc_khz(struct kvm_vm *v, uint64_t khz, struct err *e)
{
    uint64_t have = v->tsc_khz, apart = khz > have ? khz - have : have - khz;
    if (apart == 0)
        return 0;
    if (khz == 0 || khz > UINT32_MAX ||
        (!v->tsc_control && apart * 1000000u > have * TSC_TOLERANCE_PPM))
        return err_set(e, ENOTSUP,
                       "the machine's time stamp counter runs at %llu kHz, this host's at %llu kHz"
                       " and it cannot scale",
                       (unsigned long long)khz, (unsigned long long)have);
    for (unsigned i = 0; i < v->n_vcpus; i++)
        if (ioctl(v->vcpu[i].fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
            return err_set_errno(e, errno, "KVM_SET_TSC_KHZ %llu", (unsigned long long)khz);
    v->tsc_khz = (uint32_t)khz;
    return 0;
}

int kvm_vm_ioeventfd(struct kvm_vm *v, uint64_t gpa, uint32_t value, int fd, struct err *e)
{
    struct kvm_ioeventfd io = {value, gpa, sizeof value, fd, KVM_IOEVENTFD_FLAG_DATAMATCH, {0}};
    if (ioctl(v->fd, KVM_IOEVENTFD, &io) < 0)
        return err_set_errno(e, errno, "KVM_IOEVENTFD at 0x%llx", (unsigned long long)gpa);
    return 0;
}

void kvm_vm_msi(void *vm, uint64_t address, uint32_t data)
{
    struct kvm_vm *v = vm;
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    /* A message that names no vCPU is lost, as on the bus. */
    (void)ioctl(v->fd, KVM_SIGNAL_MSI, &msi);
}

struct kvm_vcpu *kvm_vm_vcpu(struct kvm_vm *v, unsigned index)
{
    return index < v->n_vcpus ? &v->vcpu[index] : NULL;
}
