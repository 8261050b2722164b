/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a page of a private file mapping that was ever written is anonymous, and
 * /proc/PID/pagemap tells anonymous from file pages (bit 61), so the kernel already keeps the list
 * of what differs. The contents go through process_vm_readv() and process_vm_writev(), a mebibyte
 * at a time. A suspended 512 MiB guest is tens of MiB this way instead of all it ever touched, and
 * clones share the rest of their memory again after they resume.
 *
 * File: data pages, index of their numbers, index of pages that are all zero, trailer. The trailer
 * is at the end so that the digest can be taken while writing.
 */
#include "engine/qemu/pages.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/fs.h"

enum { PAGE = 4096, BATCH = 256, RANGES_MAX = 16, ENTRIES = 4096 };

static const char magic[8] = {'T', 'B', 'P', 'A', 'G', 'E', 'S', '1'};

struct trailer { /* little endian */
    char magic[8];
    uint64_t memory_bytes, n_data, n_zero;
};

struct range { /* one piece of the mapping */
    uint64_t address, page, n_pages;
};

struct map {
    struct range r[RANGES_MAX];
    unsigned n;
};

struct list {
    uint32_t *v; /* owned, ascending */
    size_t n, cap;
};

static int list_add(struct list *l, uint32_t page)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16384;
        uint32_t *v = reallocarray(l->v, cap, sizeof *v);
        if (!v)
            return -ENOMEM;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = page;
    return 0;
}

/* "start-end rw-p offset dev inode path" */
static int parse_line(const char *line, const struct pages_target *t, struct map *m)
{
    unsigned long long start, end, offset, inode;
    char mode[5];
    if (sscanf(line, "%llx-%llx %4s %llx %*s %llu", &start, &end, mode, &offset, &inode) != 5 ||
        inode != t->inode || strcmp(mode, "rw-p") != 0)
        return 0;
    if (m->n == RANGES_MAX || (start | end | offset) % PAGE || end <= start)
        return -EPROTO;
    m->r[m->n++] = (struct range){start, offset / PAGE, (end - start) / PAGE};
    return 0;
}

/* The mapping must cover the file exactly once, in order. */
static int find_mapping(const struct pages_target *t, struct map *ret)
{
    char path[64], line[4400];
    uint64_t next = 0;
    int r = 0;
    *ret = (struct map){0};
    snprintf(path, sizeof path, "/proc/%d/maps", (int)t->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    while (r == 0 && fgets(line, sizeof line, f))
        r = parse_line(line, t, ret);
    fclose(f);
    for (unsigned i = 0; i < ret->n; i++) {
        if (ret->r[i].page != next)
            r = -EPROTO;
        next += ret->r[i].n_pages;
    }
    return r < 0 ? r : next * PAGE == t->bytes ? 0 : -EPROTO;
}

static int scan_range(int fd, const struct range *r, struct list *ret)
{
    const uint64_t present = UINT64_C(3) << 62, file = UINT64_C(1) << 61;
    uint64_t *entry = malloc(ENTRIES * sizeof *entry);
    int k = entry ? 0 : -ENOMEM;
    for (uint64_t done = 0; k == 0 && done < r->n_pages;) {
        uint64_t n = r->n_pages - done < ENTRIES ? r->n_pages - done : ENTRIES;
        ssize_t got = pread(fd, entry, n * sizeof *entry,
                            (off_t)((r->address / PAGE + done) * sizeof *entry));
        if (got != (ssize_t)(n * sizeof *entry))
            k = got < 0 ? -errno : -EIO;
        for (uint64_t i = 0; k == 0 && i < n; i++)
            if (entry[i] & present && !(entry[i] & file))
                k = list_add(ret, (uint32_t)(r->page + done + i));
        done += n;
    }
    free(entry);
    return k;
}

static int find_changed(const struct pages_target *t, const struct map *m, struct list *ret)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)t->pid);
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    for (unsigned i = 0; r == 0 && i < m->n; i++)
        r = scan_range(fd, &m->r[i], ret);
    return r;
}

static uint64_t address_of(const struct map *m, uint32_t page)
{
    for (unsigned i = 0; i < m->n; i++)
        if (page - m->r[i].page < m->r[i].n_pages)
            return m->r[i].address + (page - m->r[i].page) * PAGE;
    return 0; /* not reached: numbers are below the size the ranges cover */
}

/* Moves n <= BATCH pages between buf and the process; neighbours become one piece. */
static int move_pages(const struct pages_target *t, const struct map *m, const uint32_t *page,
                      size_t n, unsigned char *buf, bool write)
{
    struct iovec remote[BATCH], local = {buf, n * PAGE};
    unsigned long pieces = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t at = address_of(m, page[i]);
        struct iovec *last = pieces ? &remote[pieces - 1] : NULL;
        if (last && (uint64_t)(uintptr_t)last->iov_base + last->iov_len == at)
            last->iov_len += PAGE;
        else
            remote[pieces++] = (struct iovec){(void *)(uintptr_t)at, PAGE};
    }
    ssize_t k = write ? process_vm_writev(t->pid, &local, 1, remote, pieces, 0)
                      : process_vm_readv(t->pid, &local, 1, remote, pieces, 0);
    return k < 0 ? -errno : k == (ssize_t)(n * PAGE) ? 0 : -EIO;
}

static bool is_zero(const unsigned char *p)
{
    return p[0] == 0 && memcmp(p, p + 1, PAGE - 1) == 0;
}

struct writer {
    int fd;
    struct sha256 *hash;
    uint64_t bytes;
};

static int put(struct writer *w, const void *p, size_t n)
{
    sha256_add(w->hash, p, n);
    w->bytes += n;
    return fs_write_all(w->fd, p, n);
}

