/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <errno.h>
#include <string.h>

#include "proto/wire.h"

int frame_put(struct buf *out, int type, const void *p, size_t n)
{
    if (n > WIRE_MAX_FRAME_DATA || type < 0 || type > 255)
        return -EMSGSIZE;
    int r = buf_reserve(out, WIRE_FRAME_HEADER + n); /* a header never stands without its payload */
    if (r < 0)
        return r;
    const unsigned char head[WIRE_FRAME_HEADER] = {(unsigned char)type, (unsigned char)(n >> 16),
                                                   (unsigned char)(n >> 8), (unsigned char)n};
    r = buf_add(out, head, sizeof head);
    return r < 0 ? r : buf_add(out, p, n);
}

int frame_put_all(struct buf *out, int type, const void *p, size_t n)
{
    const char *s = n ? p : "";
    do {
        size_t part = n < WIRE_MAX_FRAME_DATA ? n : WIRE_MAX_FRAME_DATA;
        int r = frame_put(out, type, s, part);
        if (r < 0)
            return r;
        s += part;
        n -= part;
    } while (n);
    return 0;
}

void frame_reader_done(struct frame_reader *r)
{
    buf_done(&r->in);
    r->pos = 0;
}

int frame_reader_add(struct frame_reader *r, const void *p, size_t n)
{
    if (r->pos) {
        buf_consume(&r->in, r->pos);
        r->pos = 0;
    }
    return buf_add(&r->in, p, n);
}

int frame_reader_next(struct frame_reader *r, int *type, struct slice *payload)
{
    size_t have = r->in.len - r->pos;
    if (have < WIRE_FRAME_HEADER)
        return 0;
    const unsigned char *h = (const unsigned char *)r->in.data + r->pos;
    size_t n = (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
    if (n > WIRE_MAX_FRAME_DATA)
        return -EPROTO;
    if (have < WIRE_FRAME_HEADER + n)
        return 0;
    *type = h[0];
    *payload = (struct slice){(const char *)h + WIRE_FRAME_HEADER, n};
    r->pos += WIRE_FRAME_HEADER + n;
    return 1;
}

size_t frame_reader_left(const struct frame_reader *r)
{
    return r->in.len - r->pos;
}
