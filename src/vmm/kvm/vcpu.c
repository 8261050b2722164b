/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a vCPU. KVM_RUN finishes the I/O of its last exit before it looks at immediate_exit, and
 * only then returns EINTR: leaving on EINTR and on nothing else of that kind is what keeps the
 * state whole.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/kvm/internal.h"

#define TEXT_MAX 200u

static void serve_port(const struct kvm_vcpu *c)
{
    struct kvm_run *run = c->run;
    uint8_t *p = (uint8_t *)run + run->io.data_offset;
    for (uint32_t i = 0; i < run->io.count; i++, p += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_IN)
            bus_read(c->vm->ports, run->io.port, p, run->io.size);
        else
            bus_write(c->vm->ports, run->io.port, p, run->io.size);
    }
}

/* KVM cuts an access at a page's end, so that any length up to 8 can arrive. No device has one of 3
 * bytes: such an access left the device's range and belongs to nobody. */
static void serve_mmio(const struct kvm_vcpu *c)
{
    struct kvm_run *run = c->run;
    uint32_t len = run->mmio.len;
    if (len != 1 && len != 2 && len != 4 && len != 8)
        memset(run->mmio.data, 0xff, sizeof run->mmio.data);
    else if (run->mmio.is_write)
        bus_write(c->vm->mmio, run->mmio.phys_addr, run->mmio.data, len);
    else
        bus_read(c->vm->mmio, run->mmio.phys_addr, run->mmio.data, len);
}

static enum vcpu_exit internal_error(const struct kvm_vcpu *c, char text[TEXT_MAX])
{
    const struct kvm_run *run = c->run;
    int n = snprintf(text, TEXT_MAX, "vCPU %u: KVM internal error, suberror %u", c->index,
                     run->internal.suberror);
    const __typeof__(run->emulation_failure) *f = &run->emulation_failure;
    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || f->ndata < 3 ||
        !(f->flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return VCPU_FAILED;
    n += snprintf(text + n, TEXT_MAX - (size_t)n, ": cannot emulate");
    for (unsigned i = 0; i < f->insn_size && i < sizeof f->insn_bytes; i++)
        n += snprintf(text + n, TEXT_MAX - (size_t)n, " %02x", f->insn_bytes[i]);
    return VCPU_FAILED;
}

static enum vcpu_exit system_event(const struct kvm_vcpu *c, char text[TEXT_MAX])
{
    uint32_t type = c->run->system_event.type;
    snprintf(text, TEXT_MAX, "vCPU %u: system event %u", c->index, type);
    return type == KVM_SYSTEM_EVENT_SHUTDOWN ? VCPU_SHUTDOWN
           : type == KVM_SYSTEM_EVENT_RESET  ? VCPU_RESET
                                             : VCPU_FAILED;
}

/* True: go on. Otherwise *why and text are set. */
static bool serve_exit(const struct kvm_vcpu *c, enum vcpu_exit *why, char text[TEXT_MAX])
{
    const struct kvm_run *run = c->run;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        serve_port(c);
        return true;
    case KVM_EXIT_MMIO:
        serve_mmio(c);
        return true;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IOAPIC_EOI: /* all lines are edge-triggered */
        return true;
    case KVM_EXIT_SHUTDOWN:
        snprintf(text, TEXT_MAX, "vCPU %u: triple fault", c->index);
        *why = VCPU_RESET;
        return false;
    case KVM_EXIT_SYSTEM_EVENT:
        *why = system_event(c, text);
        return false;
    case KVM_EXIT_INTERNAL_ERROR:
        *why = internal_error(c, text);
        return false;
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(text, TEXT_MAX, "vCPU %u: the hardware refused to enter the guest, reason 0x%llx",
                 c->index, (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    default:
        snprintf(text, TEXT_MAX, "vCPU %u: unknown exit %u", c->index, run->exit_reason);
        break;
    }
    *why = VCPU_FAILED;
    return false;
}

static void count_exit(struct kvm_vcpu *c)
{
    uint64_t n = atomic_load_explicit(&c->exits, memory_order_relaxed);
    atomic_store_explicit(&c->exits, n + 1, memory_order_relaxed);
}

enum vcpu_exit vcpu_run(struct kvm_vcpu *c, char text[TEXT_MAX])
{
    enum vcpu_exit why;
    text[0] = '\0';
    for (;;) {
        if (ioctl(c->fd, KVM_RUN, 0) == 0) {
            count_exit(c);
            if (!serve_exit(c, &why, text))
                return why;
        } else if (errno == EINTR) {
            __atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_RELAXED);
            return VCPU_KICKED;
        } else if (errno != EAGAIN) { /* EAGAIN: INIT or SIPI arrived */
            snprintf(text, TEXT_MAX, "vCPU %u: KVM_RUN: %s (exit %u)", c->index, strerror(errno),
                     c->run->exit_reason);
            return VCPU_FAILED;
        }
    }
}

void vcpu_kick(struct kvm_vcpu *c)
{
    __atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_RELEASE);
    /* A device that kicks the vCPU it is called by is not inside KVM_RUN. */
    if (atomic_load_explicit(&c->has_thread, memory_order_acquire) &&
        !pthread_equal(c->thread, pthread_self()))
        pthread_kill(c->thread, KVM_KICK_SIGNAL);
}

void vcpu_set_thread(struct kvm_vcpu *c)
{
    c->thread = pthread_self();
    atomic_store_explicit(&c->has_thread, true, memory_order_release);
}

uint64_t vcpu_exits(const struct kvm_vcpu *c)
{
    return atomic_load_explicit(&c->exits, memory_order_relaxed);
}

bool vcpu_is_dead_halted(struct kvm_vcpu *c)
{
    struct kvm_mp_state mp;
    struct kvm_regs regs;
    const uint64_t interrupts_on = 1u << 9; /* RFLAGS.IF */
    return ioctl(c->fd, KVM_GET_MP_STATE, &mp) == 0 && mp.mp_state == KVM_MP_STATE_HALTED &&
           ioctl(c->fd, KVM_GET_REGS, &regs) == 0 && !(regs.rflags & interrupts_on);
}
