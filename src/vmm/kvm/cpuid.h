/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's CPUID instruction says: the template KVM_CPU_TEMPLATE, which is an allow-list
 * over what KVM supports here, plus the numbers that differ per vCPU. Pure functions over tables;
 * any thread.
 */
#ifndef VMM_KVM_CPUID_H
#define VMM_KVM_CPUID_H

#include <stdint.h>

#include "vmm/kvm/kvm.h"

enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX, CPUID_REGS };

struct cpuid_entry { /* as struct kvm_cpuid_entry2 */
    uint32_t leaf, index, flags;
    uint32_t reg[CPUID_REGS];
    uint32_t padding[3];
};

struct cpuid_table { /* as struct kvm_cpuid2 */
    uint32_t n, padding;
    struct cpuid_entry entry[KVM_CPUID_MAX];
};
#define CPUID_PER_VCPU 3u /* entries cpuid_for_vcpu() adds */
#define CPUID_BASE_MAX (KVM_CPUID_MAX - CPUID_PER_VCPU)

/* supported: as KVM_GET_SUPPORTED_CPUID gave it. What the in-kernel local APIC provides, which that
 * call does not always report, is added. */
void cpuid_template(const struct cpuid_table *supported, bool tsc_deadline,
                    struct cpuid_table *ret);
/* base with APIC ids and topology (vcpus cores of one socket) filled in; base->n is at most
 * CPUID_BASE_MAX. */
void cpuid_for_vcpu(const struct cpuid_table *base, unsigned vcpus, unsigned index,
                    struct cpuid_table *ret);
/* Could a host with this template give a guest all of saved? -ENOTSUP, and the sentence names the
 * first leaf, register and bits that are missing. */
int cpuid_check(const struct cpuid_table *saved, const struct cpuid_table *host,
                struct err *e) MUST_CHECK;

/* Section STATE_CPUID: 28 bytes per entry. -EBADMSG when no monitor can have written it. */
void cpuid_save(const struct cpuid_table *base, struct state_writer *w);
int cpuid_decode(const void *p, size_t n, struct cpuid_table *ret, struct err *e) MUST_CHECK;

#endif
