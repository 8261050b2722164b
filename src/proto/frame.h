/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codec for the frames of proto/wire.h: u8 type, u24 big-endian length, payload. Sans-IO, hostile
 * input: a length above WIRE_MAX_FRAME_DATA is an error at its header, before anything is stored.
 * Single owner.
 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include <stddef.h>

#include "base/buf.h"

/* Appends one frame to out. -EMSGSIZE when n is above WIRE_MAX_FRAME_DATA, -ENOMEM. */
int frame_put(struct buf *out, int type, const void *p, size_t n) MUST_CHECK;
/* As frame_put() for any size, in as many frames as needed. */
int frame_put_all(struct buf *out, int type, const void *p, size_t n) MUST_CHECK;

struct frame_reader {
    struct buf in;
    size_t pos; /* bytes of in already handed out */
};

void frame_reader_done(struct frame_reader *r);
int frame_reader_add(struct frame_reader *r, const void *p, size_t n) MUST_CHECK; /* -ENOMEM */
/* Next whole frame: 1 and *type, *payload (valid until the next call on r); 0 when more bytes are
 * needed; -EPROTO when the length is over the limit (for good: nothing after it can be trusted). */
int frame_reader_next(struct frame_reader *r, int *type, struct slice *payload) MUST_CHECK;
/* Bytes added but not handed out yet. */
size_t frame_reader_left(const struct frame_reader *r);

#endif
