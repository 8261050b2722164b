/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/logring.h"

#include <string.h>

#define HEAD 3 /* u8 fd, u16 length */

static void copy_in(struct logring *r, const void *p, size_t n)
{
    size_t at = (r->head + r->used) % LOGRING_SIZE;
    size_t first = n < LOGRING_SIZE - at ? n : LOGRING_SIZE - at;
    memcpy(r->data + at, p, first);
    memcpy(r->data, (const char *)p + first, n - first);
    r->used += n;
}

static void copy_out(struct logring *r, void *p, size_t n)
{
    size_t first = n < LOGRING_SIZE - r->head ? n : LOGRING_SIZE - r->head;
    if (p) {
        memcpy(p, r->data + r->head, first);
        memcpy((char *)p + first, r->data, n - first);
    }
    r->head = (r->head + n) % LOGRING_SIZE;
    r->used -= n;
}

static size_t take_head(struct logring *r, int *fd)
{
    unsigned char h[HEAD];
    copy_out(r, h, HEAD);
    *fd = h[0];
    return (size_t)h[1] << 8 | h[2];
}

void logring_put(struct logring *r, int fd, const char *p, size_t n)
{
    while (n) {
        size_t part = n < LOGRING_CHUNK ? n : LOGRING_CHUNK;
        while (LOGRING_SIZE - r->used < HEAD + part) {
            int old;
            size_t len = take_head(r, &old);
            copy_out(r, NULL, len);
            r->dropped += len;
        }
        const unsigned char h[HEAD] = {(unsigned char)fd, (unsigned char)(part >> 8),
                                       (unsigned char)part};
        copy_in(r, h, HEAD);
        copy_in(r, p, part);
        p += part;
        n -= part;
    }
}

size_t logring_take(struct logring *r, int *fd, char out[LOGRING_CHUNK])
{
    if (r->used == 0)
        return 0;
    size_t n = take_head(r, fd);
    copy_out(r, out, n);
    return n;
}

uint64_t logring_dropped(struct logring *r)
{
    uint64_t n = r->dropped;
    r->dropped = 0;
    return n;
}
