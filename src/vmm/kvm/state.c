/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and restoring what KVM holds. Reading has side effects (KVM_GET_MP_STATE makes pending
 * INITs and SIPIs take effect, so it comes first), writing has dependencies: the local APIC needs
 * its base from the special registers, the TSC deadline needs the local APIC, general registers
 * clear pending exceptions and so precede events. One list read forwards and written backwards
 * satisfies both.
 */
#include <errno.h>
#include <string.h>

#include "vmm/kvm/internal.h"

#define VERSION 1u /* of each section here */

struct vcpu_state { /* KVM's own structs: their layout is a promise of the kernel */
    struct kvm_mp_state mp_state;
    uint32_t reserved;
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic;
    struct kvm_debugregs debugregs;
    struct kvm_xcrs xcrs;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
};
_Static_assert(sizeof(struct vcpu_state) == 8 + 64 + 1024 + 128 + 392 + 144 + 320, "no padding");

struct clock_state {
    uint64_t kvmclock_ns;
    uint32_t tsc_khz;
    uint32_t vcpus;
};

static const struct part {
    unsigned long get, set;
    size_t offset;
    const char *name;
} parts[] = {
#define PART(NAME, member)                                                         \
    {                                                                              \
        KVM_GET_##NAME, KVM_SET_##NAME, offsetof(struct vcpu_state, member), #NAME \
    }
    PART(MP_STATE, mp_state), PART(VCPU_EVENTS, events), /* are written after the MSRs */
    PART(LAPIC, lapic),       PART(DEBUGREGS, debugregs), PART(XCRS, xcrs),
    PART(REGS, regs),         PART(SREGS2, sregs),
#undef PART
};
#define PARTS_AFTER_MSRS 2u

static int save_vcpu(struct kvm_vcpu *c, struct state_writer *w, struct err *e)
{
    struct vcpu_state s = {0};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (ioctl(c->fd, parts[i].get, (uint8_t *)&s + parts[i].offset) < 0)
            return err_set_errno(e, errno, "read %s of vCPU %u", parts[i].name, c->index);
    struct kvm_vm *v = c->vm;
    if (ioctl(c->fd, v->xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, v->xsave) < 0)
        return err_set_errno(e, errno, "read XSAVE of vCPU %u", c->index);
    struct msr_table msrs = v->msrs;
    (void)msr_transfer(c, KVM_GET_MSRS, &msrs);
    state_put(w, STATE_VCPU, c->index, VERSION, &s, sizeof s);
    state_put(w, STATE_XSAVE, c->index, VERSION, v->xsave, v->xsave_bytes);
    state_put(w, STATE_MSRS, c->index, VERSION, msrs.entry, msrs.n * sizeof msrs.entry[0]);
    return 0;
}

int kvm_vm_save(struct kvm_vm *v, struct state_writer *w, struct err *e)
{
    struct kvm_clock_data clock = {0};
    if (ioctl(v->fd, KVM_GET_CLOCK, &clock) < 0)
        return err_set_errno(e, errno, "KVM_GET_CLOCK");
    struct clock_state s = {clock.clock, v->tsc_khz, v->n_vcpus};
    state_put(w, STATE_CLOCK, 0, VERSION, &s, sizeof s);
    cpuid_save(&v->cpuid, w);
    int r = 0;
    for (unsigned i = 0; i < v->n_vcpus && r == 0; i++)
        r = save_vcpu(&v->vcpu[i], w, e);
    return r;
}

static const struct state_section *find(const struct state_reader *r, enum state_type type,
                                        uint32_t instance, const char *what, struct err *e)
{
    const struct state_section *s = state_find(r, type, instance, VERSION);
    if (!s)
        (void)err_set(e, EBADMSG, "the state file has no %s of vCPU %u", what, instance);
    return s;
}

static int restore_cpuid(struct kvm_vm *v, const struct state_reader *r, struct err *e)
{
    const struct state_section *s = find(r, STATE_CPUID, 0, "CPUID", e);
    struct cpuid_table saved;
    int k;
    if (!s)
        return -EBADMSG;
    if ((k = cpuid_decode(s->p, s->n, &saved, e)) < 0)
        return k;
    if (memcmp(&saved, &v->cpuid, sizeof saved) == 0)
        return 0;
    k = cpuid_check(&saved, &v->host, e);
    return k < 0 ? k : vm_set_cpuid(v, &saved, e);
}

