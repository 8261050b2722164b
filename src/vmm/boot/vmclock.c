/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot/vmclock.h"

#include <string.h>

#include "vmm/layout.h"
#include "vmm/le.h"

#define MAGIC 0x4b4c4356 /* "VCLK" */
#define COUNTER_INVALID 0xff

struct page { /* struct vmclock_abi up to what stays zero: status unknown, no times */
    struct le32 magic, size;
    struct le16 version;
    uint8_t counter, time_type;
    struct le32 sequence; /* odd while it is being changed */
    struct le64 disruption_marker, flags;
};

_Static_assert(sizeof(struct page) == 32, "as in vmclock-abi.h");

void vmclock_init(const struct gmem *m)
{
    struct page *p = gmem_ptr(m, LAYOUT_VMCLOCK, GMEM_PAGE);
    if (!p)
        return;
    memset(p, 0, GMEM_PAGE);
    le32_put(&p->magic, MAGIC);
    le32_put(&p->size, GMEM_PAGE);
    le16_put(&p->version, 1);
    p->counter = COUNTER_INVALID;
}

void vmclock_disrupt(const struct gmem *m)
{
    struct page *p = gmem_ptr(m, LAYOUT_VMCLOCK, GMEM_PAGE);
    if (!p || le32_get(&p->magic) != MAGIC)
        return;
    le32_put(&p->sequence, (le32_get(&p->sequence) | 1) + 1);
    le64_put(&p->disruption_marker, le64_get(&p->disruption_marker) + 1);
}
