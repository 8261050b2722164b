/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/fs.h"
#include "base/zero.h"

#define MAGIC "TBVMPAGE"
#define FORMAT 1u
#define CHUNK 512u         /* entries handled at a time, on the stack */
#define MAP_RUN_MIN 16u    /* pages; shorter runs are cheaper to copy than to map */
#define MAPPINGS_MAX 8192u /* of the 65530 the kernel grants a process */
#define POPULATE_PIECE 16u /* pages */

#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_SWAPPED (UINT64_C(1) << 62)
#define PM_FILE (UINT64_C(1) << 61)

struct index_header {
    char magic[8];
    uint32_t format, page_bytes;
    uint64_t ram_bytes;
    uint64_t runs, pages;
};

struct run {
    uint32_t first, pages;
};

_Static_assert(sizeof(struct index_header) == 40 && sizeof(struct run) == 8, "no padding");

static size_t set_bytes(const struct page_set *s)
{
    return (size_t)((s->pages + 63) / 64 * 8);
}

int page_set_init(struct page_set *s, const struct gmem *m, struct err *e)
{
    s->pages = m->bytes / GMEM_PAGE;
    s->bits = mmap(NULL, set_bytes(s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->bits != MAP_FAILED)
        return 0;
    *s = (struct page_set){0};
    return err_set_errno(e, errno, "page set");
}

void page_set_done(struct page_set *s)
{
    if (s->bits)
        munmap(s->bits, set_bytes(s));
    *s = (struct page_set){0};
}

bool page_set_has(const struct page_set *s, uint64_t page)
{
    return s->bits && page < s->pages && (s->bits[page / 64] >> page % 64 & 1);
}

void page_set_add(struct page_set *s, uint64_t first, uint64_t n)
{
    bitmap_fill(s->bits, first, first + n, true);
}

/* The next run at or after *at, which moves behind it. False at the end. */
static bool next_run(const struct page_set *s, uint64_t *at, struct run *ret)
{
    if (*at < s->pages)
        *at += bitmap_run(s->bits, *at, s->pages, false);
    if (*at == s->pages)
        return false;
    uint64_t n = bitmap_run(s->bits, *at, s->pages, true);
    *ret = (struct run){(uint32_t)*at, (uint32_t)n};
    *at += n;
    return true;
}

static bool wanted(uint64_t entry, enum pages_what what)
{
    switch (what) {
    case PAGES_DIFFERENT:
        return entry & (PM_PRESENT | PM_SWAPPED) && !(entry & PM_FILE);
    case PAGES_TOUCHED:
        return entry & (PM_PRESENT | PM_SWAPPED);
    case PAGES_ALL:
        return true;
    }
    return true;
}

int pages_scan(const struct gmem *m, int pagemap, enum pages_what what,
               const struct page_set *mapped, struct page_set *ret, struct err *e)
{
    uint64_t entry[CHUNK], first = (uintptr_t)m->host / GMEM_PAGE;
    for (uint64_t at = 0; at < ret->pages; at += CHUNK) {
        uint64_t n = ret->pages - at < CHUNK ? ret->pages - at : CHUNK;
        ssize_t k = pread(pagemap, entry, n * sizeof *entry, (off_t)((first + at) * sizeof *entry));
        if (k != (ssize_t)(n * sizeof *entry))
            return err_set_errno(e, k < 0 ? errno : EIO, "read the page map");
        for (uint64_t i = 0; i < n; i++)
            if (wanted(entry[i], what) || (mapped && page_set_has(mapped, at + i)))
                page_set_add(ret, at + i, 1);
    }
    return 0;
}

static int write_at(int fd, const void *p, size_t n, uint64_t offset, struct err *e)
{
    int r = fs_write_at(fd, p, n, offset);
    return r < 0 ? err_set_errno(e, -r, "write pages") : 0;
}

/* Pages of zeroes become holes. */
static int write_run(const struct gmem *m, struct run r, int fd, struct pages_result *ret,
                     struct err *e)
{
    uint64_t i = r.first, end = (uint64_t)r.first + r.pages;
    ret->pages += r.pages;
    while (i < end) {
        uint64_t from;
        while (i < end && is_zero(m->host + i * GMEM_PAGE, GMEM_PAGE))
            i++;
        for (from = i; i < end && !is_zero(m->host + i * GMEM_PAGE, GMEM_PAGE);)
            i++;
        if (i == from)
            continue;
        size_t n = (size_t)((i - from) * GMEM_PAGE);
        int k = write_at(fd, m->host + from * GMEM_PAGE, n, from * GMEM_PAGE, e);
        if (k < 0)
            return k;
        ret->bytes += n;
    }
    return 0;
}

static int write_index(const struct page_set *set, uint64_t ram_bytes, uint64_t offset, int fd,
                       struct err *e)
{
    struct index_header h = {MAGIC, FORMAT, GMEM_PAGE, ram_bytes, 0, 0};
    struct run run[CHUNK];
    uint64_t at = 0, where = offset + sizeof h;
    unsigned n = 0;
    int r = 0;
    for (bool more = true; r == 0 && more;) {
        more = next_run(set, &at, &run[n]);
        n += more;
        if (n == CHUNK || (!more && n)) {
            r = write_at(fd, run, n * sizeof *run, where, e);
            where += n * sizeof *run;
            for (unsigned i = 0; i < n; i++)
                h.pages += run[i].pages;
            h.runs += n;
            n = 0;
        }
    }
    return r < 0 ? r : write_at(fd, &h, sizeof h, offset, e);
}

int pages_write(const struct gmem *m, const struct page_set *set, int fd, struct pages_result *ret,
                struct err *e)
{
    struct run run;
    uint64_t at = 0;
    *ret = (struct pages_result){0};
    if (ftruncate(fd, (off_t)m->bytes) < 0)
        return err_set_errno(e, errno, "write pages");
    while (next_run(set, &at, &run)) {
        int r = write_run(m, run, fd, ret, e);
        if (r < 0)
            return r;
    }
    return write_index(set, m->bytes, m->bytes, fd, e);
}

int pages_write_index(const struct page_set *set, uint64_t ram_bytes, int fd, struct err *e)
{
    return write_index(set, ram_bytes, 0, fd, e);
}

static int read_at(int fd, void *p, size_t n, uint64_t offset, struct err *e)
{
    int r = fs_read_at(fd, p, n, offset);
    if (r == -EBADMSG)
        return err_set(e, EBADMSG, "the pages file is cut off");
    return r < 0 ? err_set_errno(e, -r, "read pages") : 0;
}

static int read_header(const struct gmem *m, int fd, uint64_t offset, struct index_header *h,
                       struct err *e)
{
    struct stat st;
    uint64_t pages = m->bytes / GMEM_PAGE;
    int r = read_at(fd, h, sizeof *h, offset, e);
    if (r < 0)
        return r;
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0 || h->format != FORMAT ||
        h->page_bytes != GMEM_PAGE)
        return err_set(e, EBADMSG, "the pages file has no index this monitor knows");
    if (h->ram_bytes != m->bytes)
        return err_set(e, EBADMSG, "the pages file is of a machine with %llu bytes of memory",
                       (unsigned long long)h->ram_bytes);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, EBADMSG, "the pages file is not a regular file");
    if (h->runs > pages || h->pages > pages ||
        (uint64_t)st.st_size != offset + sizeof *h + h->runs * sizeof(struct run))
        return err_set(e, EBADMSG, "the pages file's size does not fit its index");
    return 0;
}

