/* SPDX-License-Identifier: Apache-2.0 */
/* The frame codec: the first byte is the size of the pieces the rest is fed in. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/frame.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame_reader r = {0};
    struct buf again = BUF_INIT(0);
    size_t step = size ? data[0] + 1u : 1, frames = 0;
    for (size_t at = 1; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        int type, ok = frame_reader_add(&r, data + at, n);
        struct slice p;
        while (ok >= 0 && (ok = frame_reader_next(&r, &type, &p)) == 1) {
            frames += WIRE_FRAME_HEADER + p.n;
            if (p.n > WIRE_MAX_FRAME_DATA || frame_put(&again, type, p.p, p.n) < 0)
                abort();
        }
        if (ok < 0)
            break;
    }
    /* What was read, written again, gives the same bytes. */
    if (again.len != frames)
        abort();
    for (size_t i = 0; i < again.len; i++)
        if ((uint8_t)again.data[i] != data[1 + i])
            abort();
    frame_reader_done(&r);
    buf_done(&again);
    return 0;
}
