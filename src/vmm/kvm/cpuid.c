/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm/cpuid.h"

#include <errno.h>
#include <string.h>

_Static_assert(offsetof(struct cpuid_table, entry) == offsetof(struct kvm_cpuid2, entries),
               "cpuid_table is a kvm_cpuid2");

enum { EAX, EBX, ECX, EDX, REGS };
static const char *const reg_name[REGS] = {"eax", "ebx", "ecx", "edx"};

#define BIT(n) (UINT32_C(1) << (n))
#define ALL UINT32_MAX
#define ANY UINT32_MAX /* index */
#define F_A BIT(EAX)
#define F_B BIT(EBX)
#define F_C BIT(ECX)
#define F_D BIT(EDX)

/* The template. A leaf or bit that is not here is not given to guests, whatever later kernels and
 * processors support: two hosts of one kind then agree, and what a snapshot depends on is written
 * down. Left out on purpose: virtualization (the guest cannot nest), PMU, MONITOR and MWAIT, SGX,
 * PT, MPX, TSX, RDT, AMX, CET, LA57, machine check banks (each costs the guest four exits at boot
 * and a poll for ever), asynchronous page faults (guests hung on them after restores, see
 * Firecracker #3043 and Cloud Hypervisor #2498). OSXSAVE and OSPKE follow CR4: KVM's business. */
static const struct rule {
    uint32_t first, last; /* leaves */
    uint32_t index;       /* ANY: each */
    uint32_t features;    /* which registers are sets of features: a host needs all bits */
    uint32_t mask[REGS];
} template[] = {
    {0x0, 0x0, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x1, 0x1, 0, F_C | F_D, {ALL, 0x0000ff00, 0xf7fa3203, 0x078bbb7f}},
    {0x2, 0x2, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x4, 0x4, ANY, 0, {ALL, ALL, ALL, ALL}},
    {0x6, 0x6, 0, F_A, {BIT(2), 0, 0, 0}}, /* the APIC timer runs in every idle state */
    {0x7, 0x7, 0, F_B | F_C | F_D, {ALL, 0xf1bf27eb, 0x1a405f4e, 0xbc804510}},
    {0x7, 0x7, 1, F_A | F_D, {0x00801cb7, 0, 0, 0x00004430}},
    {0x7, 0x7, 2, F_D, {0, 0, 0, 0x0000003f}}, /* what mitigations are there */
    {0xd, 0xd, 0, F_A, {0x2e7, 0, 0, 0}},      /* x87, SSE, AVX, AVX-512, PKRU; ebx, ecx below */
    {0xd, 0xd, 1, F_A, {0xf, 0, 0, 0}},
    {0xd, 0xd, 2, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 5, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 6, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 7, 0, {ALL, ALL, ALL, 0}},
    {0xd, 0xd, 9, 0, {ALL, ALL, ALL, 0}},
    {0x15, 0x16, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x40000000, 0x40000000, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x40000001, 0x40000001, 0, F_A, {0x01003aeb, 0, 0, 0}},
    {0x80000000, 0x80000000, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x80000001, 0x80000001, 0, F_C | F_D, {ALL, ALL, 0x004001f1, 0x2fd3bb7f}},
    {0x80000002, 0x80000006, 0, 0, {ALL, ALL, ALL, ALL}},
    {0x80000007,
     0x80000007,
     0,
     F_D,
     {0, 0, 0, BIT(8)}}, /* invariant TSC: restores check its rate */
    {0x80000008, 0x80000008, 0, F_B, {0x0000ffff, 0x7706d205, 0, 0}},
    {0x8000001a, 0x8000001a, 0, 0, {0x7, 0, 0, 0}},
    {0x8000001d, 0x8000001d, ANY, 0, {ALL, ALL, ALL, ALL}},
    {0x8000001e, 0x8000001e, 0, 0, {0, 0, 0, 0}},
    {0x80000021, 0x80000021, 0, F_A | F_C, {0x38000365, 0, 0x6, 0}},
};

