/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/chunks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/fs.h"

#define MAGIC "TBVMCHNK"
#define FORMAT 1u
#define COUNT_MAX (UINT64_C(1) << 20) /* 64 GiB */

struct header {
    char magic[8];
    uint32_t format, chunk_bytes;
    uint64_t count;
};

struct entry { /* bytes 0: all zero */
    uint64_t offset;
    uint32_t bytes;
    uint32_t reserved;
};

_Static_assert(sizeof(struct header) == 24 && sizeof(struct entry) == 16, "no padding");

struct chunks {
    int fd; /* owned */
    uint64_t count;
    struct entry *table; /* owned */
    ZSTD_DCtx *dctx;     /* owned */
    size_t bound;
    uint8_t *packed, *plain; /* owned; bound and CHUNK_BYTES long */
};

struct pack {
    int memory, out, level;
    struct entry *table;
    uint64_t end; /* of what is written */
    uint8_t *plain, *packed;
    size_t bound;
};

static int pack_chunk(struct pack *p, uint64_t i, struct err *e)
{
    static const uint8_t zeroes[CHUNK_BYTES];
    int r = fs_read_at(p->memory, p->plain, CHUNK_BYTES, i * CHUNK_BYTES);
    if (r < 0)
        return err_set_errno(e, -r, "read memory file");
    p->table[i] = (struct entry){0};
    if (memcmp(p->plain, zeroes, CHUNK_BYTES) == 0)
        return 0;
    size_t n = ZSTD_compress(p->packed, p->bound, p->plain, CHUNK_BYTES, p->level);
    if (ZSTD_isError(n))
        return err_set(e, EIO, "compress memory: %s", ZSTD_getErrorName(n));
    r = fs_write_at(p->out, p->packed, n, p->end);
    if (r < 0)
        return err_set_errno(e, -r, "write memory chunks");
    p->table[i] = (struct entry){p->end, (uint32_t)n, 0};
    p->end += n;
    return 0;
}

static int pack_all(struct pack *p, uint64_t count, struct err *e)
{
    struct header h = {MAGIC, FORMAT, CHUNK_BYTES, count};
    int r = 0;
    p->end = sizeof h + count * sizeof *p->table;
    for (uint64_t i = 0; i < count && r == 0; i++)
        r = pack_chunk(p, i, e);
    if (r < 0)
        return r;
    r = fs_write_at(p->out, p->table, (size_t)(count * sizeof *p->table), sizeof h);
    if (r == 0)
        r = fs_write_at(p->out, &h, sizeof h, 0);
    return r < 0 ? err_set_errno(e, -r, "write memory chunks") : 0;
}

int chunks_pack(int memory, int out, int level, struct err *e)
{
    struct stat st;
    if (fstat(memory, &st) < 0)
        return err_set_errno(e, errno, "memory file");
    uint64_t count = (uint64_t)st.st_size / CHUNK_BYTES;
    if (!S_ISREG(st.st_mode) || st.st_size % CHUNK_BYTES || count == 0 || count > COUNT_MAX)
        return err_set(e, EINVAL, "a memory file has a multiple of 64 KiB up to 64 GiB");
    struct pack p = {.memory = memory, .out = out, .level = level};
    p.bound = ZSTD_compressBound(CHUNK_BYTES);
    p.table = calloc((size_t)count, sizeof *p.table);
    p.plain = malloc(CHUNK_BYTES);
    p.packed = malloc(p.bound);
    int r = p.table && p.plain && p.packed ? pack_all(&p, count, e)
                                           : err_set(e, ENOMEM, "out of memory");
    free(p.table);
    free(p.plain);
    free(p.packed);
    return r;
}

static int check_table(const struct chunks *c, uint64_t file_bytes, struct err *e)
{
    for (uint64_t i = 0; i < c->count; i++) {
        const struct entry *t = &c->table[i];
        if (t->bytes &&
            (t->bytes > c->bound || t->offset > file_bytes || t->bytes > file_bytes - t->offset))
            return err_set(e, EBADMSG, "memory chunk %llu lies outside its file",
                           (unsigned long long)i);
    }
    return 0;
}

static int read_table(struct chunks *c, uint64_t ram_bytes, struct err *e)
{
    struct header h;
    struct stat st;
    if (fstat(c->fd, &st) < 0)
        return err_set_errno(e, errno, "memory chunks");
    int r = fs_read_at(c->fd, &h, sizeof h, 0);
    if (r < 0 || memcmp(h.magic, MAGIC, sizeof h.magic) != 0 || h.format != FORMAT ||
        h.chunk_bytes != CHUNK_BYTES)
        return err_set(e, EBADMSG, "these are no memory chunks this monitor knows");
    if (h.count > COUNT_MAX || h.count * CHUNK_BYTES != ram_bytes)
        return err_set(e, EBADMSG, "the memory chunks are of a machine with other memory");
    c->count = h.count;
    c->table = malloc((size_t)(h.count * sizeof *c->table));
    if (!c->table)
        return err_set(e, ENOMEM, "out of memory");
    r = fs_read_at(c->fd, c->table, (size_t)(h.count * sizeof *c->table), sizeof h);
    return r < 0 ? err_set_errno(e, -r, "table of the memory chunks")
                 : check_table(c, (uint64_t)st.st_size, e);
}

int chunks_open(int fd, uint64_t ram_bytes, struct chunks **ret, struct err *e)
{
    struct chunks *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return err_set(e, ENOMEM, "out of memory");
    }
    c->fd = fd;
    c->bound = ZSTD_compressBound(CHUNK_BYTES);
    c->packed = malloc(c->bound);
    c->plain = aligned_alloc(4096, CHUNK_BYTES);
    c->dctx = ZSTD_createDCtx();
    int r = c->packed && c->plain && c->dctx ? read_table(c, ram_bytes, e)
                                             : err_set(e, ENOMEM, "out of memory");
    if (r < 0)
        chunks_close(c);
    else
        *ret = c;
    return r;
}

void chunks_close(struct chunks *c)
{
    if (!c)
        return;
    close(c->fd);
    ZSTD_freeDCtx(c->dctx);
    free(c->table);
    free(c->packed);
    free(c->plain);
    free(c);
}

uint64_t chunks_count(const struct chunks *c)
{
    return c->count;
}

bool chunks_is_zero(const struct chunks *c, uint64_t i)
{
    return c->table[i].bytes == 0;
}

int chunks_read(struct chunks *c, uint64_t i, const void **ret, struct err *e)
{
    const struct entry *t = &c->table[i];
    *ret = c->plain;
    int r = fs_read_at(c->fd, c->packed, t->bytes, t->offset);
    if (r < 0)
        return err_set_errno(e, -r, "read memory chunk %llu", (unsigned long long)i);
    /* A frame that claims to be larger than the buffer, or is smaller, is refused. */
    size_t n = ZSTD_decompressDCtx(c->dctx, c->plain, CHUNK_BYTES, c->packed, t->bytes);
    if (ZSTD_isError(n) || n != CHUNK_BYTES)
        return err_set(e, EBADMSG, "memory chunk %llu is damaged", (unsigned long long)i);
    return 0;
}
