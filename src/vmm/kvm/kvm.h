/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accelerator: a VM, its memory slots, interrupt controller and vCPUs on /dev/kvm (KVM API).
 *
 * Order matters on current kernels: memory slots before the irqchip, a split irqchip, no PIT: 0.5
 * ms to create and 0.3 ms to destroy, against 6 ms and 16 ms the other way round. kvm_vm_new()
 * therefore takes the reserved guest memory, whose contents are mapped later. Linux 5.14 or later.
 *
 * Threads: kvm_vm_* from the control thread; vcpu_run() on the vCPU's own thread; vcpu_kick() and
 * kvm_vm_msi() from any; state functions while the vCPU is parked.
 */
#ifndef VMM_KVM_KVM_H
#define VMM_KVM_KVM_H

#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/monitor.h"
#include "vmm/boot/boot.h"
#include "vmm/bus.h"
#include "vmm/gmem.h"
#include "vmm/snapshot/state.h"

#define KVM_VCPUS_MAX 16u
#define KVM_CPU_TEMPLATE MONITOR_CPU /* kvm/cpuid.c; recorded in manifests */
#define KVM_CPUID_MAX 256u
#define KVM_KICK_SIGNAL SIGUSR1

struct kvm_vm;
struct kvm_vcpu;

struct kvm_vm_config {
    int kvm_fd;             /* /dev/kvm, borrowed */
    const struct gmem *mem; /* reserved at least */
    unsigned vcpus;
    const struct bus *ports, *mmio; /* borrowed; complete before the first vcpu_run() */
};

int kvm_vm_new(const struct kvm_vm_config *c, struct kvm_vm **ret, struct err *e) MUST_CHECK;
void kvm_vm_free(struct kvm_vm *v); /* no vCPU thread runs; NULL is fine */
/* A guest write of value (4 bytes) to gpa signals fd instead of leaving the vCPU. */
int kvm_vm_ioeventfd(struct kvm_vm *v, uint64_t gpa, uint32_t value, int fd,
                     struct err *e) MUST_CHECK;
void kvm_vm_msi(void *vm, uint64_t address, uint32_t data); /* fits struct ioapic */
struct kvm_vcpu *kvm_vm_vcpu(struct kvm_vm *v, unsigned index);

/* Power-on state: CPUID by the template, vCPU 0 at the entry, the others wait for INIT/SIPI. */
int kvm_vm_power_on(struct kvm_vm *v, const struct boot_entry *entry, struct err *e) MUST_CHECK;
/* VM-wide and vCPU sections. restore refuses, with a sentence, a CPUID this host cannot provide or
 * a TSC rate it can neither match nor scale to; MSRs the host does not take are skipped. Guest
 * memory is mapped by then: KVM looks into it. */
int kvm_vm_save(struct kvm_vm *v, struct state_writer *w, struct err *e) MUST_CHECK;
int kvm_vm_restore(struct kvm_vm *v, const struct state_reader *r, struct err *e) MUST_CHECK;
/* After a pause, before vCPUs run again: the guest's watchdogs are told that it stood still. Part
 * of kvm_vm_restore(). */
void kvm_vm_stood_still(struct kvm_vm *v);

enum vcpu_exit {                  /* an end is what the daemon is told */
                 VCPU_KICKED = 0, /* vcpu_kick(), or a signal: park or run again */
                 VCPU_RESET = MONITOR_EVENT_TRIPLE_FAULT, /* text says why */
                 VCPU_SHUTDOWN = MONITOR_EVENT_POWEROFF,  /* system event shutdown */
                 VCPU_FAILED = MONITOR_EVENT_FAILED,      /* KVM gave up: text */
};
/* Runs the vCPU, serving port and MMIO exits through the buses, until something else happens. A
 * pending I/O is completed before VCPU_KICKED is returned, so the state is always whole. */
enum vcpu_exit vcpu_run(struct kvm_vcpu *c, char text[200]);
/* Makes vcpu_run() return soon; the thread runs with KVM_KICK_SIGNAL handled by an empty handler.
 */
void vcpu_kick(struct kvm_vcpu *c);
void vcpu_set_thread(struct kvm_vcpu *c);      /* the calling thread is the one to kick */
uint64_t vcpu_exits(const struct kvm_vcpu *c); /* any thread: exits to user space so far */
/* A parked vCPU that waits in HLT with interrupts off will never wake up. */
bool vcpu_is_dead_halted(struct kvm_vcpu *c);

#endif