static uint32_t *reg(struct kvm_cpuid_entry2 *e, unsigned r)
{
    uint32_t *const p[REGS] = {&e->eax, &e->ebx, &e->ecx, &e->edx};
    return p[r];
}

static uint32_t reg_value(const struct kvm_cpuid_entry2 *e, unsigned r)
{
    const uint32_t v[REGS] = {e->eax, e->ebx, e->ecx, e->edx};
    return v[r];
}

static const struct rule *find_rule(uint32_t leaf, uint32_t index)
{
    for (size_t i = 0; i < ARRAY_LEN(template); i++) {
        const struct rule *t = &template[i];
        if (leaf >= t->first && leaf <= t->last && (t->index == ANY || t->index == index))
            return t;
    }
    return NULL;
}

static const struct kvm_cpuid_entry2 *find(const struct cpuid_table *t, uint32_t leaf,
                                           uint32_t index)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->entry[i].function == leaf && t->entry[i].index == index)
            return &t->entry[i];
    return NULL;
}

static bool is_empty(const struct kvm_cpuid_entry2 *e)
{
    return !(e->eax | e->ebx | e->ecx | e->edx);
}

/* The size of an XSAVE area with every state component the template left. */
static uint32_t xsave_bytes(const struct cpuid_table *t)
{
    uint32_t bytes = 576;
    for (uint32_t i = 0; i < t->n; i++) {
        const struct kvm_cpuid_entry2 *e = &t->entry[i];
        if (e->function == 0xd && e->index >= 2 && e->eax + e->ebx > bytes)
            bytes = e->eax + e->ebx;
    }
    return bytes;
}

static void limit(uint32_t *v, uint32_t max)
{
    if (*v > max)
        *v = max;
}

static void complete(const struct cpuid_table *t, bool tsc_deadline, struct kvm_cpuid_entry2 *e)
{
    switch (e->function) {
    case 0x0:
        limit(&e->eax, 0x1f);
        break;
    case 0x1:
        e->ecx |= BIT(21) | BIT(31); /* x2APIC, hypervisor */
        if (tsc_deadline)
            e->ecx |= BIT(24);
        break;
    case 0x7:
        if (e->index == 0)
            limit(&e->eax, 2);
        break;
    case 0xd:
        if (e->index == 0)
            e->ebx = e->ecx = xsave_bytes(t);
        break;
    case 0x40000000:
        e->eax = 0x40000001;
        break;
    case 0x80000000:
        limit(&e->eax, 0x80000021);
        break;
    default:
        break;
    }
}

void cpuid_template(const struct cpuid_table *supported, bool tsc_deadline, struct cpuid_table *ret)
{
    *ret = (struct cpuid_table){0};
    for (uint32_t i = 0; i < supported->n && ret->n < CPUID_BASE_MAX; i++) {
        struct kvm_cpuid_entry2 e = supported->entry[i];
        const struct rule *t = find_rule(e.function, e.index);
        for (unsigned r = 0; t && r < REGS; r++)
            *reg(&e, r) &= t->mask[r];
        if (t && (!is_empty(&e) || e.function == 0x8000001e))
            ret->entry[ret->n++] = e;
    }
    for (uint32_t i = 0; i < ret->n; i++)
        complete(ret, tsc_deadline, &ret->entry[i]);
}

/* ---- what differs per vCPU --------------------------------------------------------------------
 */

static uint32_t id_bits(unsigned vcpus)
{
    uint32_t bits = 0;
    while (BIT(bits) < vcpus)
        bits++;
    return bits;
}

/* Leaves 4 and 0x8000001d: the last level is shared by all cores, the others belong to one. */
static void share_cache(struct kvm_cpuid_entry2 *e, unsigned vcpus)
{
    uint32_t level = e->eax >> 5 & 7, sharing = level >= 3 ? BIT(id_bits(vcpus)) - 1 : 0;
    uint32_t cores = e->function == 0x4 ? BIT(id_bits(vcpus)) - 1 : 0;
    if (e->eax & 0x1f)
        e->eax = (e->eax & 0x3fff) | sharing << 14 | cores << 26;
}

