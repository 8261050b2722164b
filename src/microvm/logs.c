/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log store: one append-only text file per build and per microVM, "<time> <o|e> <text>" lines.
 * What a guest prints is hostile: control characters except tab and escape are replaced, a line
 * is cut at LINE_MAX_BYTES, a file stops growing at FILE_MAX_BYTES with a note that says so. While
 * a disk is full lines are counted instead of kept; the log says how many when there is room again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"

#define LINE_MAX_BYTES 8192
#define FILE_MAX_BYTES (64LL << 20)

struct log_file {
    pthread_mutex_t lock; /* a build writes from two threads */
    int fd;               /* owned */
    off_t size;
    bool full;
    unsigned long lost;    /* lines since the disk refused one */
    struct buf partial[2]; /* unfinished lines of stdout, stderr */
};

static int log_path(const struct microvm_service *s, const char *kind, const char *key, char *out,
                    size_t cap, struct err *e)
{
    if (strchr(key, '/') || key[0] == '.' || !key[0])
        return err_set(e, EINVAL, "bad log key");
    int n = snprintf(out, cap, "%s/logs/%s/%s.log", s->cfg.data_dir, kind, key);
    return n < 0 || (size_t)n >= cap ? err_set(e, ENAMETOOLONG, "log path too long") : 0;
}

int log_file_open(struct microvm_service *s, const char *kind, const char *key,
                  struct log_file **ret, struct err *e)
{
    char path[1024];
    int r = log_path(s, kind, key, path, sizeof path, e);
    if (r < 0)
        return r;
    struct log_file *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ENOMEM, "out of memory");
    l->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->fd < 0) {
        r = err_set_errno(e, errno, "open log %s", path);
        free(l);
        return r;
    }
    struct stat st;
    l->size = fstat(l->fd, &st) == 0 ? st.st_size : 0;
    pthread_mutex_init(&l->lock, NULL);
    *ret = l;
    return 0;
}

/* A line as a whole or not at all. */
static int append(struct log_file *l, const char *line, size_t n)
{
    int r = fs_write_all(l->fd, line, n);
    if (r == 0)
        l->size += (off_t)n;
    else if (ftruncate(l->fd, l->size) < 0)
        log_warn("logs", "a line of a guest's log is incomplete: %s", strerror(errno));
    return r;
}

static size_t stamp(char *out, size_t cap, int fd)
{
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t at = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    return at + (size_t)snprintf(out + at, cap - at, ".%03ldZ %c ", ts.tv_nsec / 1000000,
                                 fd == 2 ? 'e' : 'o');
}

static int note_lost(struct log_file *l)
{
    char line[128];
    if (!l->lost)
        return 0;
    size_t at = stamp(line, sizeof line, 1);
    at += (size_t)snprintf(line + at, sizeof line - at,
                           "[%lu lines are missing: they could not be written]\n", l->lost);
    int r = append(l, line, at);
    if (r == 0)
        l->lost = 0;
    return r;
}

static void write_line(struct log_file *l, int fd, const char *p, size_t n)
{
    char line[LINE_MAX_BYTES + 64];
    if (l->full)
        return;
    if (l->size > FILE_MAX_BYTES) {
        static const char note[] = "[log limit reached: further output is not kept]";
        p = note;
        n = sizeof note - 1;
        l->full = true;
    }
    size_t at = stamp(line, sizeof line, fd);
    if (n > LINE_MAX_BYTES)
        n = LINE_MAX_BYTES;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        line[at++] = c < ' ' && c != '\t' && c != 0x1b ? '?' : (char)c;
    }
    line[at++] = '\n';
    int r = note_lost(l);
    if (r == 0)
        r = append(l, line, at);
    if (r < 0 && l->lost++ == 0)
        log_warn("logs", "cannot write a guest's log: %s", strerror(-r));
}

static void write_bytes(struct log_file *l, int fd, const char *p, size_t n)
{
    struct buf *b = &l->partial[fd == 2];
    while (n) {
        const char *nl = memchr(p, '\n', n);
        size_t k = nl ? (size_t)(nl - p) : n;
        if (b->len + k > LINE_MAX_BYTES)
            k = LINE_MAX_BYTES > b->len ? LINE_MAX_BYTES - b->len : 0;
        bool ends = nl && p + k == nl;
        if (buf_add(b, p, k) < 0)
            return;
        if (ends || b->len >= LINE_MAX_BYTES) {
            size_t len = b->len && b->data[b->len - 1] == '\r' ? b->len - 1 : b->len;
            write_line(l, fd, b->data ? b->data : "", len);
            buf_clear(b);
        }
        p += k + ends;
        n -= k + ends;
    }
}

void log_file_write(struct log_file *l, int fd, const char *p, size_t n)
{
    pthread_mutex_lock(&l->lock);
    write_bytes(l, fd, p, n);
    pthread_mutex_unlock(&l->lock);
}

void log_file_printf(struct log_file *l, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX + 512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&l->lock);
    write_line(l, 1, text, strlen(text));
    pthread_mutex_unlock(&l->lock);
}

void log_file_close(struct log_file *l)
{
    if (!l)
        return;
    for (int fd = 1; fd <= 2; fd++) {
        struct buf *b = &l->partial[fd == 2];
        if (b->len)
            write_line(l, fd, b->data, b->len);
        buf_done(b);
    }
    close(l->fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void log_file_remove(struct microvm_service *s, const char *kind, const char *key)
{
    char path[1024];
    if (log_path(s, kind, key, path, sizeof path, NULL) == 0)
        unlink(path); /* a missing log is fine */
}

/* Asked before the file is read: an end seen first means that everything is already written. */
static int log_ended(struct microvm_service *s, const char *kind, const char *key, bool *ended,
                     struct err *e)
{
    if (strcmp(kind, "build") == 0) {
        struct store_build b = {0};
        int r = store_build_get(s->cfg.store, key, &b, e);
        if (r < 0)
            return r;
        *ended = b.state == BUILD_SUCCESSFUL || b.state == BUILD_FAILED;
        store_build_done(&b);
        return 0;
    }
    if (strcmp(kind, "microvm") == 0) {
        struct store_microvm v = {0};
        int r = store_microvm_get(s->cfg.store, key, &v, e);
        if (r < 0)
            return r;
        *ended = v.state == MICROVM_TERMINATED;
        store_microvm_done(&v);
        return 0;
    }
    return err_set(e, EINVAL, "unknown log kind '%s': build or microvm", kind);
}

int microvm_log_read(struct microvm_service *s, const char *kind, const char *key, uint64_t offset,
                     size_t max, struct buf *out, bool *ended, struct err *e)
{
    char path[1024];
    bool final = false;
    int r = log_ended(s, kind, key, &final, e);
    if (r == 0)
        r = log_path(s, kind, key, path, sizeof path, e);
    if (r < 0)
        return r;
    *ended = final;
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return 0; /* nothing was said yet */
    if (fd < 0)
        return err_set_errno(e, errno, "open log");
    r = buf_reserve(out, max);
    if (r < 0)
        return err_set_errno(e, -r, "log buffer");
    ssize_t n = pread(fd, out->data + out->len, max, (off_t)offset);
    if (n < 0)
        return err_set_errno(e, errno, "read log");
    out->len += (size_t)n;
    out->data[out->len] = '\0';
    if ((size_t)n == max)
        *ended = false;
    return 0;
}
