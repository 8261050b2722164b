/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm/cpuid.h"

#include <errno.h>
#include <string.h>

_Static_assert(offsetof(struct cpuid_table, entry) == offsetof(struct kvm_cpuid2, entries) &&
                   sizeof(struct cpuid_entry) == sizeof(struct kvm_cpuid_entry2),
               "cpuid_table is a kvm_cpuid2");

#define BIT(n) (UINT32_C(1) << (n))
#define ALL UINT32_MAX
#define ANY UINT32_MAX /* index */

/* The template. A leaf or bit that is not here is not given to guests, whatever later kernels and
 * processors support: two hosts of one kind then agree, and what a snapshot depends on is written
 * down. Left out on purpose: virtualization (the guest cannot nest), PMU, MONITOR and MWAIT, SGX,
 * PT, MPX, TSX, RDT, AMX, CET, LA57, machine check banks (each costs the guest four exits at boot
 * and a poll for ever), asynchronous page faults (guests hung on them after restores, see
 * Firecracker #3043 and Cloud Hypervisor #2498). OSXSAVE and OSPKE follow CR4: KVM's business. */
static const struct rule {
    uint32_t first, last; /* leaves */
    uint32_t index;       /* ANY: each */
    enum {
        A = BIT(CPUID_EAX),
        B = BIT(CPUID_EBX),
        C = BIT(CPUID_ECX),
        D = BIT(CPUID_EDX)
    } features;
    uint32_t mask[CPUID_REGS]; /* features: the registers in which a host needs all saved bits */
} template[] = {
    {0x0, 0x0, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x1, 0x1, 0, C | D, {ALL, 0x0000ff00, 0xf7fa3203, 0x078bbb7f}},
    {0x2, 0x2, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x4, 0x4, ANY, 0, {ALL, ALL, ALL, ALL}},
    {0x6, 0x6, 0, A, {BIT(2), 0, 0, 0}}, /* the APIC timer runs in every idle state */
    {0x7, 0x7, 0, B | C | D, {ALL, 0xf1bf27eb, 0x1a405f4e, 0xbc804510}},
    {0x7, 0x7, 1, A | D, {0x00801cb7, 0, 0, 0x00004430}},
    {0x7, 0x7, 2, D, {0, 0, 0, 0x0000003f}}, /* what mitigations are there */
    {0xd, 0xd, 0, A, {0x2e7, 0, 0, 0}},      /* x87, SSE, AVX, AVX-512, PKRU; ebx, ecx below */
    {0xd, 0xd, 1, A, {0xf, 0, 0, 0}},
    {0xd, 0xd, 2, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 5, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 6, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 7, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 9, 0, {ALL, ALL, ALL, 0}},
    {0x15, 0x16, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x40000000, 0x40000000, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x40000001, 0x40000001, 0, A, {0x01003aeb, 0, 0, 0}},
    {0x80000000, 0x80000000, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x80000001, 0x80000001, 0, C | D, {ALL, ALL, 0x004001f1, 0x2fd3bb7f}},
    {0x80000002, 0x80000006, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x80000007, 0x80000007, 0, D, {0, 0, 0, BIT(8)}}, /* invariant TSC: restores check its rate */
    {0x80000008, 0x80000008, 0, B, {0x0000ffff, 0x7706d205, 0, 0}},
    {0x8000001a, 0x8000001a, 0, 0, {0x7, 0, 0, 0}},
    {0x8000001d, 0x8000001d, ANY, 0, {ALL, ALL, ALL, ALL}},
    {0x8000001e, 0x8000001e, 0, 0, {0, 0, 0, 0}},
    {0x80000021, 0x80000021, 0, A | C, {0x38000365, 0, 0x6, 0}},
};

static const struct rule *find_rule(const struct cpuid_entry *e)
{
    for (size_t i = 0; i < ARRAY_LEN(template); i++) {
        const struct rule *t = &template[i];
        if (e->leaf >= t->first && e->leaf <= t->last && (t->index == ANY || t->index == e->index))
            return t;
    }
    return NULL;
}