static void personalize(struct kvm_cpuid_entry2 *e, unsigned vcpus, unsigned index)
{
    switch (e->function) {
    case 0x1:
        e->ebx = (e->ebx & 0xff00) | vcpus << 16 | index << 24;
        e->edx = vcpus > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28); /* HTT: several ids per socket */
        break;
    case 0x4:
    case 0x8000001d:
        share_cache(e, vcpus);
        break;
    case 0x80000001: /* AMD's CmpLegacy: those are cores */
        e->ecx = vcpus > 1 ? e->ecx | BIT(1) : e->ecx & ~BIT(1);
        break;
    case 0x80000008:
        e->ecx = (vcpus - 1) | id_bits(vcpus) << 12;
        break;
    case 0x8000001e:
        e->eax = e->ebx = index;
        break;
    default:
        break;
    }
}

/* Leaves 0xb and 0x1f: one thread per core, all cores in one package. */
static void add_topology(struct cpuid_table *t, uint32_t leaf, unsigned vcpus, unsigned index)
{
    const struct kvm_cpuid_entry2 level[] = {
        {.eax = 0, .ebx = 1, .ecx = 1 << 8},
        {.eax = id_bits(vcpus), .ebx = vcpus, .ecx = 1 | 2 << 8},
        {.ecx = 2},
    };
    for (uint32_t i = 0; i < ARRAY_LEN(level); i++) {
        struct kvm_cpuid_entry2 e = level[i];
        e.function = leaf;
        e.index = i;
        e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        e.edx = index;
        t->entry[t->n++] = e;
    }
}

void cpuid_for_vcpu(const struct cpuid_table *base, unsigned vcpus, unsigned index,
                    struct cpuid_table *ret)
{
    *ret = *base;
    for (uint32_t i = 0; i < ret->n; i++)
        personalize(&ret->entry[i], vcpus, index);
    const struct kvm_cpuid_entry2 *basic = find(base, 0, 0);
    uint32_t last = basic ? basic->eax : 0;
    if (last >= 0xb)
        add_topology(ret, 0xb, vcpus, index);
    if (last >= 0x1f)
        add_topology(ret, 0x1f, vcpus, index);
}

/* ---- saved tables -----------------------------------------------------------------------------
 */

static int check_entry(const struct kvm_cpuid_entry2 *e, const struct cpuid_table *host,
                       struct err *err)
{
    static const struct kvm_cpuid_entry2 none;
    const struct rule *t = find_rule(e->function, e->index);
    const struct kvm_cpuid_entry2 *h = find(host, e->function, e->index);
    if (!t)
        return err_set(err, ENOTSUP,
                       "the machine's processor has CPUID leaf 0x%x.%u, which %s has"
                       " not",
                       e->function, e->index, KVM_CPU_TEMPLATE);
    if (!h)
        h = &none;
    for (unsigned r = 0; r < REGS; r++) {
        uint32_t missing = reg_value(e, r) & ~reg_value(h, r);
        if ((t->features & BIT(r)) && missing)
            return err_set(err, ENOTSUP,
                           "this host's processor lacks features of the machine's: CPUID leaf"
                           " 0x%x.%u %s bits 0x%x",
                           e->function, e->index, reg_name[r], missing);
    }
    if (e->function == 0x80000008 && (e->eax & 0xff) > (h->eax & 0xff))
        return err_set(err, ENOTSUP,
                       "the machine has %u physical address bits, this host's processor %u",
                       e->eax & 0xff, h->eax & 0xff);
    return 0;
}

int cpuid_check(const struct cpuid_table *saved, const struct cpuid_table *host, struct err *e)
{
    int r = 0;
    for (uint32_t i = 0; i < saved->n && r == 0; i++)
        r = check_entry(&saved->entry[i], host, e);
    return r;
}

#define ENTRY_BYTES (7 * sizeof(uint32_t)) /* without the padding KVM's struct ends with */

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