/* Calls each for every run; they ascend and lie in RAM, or -EBADMSG. */
static int walk_index(const struct gmem *m, int fd, uint64_t offset,
                      int (*each)(void *arg, struct run r, struct err *e), void *arg, struct err *e)
{
    struct index_header h;
    struct run run[CHUNK];
    uint64_t pages = m->bytes / GMEM_PAGE, behind = 0, at = offset + sizeof h;
    int r = read_header(m, fd, offset, &h, e);
    for (uint64_t done = 0; r == 0 && done < h.runs;) {
        unsigned n = (unsigned)(h.runs - done < CHUNK ? h.runs - done : CHUNK);
        r = read_at(fd, run, n * sizeof *run, at, e);
        for (unsigned i = 0; r == 0 && i < n; i++) {
            uint64_t end = (uint64_t)run[i].first + run[i].pages;
            if (run[i].first < behind || run[i].pages == 0 || end > pages)
                return err_set(e, EBADMSG, "the index of the pages file is out of order");
            behind = end;
            r = each(arg, run[i], e);
        }
        done += n;
        at += n * sizeof *run;
    }
    return r;
}

struct load {
    const struct gmem *m;
    int fd;
    struct page_set *mapped;
    unsigned mappings;
};

static int load_run(void *arg, struct run r, struct err *e)
{
    struct load *l = arg;
    uint64_t offset = (uint64_t)r.first * GMEM_PAGE;
    size_t bytes = (size_t)r.pages * GMEM_PAGE;
    if (r.pages < MAP_RUN_MIN || l->mappings == MAPPINGS_MAX)
        return read_at(l->fd, l->m->host + offset, bytes, offset, e);
    void *p = mmap(l->m->host + offset, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, l->fd, (off_t)offset);
    if (p == MAP_FAILED)
        return err_set_errno(e, errno, "map pages");
    l->mappings++;
    page_set_add(l->mapped, r.first, r.pages);
    return 0;
}

int pages_load(const struct gmem *m, int fd, struct page_set *mapped, struct err *e)
{
    struct load l = {m, fd, mapped, 0};
    return walk_index(m, fd, m->bytes, load_run, &l, e);
}

static int populate_run(void *arg, struct run r, struct err *e)
{
    const struct gmem *m = arg;
    (void)e;
    for (uint32_t i = 0; i < r.pages; i += POPULATE_PIECE) {
        uint32_t n = r.pages - i < POPULATE_PIECE ? r.pages - i : POPULATE_PIECE;
        /* A hint: before Linux 5.14 the pages come by faults. */
        (void)madvise(m->host + ((uint64_t)r.first + i) * GMEM_PAGE, (size_t)n * GMEM_PAGE,
                      MADV_POPULATE_READ);
    }
    return 0;
}

int pages_populate(const struct gmem *m, int fd, struct err *e)
{
    return walk_index(m, fd, 0, populate_run, (void *)(uintptr_t)m, e);
}
