/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

enum { CONSOLE_FILE_MAX = 512 * 1024 };

void tail_add(struct tail *t, const char *p, size_t n)
{
    const size_t cap = sizeof t->text - 1;
    if (n > cap) {
        p += n - cap;
        n = cap;
    }
    if (t->n + n > cap) {
        size_t drop = t->n + n - cap;
        memmove(t->text, t->text + drop, t->n - drop);
        t->n -= drop;
    }
    memcpy(t->text + t->n, p, n);
    t->n += n;
    t->text[t->n] = '\0';
    for (size_t i = t->n - n; i < t->n; i++)
        if (t->text[i] == '\0')
            t->text[i] = '?';
}

void tail_last_line(const struct tail *t, char *out, size_t cap)
{
    size_t end = t->n;
    while (end && (t->text[end - 1] == '\n' || t->text[end - 1] == '\r'))
        end--;
    size_t start = end;
    while (start && t->text[start - 1] != '\n')
        start--;
    snprintf(out, cap, "%.*s", (int)(end - start), t->text + start);
}

int console_log_open(struct console_log *c, int dir_fd)
{
    struct stat st;
    *c = (struct console_log){.dir_fd = dir_fd};
    c->file =
        openat(dir_fd, "console.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (c->file < 0)
        return -errno;
    if (fstat(c->file, &st) == 0)
        c->bytes = (size_t)st.st_size;
    return 0;
}

static void rotate(struct console_log *c)
{
    cleanup_close(&c->file);
    (void)renameat(c->dir_fd, "console.log", c->dir_fd, "console.log.1"); /* fails: overwritten */
    c->file = openat(c->dir_fd, "console.log",
                     O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    c->bytes = 0;
}

void console_log_add(struct console_log *c, const char *p, size_t n)
{
    tail_add(&c->tail, p, n);
    if (c->bytes + n > CONSOLE_FILE_MAX)
        rotate(c);
    /* A full disk must not stop the machine; the last bytes stay in memory. */
    if (c->file >= 0 && fs_write_all(c->file, p, n) == 0)
        c->bytes += n;
}

void console_log_close(struct console_log *c)
{
    cleanup_close(&c->file);
    c->file = -1;
}

bool console_log_panic(const struct console_log *c, char *out, size_t cap)
{
    const char *at = NULL;
    for (const char *p = c->tail.text; (p = strstr(p, "Kernel panic")); p++)
        at = p;
    if (at)
        snprintf(out, cap, "%.*s", (int)strcspn(at, "\r\n"), at);
    return at != NULL;
}
