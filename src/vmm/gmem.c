/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gmem.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Of RAM's size and host address: huge pages stay possible. */
#define ALIGNMENT (UINT64_C(2) << 20)

static void lay_out(struct gmem *m)
{
    uint64_t low = m->bytes < GMEM_HOLE_START ? m->bytes : GMEM_HOLE_START;
    m->region[0] = (struct gmem_region){0, low, 0};
    m->n_regions = 1;
    if (m->bytes > low) {
        m->region[1] = (struct gmem_region){GMEM_HOLE_END, m->bytes - low, low};
        m->n_regions = 2;
    }
}

int gmem_reserve(struct gmem *m, uint64_t bytes, struct err *e)
{
    *m = (struct gmem){0};
    if (bytes == 0 || bytes > GMEM_MAX_BYTES || bytes % ALIGNMENT)
        return err_set(e, EINVAL, "guest memory: a multiple of 2 MiB up to 64 GiB, not %llu bytes",
                       (unsigned long long)bytes);
    size_t room = (size_t)(bytes + ALIGNMENT);
    uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, "reserve guest memory");
    uint8_t *aligned = (uint8_t *)(((uintptr_t)p + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
    if (aligned > p)
        munmap(p, (size_t)(aligned - p));
    munmap(aligned + bytes, room - (size_t)(aligned - p) - (size_t)bytes);
    m->host = aligned;
    m->bytes = bytes;
    lay_out(m);
    return 0;
}

int gmem_map_zero(struct gmem *m, bool huge, struct err *e)
{
    void *p = mmap(m->host, (size_t)m->bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, "map guest memory");
    /* Without huge pages a guest that touches one byte gets one page, not two megabytes. */
    (void)madvise(p, (size_t)m->bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return 0;
}

int gmem_map_file(struct gmem *m, int fd, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "memory file");
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->bytes)
        return err_set(e, EBADMSG, "the memory file has %lld bytes, the machine %llu",
                       (long long)st.st_size, (unsigned long long)m->bytes);
    void *p = mmap(m->host, (size_t)m->bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, 0);
    return p == MAP_FAILED ? err_set_errno(e, errno, "map memory file") : 0;
}

void gmem_done(struct gmem *m)
{
    if (m->host)
        munmap(m->host, (size_t)m->bytes);
    *m = (struct gmem){0};
}

void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; len && i < m->n_regions; i++) {
        const struct gmem_region *r = &m->region[i];
        if (gpa >= r->gpa && gpa - r->gpa < r->bytes && len <= r->bytes - (gpa - r->gpa))
            return m->host + r->offset + (gpa - r->gpa);
    }
    return NULL;
}
