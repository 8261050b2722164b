/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fs.h"

#define MAGIC "TBVMSTAT"
#define FORMAT 1u

struct header {
    char magic[8];
    uint32_t format;
    uint32_t sections;
    uint64_t bytes; /* of the whole file */
    uint32_t reserved;
    uint32_t crc; /* of the header up to here */
};

struct section_header { /* followed by bytes, padded with zeroes to a multiple of 8 */
    uint32_t type, instance, version;
    uint32_t bytes;
    uint32_t crc; /* of the contents */
    uint32_t header_crc;
};

_Static_assert(sizeof(struct header) == 32 && sizeof(struct section_header) == 24,
               "structs of the file have no padding");

static uint32_t checksum(const void *p, size_t n)
{
    return ~crc32c_update(CRC32C_START, p, n);
}

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

/* As large as it can get: pages that are not written to cost nothing. */
void state_writer_init(struct state_writer *w)
{
    void *p = mmap(NULL, STATE_FILE_MAX, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *w = (struct state_writer){.len = sizeof(struct header)};
    if (p == MAP_FAILED)
        w->failed = -errno;
    else
        w->data = p;
}

void state_put(struct state_writer *w, enum state_type type, uint32_t instance, uint32_t version,
               const void *p, size_t n)
{
    struct section_header h = {type, instance, version, (uint32_t)n, checksum(p, n), 0};
    if (!w->failed)
        w->failed = n > STATE_FILE_MAX || w->len + sizeof h + padded(n) > STATE_FILE_MAX ||
                            w->n_sections == STATE_SECTIONS_MAX
                        ? -E2BIG
                        : 0;
    if (w->failed)
        return;
    h.header_crc = checksum(&h, offsetof(struct section_header, header_crc));
    memcpy(w->data + w->len, &h, sizeof h);
    memcpy(w->data + w->len + sizeof h, p, n);
    w->len += sizeof h + padded(n);
    w->n_sections++;
}

int state_writer_finish(struct state_writer *w, int fd, struct err *e)
{
    struct header h = {MAGIC, FORMAT, w->n_sections, w->len, 0, 0};
    if (w->failed)
        return err_set_errno(e, -w->failed, "machine state");
    h.crc = checksum(&h, offsetof(struct header, crc));
    memcpy(w->data, &h, sizeof h);
    int r = fs_write_all(fd, w->data, w->len);
    return r < 0 ? err_set_errno(e, -r, "write machine state") : 0;
}

void state_writer_done(struct state_writer *w)
{
    if (w->data)
        munmap(w->data, STATE_FILE_MAX);
    *w = (struct state_writer){0};
}

static int bad(struct err *e, const char *what)
{
    return err_set(e, EBADMSG, "the machine state is damaged: %s", what);
}

static int check_header(const uint8_t *p, size_t n, struct header *h, struct err *e)
{
    if (n < sizeof *h || n > STATE_FILE_MAX)
        return bad(e, "it has an impossible size");
    memcpy(h, p, sizeof *h);
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return bad(e, "it does not start as one");
    if (h->crc != checksum(h, offsetof(struct header, crc)))
        return bad(e, "checksum of the header");
    if (h->format != FORMAT)
        return err_set(e, EBADMSG, "the machine state has format %u, this monitor knows %u",
                       h->format, FORMAT);
    if (h->bytes != n || h->sections > STATE_SECTIONS_MAX)
        return bad(e, "its size does not match its header");
    return 0;
}

static const struct state_section *find(const struct state_reader *r, uint32_t type,
                                        uint32_t instance)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->section[i].type == type && r->section[i].instance == instance)
            return &r->section[i];
    return NULL;
}

static int parse_section(struct state_reader *r, size_t *at, struct err *e)
{
    struct section_header h;
    if (r->len - *at < sizeof h)
        return bad(e, "a section is cut off");
    memcpy(&h, r->data + *at, sizeof h);
    *at += sizeof h;
    if (h.header_crc != checksum(&h, offsetof(struct section_header, header_crc)))
        return bad(e, "checksum of a section header");
    if (padded(h.bytes) > r->len - *at)
        return bad(e, "a section is cut off");
    const uint8_t *p = r->data + *at;
    if (h.crc != checksum(p, h.bytes))
        return bad(e, "checksum of a section");
    if (find(r, h.type, h.instance))
        return bad(e, "a section is there twice");
    r->section[r->n++] = (struct state_section){h.type, h.instance, h.version, p, h.bytes};
    *at += padded(h.bytes);
    return 0;
}

static int parse(struct state_reader *r, struct err *e)
{
    struct header h;
    int k = check_header(r->data, r->len, &h, e);
    size_t at = sizeof h;
    while (k == 0 && r->n < h.sections)
        k = parse_section(r, &at, e);
    if (k == 0 && at != r->len)
        k = bad(e, "there is something behind the last section");
    return k;
}

int state_reader_parse(struct state_reader *r, const void *p, size_t n, struct err *e)
{
    *r = (struct state_reader){0};
    if (n > STATE_FILE_MAX)
        return bad(e, "it has an impossible size");
    r->data = malloc(n ? n : 1);
    if (!r->data)
        return err_set(e, ENOMEM, "out of memory");
    memcpy(r->data, p, n);
    r->len = n;
    int k = parse(r, e);
    if (k < 0)
        state_reader_done(r);
    return k;
}

int state_reader_load(struct state_reader *r, int fd, struct err *e)
{
    struct stat st;
    *r = (struct state_reader){0};
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "machine state");
    if (!S_ISREG(st.st_mode) || st.st_size > STATE_FILE_MAX || st.st_size <= 0)
        return bad(e, "it has an impossible size");
    r->len = (size_t)st.st_size;
    r->data = malloc(r->len);
    if (!r->data)
        return err_set(e, ENOMEM, "out of memory");
    int k = fs_read_at(fd, r->data, r->len, 0);
    k = k < 0 ? err_set_errno(e, -k, "read machine state") : parse(r, e);
    if (k < 0)
        state_reader_done(r);
    return k;
}

void state_reader_done(struct state_reader *r)
{
    free(r->data);
    *r = (struct state_reader){0};
}

const struct state_section *state_find(const struct state_reader *r, enum state_type type,
                                       uint32_t instance, uint32_t version)
{
    const struct state_section *s = find(r, type, instance);
    return s && s->version == version ? s : NULL;
}

int state_get(const struct state_reader *r, enum state_type type, uint32_t instance,
              uint32_t version, void *ret, size_t n, struct err *e)
{
    const struct state_section *s = find(r, type, instance);
    if (!s)
        return err_set(e, EBADMSG, "the machine state has no section %u.%u", type, instance);
    if (s->version != version)
        return err_set(e, EBADMSG, "section %u.%u of the machine state has version %u, not %u",
                       type, instance, s->version, version);
    if (s->n != n)
        return err_set(e, EBADMSG, "section %u.%u of the machine state has %zu bytes, not %zu",
                       type, instance, s->n, n);
    memcpy(ret, s->p, n);
    return 0;
}
