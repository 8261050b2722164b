/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte is the size of the pieces. However the stream is cut, the frames are the same. */
#include <assert.h>
#include <stdlib.h>

#include "net/deframe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
    uint64_t hash;
    size_t frames;
};

static void on_frame(void *arg, const uint8_t *p, size_t n)
{
    struct sum *s = arg;
    assert(n <= NET_STREAM_FRAME_MAX);
    assert((p == NULL) == (n > NET_FRAME_MAX));
    for (size_t i = 0; p && i < n; i++)
        s->hash = s->hash * 1099511628211u + p[i];
    s->hash = s->hash * 31 + n;
    s->frames++;
}

static struct sum feed(const uint8_t *p, size_t n, size_t piece)
{
    static struct net_deframer d;
    struct sum s = {0};
    d = (struct net_deframer){0};
    while (n) {
        size_t take = n < piece ? n : piece;
        if (net_deframer_feed(&d, p, take, on_frame, &s) < 0)
            break;
        p += take;
        n -= take;
    }
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct sum whole = feed(data + 1, size - 1, size), cut = feed(data + 1, size - 1, data[0] | 1u);
    assert(whole.hash == cut.hash && whole.frames == cut.frames);
    return 0;
}
