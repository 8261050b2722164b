/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the file is cut into segments of 32 MiB. A segment's digest covers, for
 * every page in it that is not all zero, the page number and the page; the file's digest covers
 * the file size and the segment digests in order. Holes are skipped with SEEK_DATA, so an idle
 * 2 GiB guest costs what it touched. Segments are independent: two threads share the work, which
 * halves the first restore after a start on two processors.
 */
#include "engine/sparse.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encode.h"

enum { THREADS = 2, CHUNK = 1 << 20, PUNCH_MIN = 16 * 4096 };

struct job {
    int fd;
    bool punch;
    uint64_t size;
    size_t n_segments;
    unsigned char *digests; /* owned: n_segments * SHA256_LEN */
    atomic_size_t next;
    _Atomic uint64_t data;
    atomic_int result;
};

static bool is_zero(const unsigned char *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

struct run { /* zero pages waiting to be punched */
    uint64_t start, end;
};

static void punch_run(struct job *j, struct run *r)
{
    /* Short holes cost more in extents than they save; failing to punch loses nothing but space. */
    if (j->punch && r->end - r->start >= PUNCH_MIN)
        (void)fallocate(j->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->start,
                        (off_t)(r->end - r->start));
    *r = (struct run){0, 0};
}

static void add_pages(struct job *j, struct sha256 *h, uint64_t at, const unsigned char *p,
                      size_t n, struct run *zero)
{
    for (size_t i = 0; i < n; i += SPARSE_PAGE) {
        size_t len = n - i < SPARSE_PAGE ? n - i : SPARSE_PAGE;
        if (is_zero(p + i, len)) {
            if (zero->end != at + i) {
                punch_run(j, zero);
                zero->start = at + i;
            }
            zero->end = at + i + len;
            continue;
        }
        uint64_t number = htole64((at + i) / SPARSE_PAGE);
        sha256_add(h, &number, sizeof number);
        sha256_add(h, p + i, len);
        atomic_fetch_add_explicit(&j->data, len, memory_order_relaxed);
    }
}

static int read_full(int fd, unsigned char *p, size_t n, uint64_t at)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(fd, p + got, n - got, (off_t)(at + got));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EIO; /* shrank under us */
        got += (size_t)k;
    }
    return 0;
}

static int hash_extent(struct job *j, struct sha256 *h, uint64_t at, uint64_t end,
                       unsigned char *chunk, struct run *zero)
{
    while (at < end) {
        size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        int r = read_full(j->fd, chunk, n, at);
        if (r < 0)
            return r;
        add_pages(j, h, at, chunk, n, zero);
        at += n;
    }
    return 0;
}

static int hash_segment(struct job *j, size_t index, unsigned char *chunk)
{
    uint64_t at = (uint64_t)index * SPARSE_SEGMENT, end = at + SPARSE_SEGMENT;
    if (end > j->size)
        end = j->size;
    struct sha256 *h = sha256_new();
    struct run zero = {0, 0};
    int r = 0;
    while (r == 0 && at < end) {
        off_t data = lseek(j->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? -1 : lseek(j->fd, data, SEEK_HOLE);
        if (hole < 0) {
            r = -errno;
            break;
        }
        /* A file system may report extents that are not whole pages. */
        uint64_t from = (uint64_t)data & ~(uint64_t)(SPARSE_PAGE - 1);
        uint64_t to = ((uint64_t)hole + SPARSE_PAGE - 1) & ~(uint64_t)(SPARSE_PAGE - 1);
        from = from < at ? at : from;
        to = to > end ? end : to;
        if (from >= end)
            break;
        r = hash_extent(j, h, from, to, chunk, &zero);
        at = to;
    }
    punch_run(j, &zero);
    sha256_end(h, j->digests + index * SHA256_LEN);
    return r;
}

static void *worker(void *arg)
{
    struct job *j = arg;
    unsigned char *chunk = malloc(CHUNK);
    int r = chunk ? 0 : -ENOMEM;
    for (size_t i; r == 0 && (i = atomic_fetch_add(&j->next, 1)) < j->n_segments;)
        r = hash_segment(j, i, chunk);
    if (r < 0)
        atomic_store(&j->result, r);
    free(chunk);
    return NULL;
}

static void combine(const struct job *j, struct sparse_result *ret)
{
    unsigned char d[SHA256_LEN];
    uint64_t size = htole64(j->size);
    struct sha256 *h = sha256_new();
    sha256_add(h, &size, sizeof size);
    sha256_add(h, j->digests, j->n_segments * SHA256_LEN);
    sha256_end(h, d);
    hex_encode(ret->digest, d, sizeof d);
    ret->bytes = j->size;
    ret->data = j->data;
}

int sparse_digest(int fd, bool punch, struct sparse_result *ret, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set_errno(e, errno, "stat memory file");
    return sparse_digest_start(fd, (uint64_t)st.st_size, punch, ret, e);
}

int sparse_digest_start(int fd, uint64_t bytes, bool punch, struct sparse_result *ret,
                        struct err *e)
{
    struct job j = {.fd = fd, .punch = punch, .size = bytes};
    j.n_segments = (size_t)((j.size + SPARSE_SEGMENT - 1) / SPARSE_SEGMENT);
    j.digests = calloc(j.n_segments + 1, SHA256_LEN);
    if (!j.digests)
        return err_set(e, ENOMEM, "out of memory while hashing memory");
    pthread_t helper[THREADS - 1];
    unsigned started = 0;
    while (started < THREADS - 1 && j.n_segments > 1 &&
           pthread_create(&helper[started], NULL, worker, &j) == 0)
        started++;
    worker(&j);
    for (unsigned i = 0; i < started; i++)
        pthread_join(helper[i], NULL);
    int r = atomic_load(&j.result);
    if (r == 0)
        combine(&j, ret);
    else
        err_set_errno(e, -r, "read memory file");
    free(j.digests);
    return r;
}
