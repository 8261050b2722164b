/* SPDX-License-Identifier: Apache-2.0 */
/* The state in which vCPU 0 starts, on top of what KVM makes of a vCPU at creation. */
#include <errno.h>

#include "vmm/kvm/internal.h"

#define CR0_PE (UINT64_C(1) << 0)
#define CR0_ET (UINT64_C(1) << 4)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PAE (UINT64_C(1) << 5)
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)
#define RFLAGS_FIXED 2u

#define GDT_ENTRIES 4u /* null, null, code, data */
#define SEL_CODE 0x10u
#define SEL_DATA 0x18u
#define TYPE_CODE 0xbu /* execute, read, accessed */
#define TYPE_DATA 0x3u /* read, write, accessed */
#define TYPE_TSS 0xbu  /* busy: what VMX asks of TR in any mode */

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool flat)
{
    return (struct kvm_segment){.limit = flat ? UINT32_MAX : 0xffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .s = 1,
                                .g = flat,
                                .db = flat};
}

static void enter_real(struct kvm_sregs *s)
{
    s->cs = segment(0, TYPE_CODE, false);
    s->ds = s->es = s->fs = s->gs = s->ss = segment(0, TYPE_DATA, false);
}

static void enter_flat(struct kvm_sregs *s, const struct boot_entry *entry)
{
    s->cs = segment(SEL_CODE, TYPE_CODE, true);
    s->ds = s->es = s->fs = s->gs = s->ss = segment(SEL_DATA, TYPE_DATA, true);
    s->tr = (struct kvm_segment){.limit = 0xffff, .type = TYPE_TSS, .present = 1};
    s->gdt.base = entry->gdt;
    s->gdt.limit = GDT_ENTRIES * 8 - 1;
    s->cr0 = CR0_PE | CR0_ET;
    if (entry->mode == BOOT_MODE_LONG64) {
        s->cs.l = 1;
        s->cs.db = 0;
        s->cr0 |= CR0_PG;
        s->cr3 = entry->cr3;
        s->cr4 = CR4_PAE;
        s->efer = EFER_LME | EFER_LMA;
    }
}

static int set_registers(const struct kvm_vcpu *c, const struct boot_entry *entry, struct err *e)
{
    struct kvm_sregs s;
    if (ioctl(c->fd, KVM_GET_SREGS, &s) < 0)
        return err_set_errno(e, errno, "KVM_GET_SREGS");
    if (entry->mode == BOOT_MODE_FLAT16)
        enter_real(&s);
    else
        enter_flat(&s, entry);
    if (ioctl(c->fd, KVM_SET_SREGS, &s) < 0)
        return err_set_errno(e, errno, "KVM_SET_SREGS");
    struct kvm_regs r = {.rip = entry->rip,
                         .rbx = entry->rbx,
                         .rsi = entry->rsi,
                         .rsp = entry->rsp,
                         .rflags = RFLAGS_FIXED};
    return ioctl(c->fd, KVM_SET_REGS, &r) < 0 ? err_set_errno(e, errno, "KVM_SET_REGS") : 0;
}

/* What firmware does on each vCPU: memory is write-back by default, or Linux turns its page
 * attribute table off; fast string operations on. */
static void set_msrs(const struct kvm_vcpu *c)
{
    struct msr_table firmware = {
        .n = 2,
        .entry = {{.index = 0x2ff, .data = 6 | 1 << 11}, /* MTRRs on, write-back */
                  {.index = 0x1a0, .data = 1}},
    };
    (void)msr_transfer(c, KVM_SET_MSRS, &firmware); /* the guest can do without */
}

int kvm_vm_power_on(struct kvm_vm *v, const struct boot_entry *entry, struct err *e)
{
    for (unsigned i = 0; i < v->n_vcpus; i++)
        set_msrs(&v->vcpu[i]);
    return set_registers(&v->vcpu[0], entry, e);
}