/* A shorter area than this host's is one of fewer components. */
static int restore_xsave(struct kvm_vcpu *c, const struct state_reader *r, struct err *e)
{
    struct kvm_vm *v = c->vm;
    const struct state_section *s = find(r, STATE_XSAVE, c->index, "XSAVE", e);
    if (!s)
        return -EBADMSG;
    if (s->n < sizeof(struct kvm_xsave) || s->n > v->xsave_bytes)
        return err_set(e, EBADMSG, "the saved XSAVE area has %zu bytes, this host's %u", s->n,
                       v->xsave_bytes);
    memcpy(v->xsave, s->p, s->n);
    memset(v->xsave + s->n, 0, v->xsave_bytes - s->n);
    if (ioctl(c->fd, KVM_SET_XSAVE, v->xsave) < 0)
        return err_set_errno(e, errno, "KVM refuses the saved XSAVE of vCPU %u", c->index);
    return 0;
}

static int restore_msrs(const struct kvm_vcpu *c, const struct state_reader *r, struct err *e)
{
    const struct state_section *s = find(r, STATE_MSRS, c->index, "MSRs", e);
    struct msr_table t;
    if (!s)
        return -EBADMSG;
    int k = msr_decode(s->p, s->n, &t, e);
    if (k == 0)
        (void)msr_transfer(c, KVM_SET_MSRS, &t);
    return k;
}

static int write_part(const struct kvm_vcpu *c, struct vcpu_state *s, const struct part *p,
                      struct err *e)
{
    if (p->set == KVM_SET_XCRS && s->xcrs.nr_xcrs == 0)
        return 0; /* a processor without XSAVE */
    if (ioctl(c->fd, p->set, (uint8_t *)s + p->offset) < 0)
        return err_set_errno(e, errno, "KVM refuses the saved %s of vCPU %u", p->name, c->index);
    return 0;
}

static int restore_vcpu(struct kvm_vcpu *c, const struct state_reader *r, struct err *e)
{
    struct vcpu_state s;
    int k = state_get(r, STATE_VCPU, c->index, VERSION, &s, sizeof s, e);
    if (k < 0)
        return k;
    if ((k = restore_xsave(c, r, e)) < 0)
        return k;
    size_t i = ARRAY_LEN(parts);
    while (k == 0 && i > PARTS_AFTER_MSRS)
        k = write_part(c, &s, &parts[--i], e);
    if (k == 0)
        k = restore_msrs(c, r, e);
    while (k == 0 && i > 0)
        k = write_part(c, &s, &parts[--i], e);
    return k;
}

int kvm_vm_restore(struct kvm_vm *v, const struct state_reader *r, struct err *e)
{
    struct clock_state s;
    int k = state_get(r, STATE_CLOCK, 0, VERSION, &s, sizeof s, e);
    if (k < 0)
        return k;
    if (s.vcpus != v->n_vcpus)
        return err_set(e, EBADMSG, "the saved machine has %u vCPUs, not %u", s.vcpus, v->n_vcpus);
    if ((k = restore_cpuid(v, r, e)) < 0 || (k = vm_set_tsc_khz(v, s.tsc_khz, e)) < 0)
        return k;
    for (unsigned i = 0; i < v->n_vcpus && k == 0; i++)
        k = restore_vcpu(&v->vcpu[i], r, e);
    if (k < 0)
        return k;
    /* The machine's clock goes on where it stopped: its time of day is set by the agent. */
    struct kvm_clock_data clock = {.clock = s.kvmclock_ns};
    if (ioctl(v->fd, KVM_SET_CLOCK, &clock) < 0)
        return err_set_errno(e, errno, "KVM_SET_CLOCK");
    kvm_vm_stood_still(v);
    return 0;
}

void kvm_vm_stood_still(struct kvm_vm *v)
{
    /* Refused when the guest has no kvmclock. */
    for (unsigned i = 0; i < v->n_vcpus; i++)
        (void)ioctl(v->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
}