/* Writes the pages with contents and sorts the numbers into data and zero. */
static int save_data(const struct pages_target *t, const struct map *m, const struct list *changed,
                     struct writer *w, struct list *data, struct list *zero)
{
    unsigned char *buf = aligned_alloc(PAGE, BATCH * PAGE);
    int r = buf ? 0 : -ENOMEM;
    for (size_t done = 0; r == 0 && done < changed->n;) {
        size_t n = changed->n - done < BATCH ? changed->n - done : BATCH, kept = 0;
        r = move_pages(t, m, changed->v + done, n, buf, false);
        for (size_t i = 0; r == 0 && i < n; i++) {
            unsigned char *p = buf + i * PAGE;
            bool empty = is_zero(p);
            r = list_add(empty ? zero : data, changed->v[done + i]);
            if (!empty && kept++ != i)
                memcpy(buf + (kept - 1) * PAGE, p, PAGE);
        }
        if (r == 0)
            r = put(w, buf, kept * PAGE);
        done += n;
    }
    free(buf);
    return r;
}

static int put_index(struct writer *w, const struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        l->v[i] = htole32(l->v[i]);
    return put(w, l->v, l->n * sizeof *l->v);
}

static int save_all(const struct pages_target *t, struct writer *w)
{
    struct map m;
    struct list changed = {0}, data = {0}, zero = {0};
    int r = find_mapping(t, &m);
    if (r == 0)
        r = find_changed(t, &m, &changed);
    if (r == 0)
        r = save_data(t, &m, &changed, w, &data, &zero);
    struct trailer end = {
        .memory_bytes = htole64(t->bytes), .n_data = htole64(data.n), .n_zero = htole64(zero.n)};
    memcpy(end.magic, magic, sizeof magic);
    if (r == 0)
        r = put_index(w, &data);
    if (r == 0)
        r = put_index(w, &zero);
    if (r == 0)
        r = put(w, &end, sizeof end);
    free(changed.v);
    free(data.v);
    free(zero.v);
    return r;
}

int pages_save(const struct pages_target *t, int fd, struct pages_file *ret, struct err *e)
{
    unsigned char digest[SHA256_LEN];
    struct writer w = {fd, sha256_new(), 0};
    int r = save_all(t, &w);
    sha256_end(w.hash, digest);
    if (r < 0)
        return err_set_errno(e, -r, "changed pages cannot be saved");
    hex_encode(ret->digest, digest, sizeof digest);
    ret->bytes = w.bytes;
    return 0;
}

static int read_at(int fd, void *p, size_t n, uint64_t at)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(fd, (char *)p + got, n - got, (off_t)(at + got));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EBADMSG;
        got += (size_t)k;
    }
    return 0;
}

static int read_trailer(const struct pages_target *t, int fd, struct trailer *ret)
{
    struct stat st;
    uint64_t pages = t->bytes / PAGE;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < (off_t)sizeof *ret)
        return -EBADMSG;
    int r = read_at(fd, ret, sizeof *ret, (uint64_t)st.st_size - sizeof *ret);
    if (r < 0)
        return r;
    ret->n_data = le64toh(ret->n_data);
    ret->n_zero = le64toh(ret->n_zero);
    if (memcmp(ret->magic, magic, sizeof magic) != 0 || le64toh(ret->memory_bytes) != t->bytes ||
        ret->n_data > pages || ret->n_zero > pages - ret->n_data ||
        (uint64_t)st.st_size !=
            ret->n_data * (PAGE + sizeof(uint32_t)) + ret->n_zero * sizeof(uint32_t) + sizeof *ret)
        return -EBADMSG;
    return 0;
}

static int read_index(const struct pages_target *t, int fd, uint64_t at, size_t n, struct list *ret)
{
    ret->v = calloc(n + 1, sizeof *ret->v);
    if (!ret->v)
        return -ENOMEM;
    int r = read_at(fd, ret->v, n * sizeof *ret->v, at);
    for (size_t i = 0; r == 0 && i < n; i++) {
        ret->v[i] = le32toh(ret->v[i]);
        if (ret->v[i] >= t->bytes / PAGE || (i && ret->v[i] <= ret->v[i - 1]))
            r = -EBADMSG;
    }
    ret->n = n;
    return r;
}

/* fd -1: the pages are zero. */
static int load_list(const struct pages_target *t, const struct map *m, const struct list *l,
                     int fd)
{
    unsigned char *buf = calloc(BATCH, PAGE);
    int r = buf ? 0 : -ENOMEM;
    for (size_t done = 0; r == 0 && done < l->n;) {
        size_t n = l->n - done < BATCH ? l->n - done : BATCH;
        if (fd >= 0)
            r = read_at(fd, buf, n * PAGE, (uint64_t)done * PAGE);
        if (r == 0)
            r = move_pages(t, m, l->v + done, n, buf, true);
        done += n;
    }
    free(buf);
    return r;
}

int pages_load(const struct pages_target *t, int fd, struct err *e)
{
    struct trailer end;
    struct map m;
    struct list data = {0}, zero = {0};
    int r = read_trailer(t, fd, &end);
    if (r == 0)
        r = read_index(t, fd, end.n_data * PAGE, (size_t)end.n_data, &data);
    if (r == 0)
        r = read_index(t, fd, end.n_data * (PAGE + sizeof(uint32_t)), (size_t)end.n_zero, &zero);
    if (r == 0)
        r = find_mapping(t, &m);
    if (r == 0)
        r = load_list(t, &m, &data, fd);
    if (r == 0)
        r = load_list(t, &m, &zero, -1);
    free(data.v);
    free(zero.v);
    if (r == -EBADMSG)
        return err_set(e, EBADMSG, "the file of changed pages is damaged");
    return r < 0 ? err_set_errno(e, -r, "changed pages cannot be loaded") : 0;
}
