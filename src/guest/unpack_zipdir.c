/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The central directory of a zip (APPNOTE 4.3.12 to 4.3.16), read before any entry is unpacked:
 * only here NUL bytes in names, encryption and the maker's system show. What libarchive then yields
 * must be listed here.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "guest/unpack.h"

#define EOCD_LEN 22
#define EOCD_SEARCH (EOCD_LEN + 65535)
#define CENTRAL_LEN 46
#define HOST_UNIX 3
#define HOST_OSX 19

static uint32_t le16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(const unsigned char *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static uint64_t le64(const unsigned char *p)
{
    return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static int read_at(const struct zip *z, uint64_t at, void *p, size_t n, struct err *e)
{
    uint64_t end;
    if (ckd_add(&end, at, (uint64_t)n) || end > z->size)
        return err_set(e, EBADMSG, "the archive is cut off");
    for (size_t got = 0; got < n;) {
        ssize_t r = pread(z->fd, (char *)p + got, n - got, (off_t)(at + got));
        if (r <= 0)
            return err_set_errno(e, r < 0 ? errno : EIO, "cannot read the archive");
        got += (size_t)r;
    }
    return 0;
}

struct directory {
    uint64_t at, size, count;
};

/* Values of 0xffff.. mean "see the zip64 record", which a locator right before the EOCD points to.
 */
static int read_zip64(const struct zip *z, uint64_t eocd, struct directory *d, struct err *e)
{
    unsigned char loc[20] = {0}, rec[56] = {0};
    if (eocd < sizeof loc)
        return err_set(e, EBADMSG, "the archive has no directory");
    int r = read_at(z, eocd - sizeof loc, loc, sizeof loc, e);
    if (r < 0)
        return r;
    if (le32(loc) != 0x07064b50)
        return err_set(e, EBADMSG, "the archive's zip64 directory is missing");
    r = read_at(z, le64(loc + 8), rec, sizeof rec, e);
    if (r < 0)
        return r;
    if (le32(rec) != 0x06064b50)
        return err_set(e, EBADMSG, "the archive's zip64 directory is damaged");
    *d = (struct directory){.at = le64(rec + 48), .size = le64(rec + 40), .count = le64(rec + 32)};
    return 0;
}

static int find_directory(struct zip *z, struct directory *d, struct err *e)
{
    static unsigned char tail[EOCD_SEARCH];
    size_t n = z->size < sizeof tail ? (size_t)z->size : sizeof tail;
    if (n < EOCD_LEN)
        return err_set(e, EBADMSG, "the file is not a zip archive");
    int r = read_at(z, z->size - n, tail, n, e);
    if (r < 0)
        return r;
    for (size_t i = n - EOCD_LEN + 1; i-- > 0;) {
        const unsigned char *p = tail + i;
        if (le32(p) != 0x06054b50 || i + EOCD_LEN + le16(p + 20) > n)
            continue;
        *d = (struct directory){.at = le32(p + 16), .size = le32(p + 12), .count = le16(p + 10)};
        if (d->at == UINT32_MAX || d->size == UINT32_MAX || d->count == UINT16_MAX)
            return read_zip64(z, z->size - n + i, d, e);
        /* Bytes before the archive (a self-extractor) shift everything; libarchive copes, so do we.
         */
        uint64_t eocd = z->size - n + i;
        if (d->size <= eocd && d->at + d->size < eocd)
            d->at = eocd - d->size;
        return 0;
    }
    return err_set(e, EBADMSG, "the file is not a zip archive, or it is cut off");
}

static int take_entry(struct zip *z, const unsigned char *h, const char *name, size_t n,
                      struct err *e)
{
    char raw[UNPACK_MAX_PATH], path[UNPACK_MAX_PATH];
    if (memchr(name, '\0', n))
        return err_set(e, EBADMSG, "the entry '%.*s' has a NUL byte in its name", (int)n, name);
    if (n >= sizeof raw)
        return err_set(e, EBADMSG, "the entry '%.200s...' has a name of more than %d bytes", name,
                       UNPACK_MAX_PATH - 1);
    memcpy(raw, name, n);
    raw[n] = '\0';
    if (le16(h + 8) & 1)
        return err_set(e, EBADMSG, "the entry '%.200s' is encrypted", raw);
    int r = name_clean(raw, path, e);
    if (r < 0)
        return r;
    unsigned host = h[5];
    bool modes = (host == HOST_UNIX || host == HOST_OSX) && le32(h + 38) >> 16 != 0;
    r = names_add(z->index, path, modes);
    if (r < 0)
        return err_set(e, ENOMEM, "out of memory");
    if (r == 0 && path[0])
        return err_set(e, EBADMSG, "the entry '%.200s' is there twice", path);
    return 0;
}

int zip_read_index(struct zip *z, struct err *e)
{
    struct directory d = {0};
    int r = find_directory(z, &d, e);
    if (r < 0)
        return r;
    if (d.count > UNPACK_MAX_ENTRIES)
        return err_set(e, EBADMSG, "the archive has more than %d entries", UNPACK_MAX_ENTRIES);
    uint64_t at = d.at;
    for (uint64_t i = 0; i < d.count; i++) {
        unsigned char h[CENTRAL_LEN] = {0};
        static char name[65536];
        r = read_at(z, at, h, sizeof h, e);
        if (r < 0)
            return r;
        if (le32(h) != 0x02014b50)
            return err_set(e, EBADMSG, "the archive's directory is damaged");
        size_t n = le16(h + 28);
        r = read_at(z, at + sizeof h, name, n, e);
        if (r == 0)
            r = take_entry(z, h, name, n, e);
        if (r < 0)
            return r;
        at += sizeof h + n + le16(h + 30) + le16(h + 32);
    }
    return 0;
}
