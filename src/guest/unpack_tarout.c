/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar as frames: ustar headers (POSIX.1-2017, pax, "ustar Interchange Format"), with a pax
 * extended header before what does not fit. Written here because the library's writer would bring
 * every format it knows, and libxml2, into the static program.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "guest/unpack.h"
#include "proto/wire.h"

#define BLOCK 512

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
    char magic[8], owner[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

/* Frames of full size: small files would otherwise cost one each. */
static char out[WIRE_MAX_FRAME_DATA];
static size_t out_n;

static void flush(void)
{
    if (out_n)
        out_frame(WIRE_FRAME_STDOUT, out, out_n);
    out_n = 0;
}

static void add(const void *p, size_t n)
{
    for (const char *from = p; n;) {
        size_t part = n < sizeof out - out_n ? n : sizeof out - out_n;
        memcpy(out + out_n, from, part);
        out_n += part;
        from += part;
        n -= part;
        if (out_n == sizeof out)
            flush();
    }
}

static void pad(uint64_t size)
{
    static const char zero[BLOCK];
    add(zero, (BLOCK - (size_t)(size % BLOCK)) % BLOCK);
}

/* Octal with a NUL; false (and 0) when the number does not fit. */
static bool octal(char *field, size_t n, int64_t value)
{
    bool fits = value >= 0 && value >> (3 * (n - 1)) == 0;
    char text[32];
    snprintf(text, sizeof text, "%0*llo", (int)(n - 1), fits ? (unsigned long long)value : 0);
    memcpy(field, text, n);
    return fits;
}

static bool text(char *field, size_t n, const char *s)
{
    size_t len = strlen(s);
    memcpy(field, s, len < n ? len : n);
    return len <= n;
}

static void add_header(struct header *h)
{
    unsigned sum = 0;
    memcpy(h->magic,
           "ustar\0"
           "00",
           8);
    memset(h->sum, ' ', sizeof h->sum);
    for (size_t i = 0; i < sizeof *h; i++)
        sum += ((const unsigned char *)h)[i];
    snprintf(h->sum, sizeof h->sum, "%06o", sum & 0777777);
    add(h, sizeof *h);
}

/* "<length> key=value\n", the length counting itself. */
static int record(struct buf *b, const char *key, const char *value)
{
    size_t n = strlen(key) + strlen(value) + 3, digits = 1;
    for (size_t limit = 10; n + digits >= limit; limit *= 10)
        digits++;
    return buf_addf(b, "%zu %s=%s\n", n + digits, key, value);
}

static int record_number(struct buf *b, const char *key, int64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    return record(b, key, digits);
}

/* What of the entry h could not hold, into b. */
static int fill(struct header *h, const struct tar_entry *t, struct buf *b)
{
    const char *link = t->link ? t->link : "";
    int r = 0;
    bool name_fits = text(h->name, sizeof h->name, t->path);
    bool link_fits = text(h->link, sizeof h->link, link);
    if ((!name_fits && !name_is_utf8(t->path)) || (!link_fits && !name_is_utf8(link)))
        r = record(b, "hdrcharset", "BINARY"); /* names are bytes */
    if (!name_fits && r == 0)
        r = record(b, "path", t->path);
    if (!link_fits && r == 0)
        r = record(b, "linkpath", link);
    (void)octal(h->mode, sizeof h->mode, t->st->st_mode & 07777); /* always fits */
    if (!octal(h->uid, sizeof h->uid, t->st->st_uid) && r == 0)
        r = record_number(b, "uid", t->st->st_uid);
    if (!octal(h->gid, sizeof h->gid, t->st->st_gid) && r == 0)
        r = record_number(b, "gid", t->st->st_gid);
    if (!octal(h->size, sizeof h->size, t->type == '0' ? t->st->st_size : 0) && r == 0)
        r = record_number(b, "size", t->st->st_size);
    if (!octal(h->mtime, sizeof h->mtime, t->st->st_mtime) && r == 0)
        r = record_number(b, "mtime", t->st->st_mtime);
    if (t->type == '3' || t->type == '4') {
        /* Linux has 12 and 20 bits of them: they fit. */
        (void)octal(h->major, sizeof h->major, major(t->st->st_rdev));
        (void)octal(h->minor, sizeof h->minor, minor(t->st->st_rdev));
    }
    return r;
}

int tar_put(const struct tar_entry *t, struct err *e)
{
    struct header h = {.type = t->type};
    CLEANUP(buf_done)
    struct buf extra = BUF_INIT(4 * UNPACK_MAX_PATH);
    if (fill(&h, t, &extra) < 0)
        return err_set(e, ENAMETOOLONG, "%.300s: the name is too long", t->path);
    if (extra.len) {
        struct header x = {.name = "pax", .type = 'x'};
        (void)octal(x.mode, sizeof x.mode, 0644);
        (void)octal(x.uid, sizeof x.uid, 0);
        (void)octal(x.gid, sizeof x.gid, 0);
        (void)octal(x.mtime, sizeof x.mtime, 0);
        (void)octal(x.size, sizeof x.size, (int64_t)extra.len);
        add_header(&x);
        add(extra.data, extra.len);
        pad(extra.len);
    }
    add_header(&h);
    return 0;
}

void tar_put_data(const void *p, size_t n)
{
    add(p, n);
}

void tar_put_padding(uint64_t size)
{
    pad(size);
}

void tar_put_end(void)
{
    static const char zero[2 * BLOCK];
    add(zero, sizeof zero);
    flush();
}
