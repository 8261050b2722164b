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

/* Ranges: first, last, first, last...
 * KVM's list has no memory type ranges: the variable and fixed ones, the default type. */
static const uint32_t added[] = {0x200, 0x20f, 0x250, 0x250, 0x258,
                                 0x259, 0x268, 0x26f, 0x2ff, 0x2ff};
/* TSC and deadline have their place in the order. Written to the next two, KVM puts the time of day
 * into guest memory, which is the guest's to ask for. The others are of VMX and the PMU. */
static const uint32_t left_out[] = {
    TSC,   TSC,   TSC_DEADLINE, TSC_DEADLINE, 0x11,       0x11,       0x4b564d00, 0x4b564d00,
    0x480, 0x493, 0xc1,         0xc8,         0x186,      0x18d,      0x309,      0x30b,
    0x329, 0x329, 0x345,        0x345,        0x38d,      0x390,      0x3f1,      0x3f2,
    0x4c1, 0x4c8, 0xc0000300,   0xc0000303,   0xc0010000, 0xc0010007, 0xc0010200, 0xc001020b};

static bool is_in(uint32_t msr, const uint32_t *range, size_t n)
{
    for (size_t i = 0; i < n; i += 2)
        if (msr >= range[i] && msr <= range[i + 1])
            return true;
    return false;
}

static void add(struct msr_table *list, uint32_t first, uint32_t last)
{
    for (uint32_t msr = first; msr <= last && list->n < KVM_MSRS_MAX; msr++)
        list->entry[list->n++] = (struct kvm_msr_entry){.index = msr};
}

/* The TSC comes first: what KVM derives from it must not be set from the old one. The deadline is
 * in its units, and taken only once the local APIC's timer is in deadline mode. */
int msr_list(int kvm_fd, struct msr_table *list, struct err *e)
{
    struct {
        uint32_t n, index[KVM_MSRS_MAX];
    } known = {.n = KVM_MSRS_MAX};
    if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &known) < 0)
        return err_set_errno(e, errno, "KVM_GET_MSR_INDEX_LIST");
    list->n = 0;
    add(list, TSC, TSC);
    for (uint32_t i = 0; i < known.n; i++)
        if (!is_in(known.index[i], left_out, ARRAY_LEN(left_out)) &&
            !is_in(known.index[i], added, ARRAY_LEN(added)))
            add(list, known.index[i], known.index[i]);
    for (size_t i = 0; i < ARRAY_LEN(added); i += 2)
        add(list, added[i], added[i + 1]);
    add(list, TSC_DEADLINE, TSC_DEADLINE);
    return 0;
}

/* KVM stops at the first one it refuses: go on behind it. */
unsigned msr_transfer(const struct kvm_vcpu *c, unsigned long request, struct msr_table *t)
{
    unsigned kept = 0, all = t->n;
    for (unsigned from = 0; from < all; from++) {
        struct msr_table part = {.n = all - from};
        memcpy(part.entry, t->entry + from, part.n * sizeof part.entry[0]);
        int r = ioctl(c->fd, request, &part);
        unsigned done = r > 0 ? (unsigned)r : 0;
        memcpy(t->entry + kept, part.entry, done * sizeof part.entry[0]);
        kept += done;
        from += done;
    }
    t->n = kept;
    return all - kept;
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
