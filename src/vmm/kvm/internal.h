/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of vmm/kvm share. */
#ifndef VMM_KVM_INTERNAL_H
#define VMM_KVM_INTERNAL_H

#include <pthread.h>
#include <sys/ioctl.h>

#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm.h"

#define KVM_MSRS_MAX 512u
#define KVM_XSAVE_MAX 16384u /* 4096 unless the process asked for AMX, which it does not */

struct msr_table { /* as struct kvm_msrs, with its entries */
    uint32_t n, padding;
    struct kvm_msr_entry entry[KVM_MSRS_MAX];
};

struct kvm_vcpu {
    struct kvm_vm *vm; /* borrowed; NULL until the vCPU exists */
    unsigned index;
    int fd;              /* owned */
    struct kvm_run *run; /* owned mapping; NULL */
    pthread_t thread;    /* valid once has_thread */
    atomic_bool has_thread;
    atomic_uint_least64_t exits; /* written by the vCPU thread alone */
};

struct kvm_vm {
    int fd;                         /* owned; -1 */
    const struct bus *ports, *mmio; /* borrowed */
    unsigned n_vcpus;
    size_t run_bytes;
    bool xsave2, tsc_control;
    uint32_t xsave_bytes;
    uint32_t tsc_khz;                         /* of the vCPUs */
    struct cpuid_table host;                  /* the template on this host */
    struct cpuid_table cpuid;                 /* what the vCPUs have, but for cpuid_for_vcpu() */
    struct msr_table msrs;                    /* to save: numbers only */
    _Alignas(8) uint8_t xsave[KVM_XSAVE_MAX]; /* scratch of the control thread */
    struct kvm_vcpu vcpu[KVM_VCPUS_MAX];
};

/* vm.c */
int vm_set_cpuid(struct kvm_vm *v, const struct cpuid_table *base, struct err *e) MUST_CHECK;
int vm_set_tsc_khz(struct kvm_vm *v, uint64_t khz, struct err *e) MUST_CHECK;

/* msr.c: which MSRs are saved here, in the order in which they are to be restored */
int msr_list(int kvm_fd, struct msr_table *list, struct err *e) MUST_CHECK;
/* request: KVM_GET_MSRS or KVM_SET_MSRS. What KVM refuses is dropped from t; returns how many. */
unsigned msr_transfer(const struct kvm_vcpu *c, unsigned long request, struct msr_table *t);
/* Section STATE_MSRS: 16 bytes per entry. -EBADMSG. */
int msr_decode(const void *p, size_t n, struct msr_table *ret, struct err *e) MUST_CHECK;

#endif
