/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers. KVM says which it can save, a kernel's list differs from another's, and
 * any of them may be refused: what KVM does not give is not saved, what it does not take is
 * skipped.
 */
#include <errno.h>
#include <string.h>

#include "vmm/kvm/internal.h"

_Static_assert(offsetof(struct msr_table, entry) == offsetof(struct kvm_msrs, entries),
               "msr_table is a kvm_msrs");

#define TSC 0x10u
#define TSC_DEADLINE 0x6e0u

/* KVM's list leaves out the memory type ranges: the default type, fixed and variable ranges. */
static const struct range {
    uint32_t first, last;
} added[] = {{0x200, 0x20f}, {0x250, 0x250}, {0x258, 0x259}, {0x268, 0x26f}, {0x2ff, 0x2ff}},
  left_out[] = {
      {TSC, TSC},                   /* has its place in the order */
      {TSC_DEADLINE, TSC_DEADLINE}, /* as well */
      {0x11, 0x11},                 /* written, KVM puts the time of day into guest memory, */
      {0x4b564d00, 0x4b564d00},     /* which is the guest's to ask for */
      {0x480, 0x493},               /* VMX, which guests do not have */
      {0xc1, 0xc8},                 /* PMU: the same, up to the end */
      {0x186, 0x18d},
      {0x309, 0x30b},
      {0x329, 0x329},
      {0x345, 0x345},
      {0x38d, 0x390},
      {0x3f1, 0x3f2},
      {0x4c1, 0x4c8},
      {0xc0000300, 0xc0000303},
      {0xc0010000, 0xc0010007},
      {0xc0010200, 0xc001020b},
};

static bool is_in(uint32_t msr, const struct range *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (msr >= r[i].first && msr <= r[i].last)
            return true;
    return false;
}

static void add(uint32_t list[KVM_MSRS_MAX], unsigned *n, uint32_t msr)
{
    if (*n < KVM_MSRS_MAX)
        list[(*n)++] = msr;
}

/* The TSC comes first: what KVM derives from it must not be set from the old one. The deadline is
 * in its units, and taken only once the local APIC's timer is in deadline mode. */
int msr_list(int kvm_fd, uint32_t list[KVM_MSRS_MAX], unsigned *n, struct err *e)
{
    struct {
        uint32_t n, index[KVM_MSRS_MAX];
    } known = {.n = KVM_MSRS_MAX};
    _Static_assert(sizeof(struct kvm_msr_list) == sizeof known.n, "known is a kvm_msr_list");
    if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &known) < 0)
        return err_set_errno(e, errno, "KVM_GET_MSR_INDEX_LIST");
    *n = 0;
    add(list, n, TSC);
    for (uint32_t i = 0; i < known.n; i++)
        if (!is_in(known.index[i], left_out, ARRAY_LEN(left_out)) &&
            !is_in(known.index[i], added, ARRAY_LEN(added)))
            add(list, n, known.index[i]);
    for (size_t i = 0; i < ARRAY_LEN(added); i++)
        for (uint32_t msr = added[i].first; msr <= added[i].last; msr++)
            add(list, n, msr);
    add(list, n, TSC_DEADLINE);
    return 0;
}

/* Lets KVM work on t->entry[from..], which stops at the first one it refuses. Returns how many it
 * did. */
static unsigned transfer(const struct kvm_vcpu *c, unsigned long request, const struct msr_table *t,
                         unsigned from, struct msr_table *part)
{
    part->n = t->n - from;
    part->padding = 0;
    memcpy(part->entry, t->entry + from, part->n * sizeof part->entry[0]);
    int r = ioctl(c->fd, request, part);
    return r > 0 ? (unsigned)r : 0;
}

void msr_read(const struct kvm_vcpu *c, struct msr_table *ret)
{
    struct msr_table all = {0}, part;
    for (unsigned i = 0; i < c->vm->n_msrs; i++)
        all.entry[all.n++].index = c->vm->msr[i];
    ret->n = ret->padding = 0;
    for (unsigned from = 0; from < all.n;) {
        unsigned done = transfer(c, KVM_GET_MSRS, &all, from, &part);
        memcpy(ret->entry + ret->n, part.entry, done * sizeof part.entry[0]);
        ret->n += done;
        from += done + 1; /* past the one that was refused */
    }
}

unsigned msr_write(const struct kvm_vcpu *c, const struct msr_table *t)
{
    struct msr_table part;
    unsigned refused = 0;
    for (unsigned from = 0; from < t->n;) {
        from += transfer(c, KVM_SET_MSRS, t, from, &part);
        if (from < t->n) {
            refused++;
            from++;
        }
    }
    return refused;
}

int msr_decode(const void *p, size_t n, struct msr_table *ret, struct err *e)
{
    if (n % sizeof ret->entry[0] || n / sizeof ret->entry[0] > KVM_MSRS_MAX)
        return err_set(e, EBADMSG, "the saved model-specific registers have %zu bytes", n);
    ret->n = (uint32_t)(n / sizeof ret->entry[0]);
    ret->padding = 0;
    memcpy(ret->entry, p, n);
    return 0;
}
