/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a frozen machine as hostile bytes: state, index of pages, compressed chunks. The first
 * byte says which. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/snapshot/chunks.h"
#include "vmm/snapshot/pages.h"
#include "vmm/snapshot/state.h"

#define RAM (UINT64_C(2) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_with(const uint8_t *p, size_t n, uint64_t offset)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, p, n, (off_t)offset) != (ssize_t)n)
        abort();
    return fd;
}

static void try_state(const uint8_t *p, size_t n)
{
    struct state_reader r;
    char out[64];
    if (state_reader_parse(&r, p, n, NULL) < 0)
        return;
    for (unsigned i = 0; i < r.n; i++) {
        const struct state_section *s = &r.section[i];
        if (s->p < r.data || s->p + s->n > r.data + r.len)
            abort();
        if (state_get(&r, s->type, s->instance, s->version, out, sizeof out, NULL) == 0 &&
            s->n != sizeof out)
            abort();
    }
    state_reader_done(&r);
}

static void try_pages(const uint8_t *p, size_t n)
{
    struct gmem m;
    struct page_set mapped;
    int fd = file_with(p, n, RAM), index = file_with(p, n, 0);
    if (gmem_reserve(&m, RAM, NULL) < 0 || gmem_map_zero(&m, false, NULL) < 0 ||
        page_set_init(&mapped, &m, NULL) < 0)
        abort();
    (void)!pages_load(&m, fd, &mapped, NULL);
    (void)!pages_populate(&m, index, NULL);
    page_set_done(&mapped);
    gmem_done(&m);
    close(fd);
    close(index);
}

static void try_chunks(const uint8_t *p, size_t n)
{
    struct chunks *c;
    const void *out;
    if (chunks_open(file_with(p, n, 0), RAM, &c, NULL) < 0)
        return;
    for (uint64_t i = 0; i < chunks_count(c); i++)
        if (!chunks_is_zero(c, i))
            (void)!chunks_read(c, i, &out, NULL);
    chunks_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 65536)
        return 0;
    if (data[0] == 's')
        try_state(data + 1, size - 1);
    else if (data[0] == 'p')
        try_pages(data + 1, size - 1);
    else
        try_chunks(data + 1, size - 1);
    return 0;
}