static const struct cpuid_entry *find(const struct cpuid_table *t, uint32_t leaf, uint32_t index)
{
    static const struct cpuid_entry none;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->entry[i].leaf == leaf && t->entry[i].index == index)
            return &t->entry[i];
    return &none;
}

/* The size of an XSAVE area with every state component the template left. */
static uint32_t xsave_bytes(const struct cpuid_table *t)
{
    uint32_t bytes = 576, end;
    for (uint32_t i = 0; i < t->n; i++) {
        const struct cpuid_entry *e = &t->entry[i];
        if (e->leaf == 0xd && e->index >= 2 &&
            (end = e->reg[CPUID_EAX] + e->reg[CPUID_EBX]) > bytes)
            bytes = end;
    }
    return bytes;
}

static void limit(uint32_t *v, uint32_t max)
{
    if (*v > max)
        *v = max;
}

static void complete(const struct cpuid_table *t, bool tsc_deadline, struct cpuid_entry *e)
{
    if (e->leaf == 0x0) {
        limit(&e->reg[CPUID_EAX], 0x16);
    } else if (e->leaf == 0x1) {
        e->reg[CPUID_ECX] |= BIT(21) | BIT(31); /* x2APIC, hypervisor */
        e->reg[CPUID_ECX] |= tsc_deadline ? BIT(24) : 0;
    } else if (e->leaf == 0xd && e->index == 0) {
        e->reg[CPUID_EBX] = e->reg[CPUID_ECX] = xsave_bytes(t);
    } else if (e->leaf == 0x40000000) {
        e->reg[CPUID_EAX] = 0x40000001;
    } else if (e->leaf == 0x80000000) {
        limit(&e->reg[CPUID_EAX], 0x80000021);
    }
}

void cpuid_template(const struct cpuid_table *supported, bool tsc_deadline, struct cpuid_table *ret)
{
    *ret = (struct cpuid_table){0};
    for (uint32_t i = 0; i < supported->n && ret->n < CPUID_BASE_MAX; i++) {
        struct cpuid_entry e = supported->entry[i];
        const struct rule *t = find_rule(&e);
        uint32_t any = e.leaf == 0x8000001e; /* filled in per vCPU */
        for (unsigned r = 0; t && r < CPUID_REGS; r++)
            any |= e.reg[r] &= t->mask[r];
        if (t && any)
            ret->entry[ret->n++] = e;
    }
    for (uint32_t i = 0; i < ret->n; i++)
        complete(ret, tsc_deadline, &ret->entry[i]);
}

static uint32_t id_bits(unsigned vcpus)
{
    uint32_t bits = 0;
    while (BIT(bits) < vcpus)
        bits++;
    return bits;
}

/* Leaves 4 and 0x8000001d: the last level is shared by all cores, the others belong to one. */
static void share_cache(struct cpuid_entry *e, unsigned vcpus)
{
    uint32_t *eax = &e->reg[CPUID_EAX], ids = BIT(id_bits(vcpus)) - 1;
    if (*eax & 0x1f)
        *eax = (*eax & 0x3fff) | ((*eax >> 5 & 7) >= 3 ? ids << 14 : 0) |
               (e->leaf == 0x4 ? ids << 26 : 0);
}

static void set_bit(uint32_t *reg, unsigned bit, bool on)
{
    *reg = on ? *reg | BIT(bit) : *reg & ~BIT(bit);
}

static void personalize(struct cpuid_entry *e, unsigned vcpus, unsigned index)
{
    switch (e->leaf) {
    case 0x1:
        e->reg[CPUID_EBX] = (e->reg[CPUID_EBX] & 0xff00) | vcpus << 16 | index << 24;
        set_bit(&e->reg[CPUID_EDX], 28, vcpus > 1); /* HTT: several ids per socket */
        break;
    case 0x4:
    case 0x8000001d:
        share_cache(e, vcpus);
        break;
    case 0x80000001:
        set_bit(&e->reg[CPUID_ECX], 1, vcpus > 1); /* AMD's CmpLegacy: they are cores */
        break;
    case 0x80000008:
        e->reg[CPUID_ECX] = (vcpus - 1) | id_bits(vcpus) << 12;
        break;
    case 0x8000001e:
        e->reg[CPUID_EAX] = e->reg[CPUID_EBX] = index;
        break;
    default:
        break;
    }
}

