/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A text that was cut may end inside a UTF-8 sequence; JSON refuses such a text altogether. */
static void trim_partial(char *text, size_t cap)
{
    size_t n = strlen(text), k = n;
    if (n + 1 < cap)
        return;
    while (k > 0 && n - k < 4 && ((unsigned char)text[k - 1] & 0xc0) == 0x80)
        k--;
    unsigned char lead = k > 0 ? (unsigned char)text[k - 1] : 0;
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > 1 && n - k + 1 < want)
        text[k - 1] = '\0';
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return -code;
    char text[ERR_TEXT_MAX]; /* the arguments may point into e->text */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    trim_partial(text, sizeof text);
    e->code = code;
    memcpy(e->text, text, sizeof text);
    return -code;
}

int err_set_errno(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return -code;
    char text[ERR_TEXT_MAX / 2], reason[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *r = strerror_r(code, reason, sizeof reason);
    return err_set(e, code, "%s: %s", text, r);
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -EIO;
    char text[ERR_TEXT_MAX / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int code = e->code ? e->code : EIO;
    char inner[ERR_TEXT_MAX];
    memcpy(inner, e->text, sizeof inner);
    if (!e->code)
        snprintf(inner, sizeof inner, "unknown error");
    return err_set(e, code, "%s: %.*s", text, (int)(sizeof inner - sizeof text - 3), inner);
}

int err_copy(struct err *dst, const struct err *src)
{
    int code = src && src->code ? src->code : EIO;
    if (dst && src && dst != src) {
        *dst = *src;
        dst->code = code;
    }
    return -code;
}

void cleanup_free(void *p)
{
    free(*(void **)p);
}

void cleanup_close(int *fd)
{
    int saved = errno;
    if (*fd >= 0)
        close(*fd);
    errno = saved;
}