void cpuid_for_vcpu(const struct cpuid_table *base, unsigned vcpus, unsigned index,
                    struct cpuid_table *ret)
{
    /* Leaf 0xb: one thread per core, all cores in one package. */
    const uint32_t level[CPUID_PER_VCPU][CPUID_REGS] = {
        {0, 1, 1 << 8, index}, {id_bits(vcpus), vcpus, 1 | 2 << 8, index}, {0, 0, 2, index}};
    *ret = *base;
    for (uint32_t i = 0; i < ret->n; i++)
        personalize(&ret->entry[i], vcpus, index);
    for (uint32_t i = 0; i < CPUID_PER_VCPU && find(base, 0, 0)->reg[CPUID_EAX] >= 0xb; i++) {
        struct cpuid_entry *e = &ret->entry[ret->n++];
        *e = (struct cpuid_entry){0xb, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, {0}, {0}};
        memcpy(e->reg, level[i], sizeof e->reg);
    }
}

static int check_entry(const struct cpuid_entry *e, const struct cpuid_table *host, struct err *err)
{
    static const char *const name[] = {"eax", "ebx", "ecx", "edx"};
    const struct cpuid_entry *h = find(host, e->leaf, e->index);
    const struct rule *t = find_rule(e);
    if (!t)
        return err_set(err, ENOTSUP,
                       "the machine's processor has CPUID leaf 0x%x.%u, which is not"
                       " in " KVM_CPU_TEMPLATE,
                       e->leaf, e->index);
    for (unsigned r = 0; r < CPUID_REGS; r++) {
        uint32_t missing = e->reg[r] & ~h->reg[r];
        if ((t->features & BIT(r)) && missing)
            return err_set(err, ENOTSUP,
                           "this host's processor lacks features of the machine's:"
                           " CPUID leaf 0x%x.%u, %s, bits 0x%x",
                           e->leaf, e->index, name[r], missing);
    }
    uint32_t bits = e->reg[CPUID_EAX] & 0xff, have = h->reg[CPUID_EAX] & 0xff;
    if (e->leaf == 0x80000008 && bits > have)
        return err_set(err, ENOTSUP,
                       "the machine's processor has %u physical address bits, this"
                       " host's %u",
                       bits, have);
    return 0;
}

int cpuid_check(const struct cpuid_table *saved, const struct cpuid_table *host, struct err *e)
{
    int r = 0;
    for (uint32_t i = 0; i < saved->n && r == 0; i++)
        r = check_entry(&saved->entry[i], host, e);
    return r;
}

#define ENTRY_BYTES offsetof(struct cpuid_entry, padding)

void cpuid_save(const struct cpuid_table *base, struct state_writer *w)
{
    uint8_t p[CPUID_BASE_MAX * ENTRY_BYTES];
    for (uint32_t i = 0; i < base->n; i++)
        memcpy(p + i * ENTRY_BYTES, &base->entry[i], ENTRY_BYTES);
    state_put(w, STATE_CPUID, 0, 1, p, base->n * ENTRY_BYTES);
}

int cpuid_decode(const void *p, size_t n, struct cpuid_table *ret, struct err *e)
{
    *ret = (struct cpuid_table){0};
    if (n == 0 || n % ENTRY_BYTES || n / ENTRY_BYTES > CPUID_BASE_MAX)
        return err_set(e, EBADMSG, "the saved CPUID has %zu bytes", n);
    ret->n = (uint32_t)(n / ENTRY_BYTES);
    for (uint32_t i = 0; i < ret->n; i++)
        memcpy(&ret->entry[i], (const uint8_t *)p + i * ENTRY_BYTES, ENTRY_BYTES);
    return 0;
}
