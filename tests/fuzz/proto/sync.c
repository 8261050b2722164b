/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of the session start. Cutting the input elsewhere must not change what comes out. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "proto/sync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const char *p, size_t size, size_t step, struct buf *log)
{
    struct sync_guest g;
    sync_guest_init(&g);
    while (size) {
        size_t n = step < size ? step : size, left = n;
        const char *q = p;
        while (left) {
            size_t used = 0, data_n = 0;
            const char *out;
            enum sync_event ev = sync_guest_feed(&g, q, left, &used, &out, &data_n);
            if (used > left || (ev == SYNC_NEED_MORE && used != left))
                abort();
            if ((ev == SYNC_STARTED || ev == SYNC_BROKEN) && buf_addf(log, "<%d>", ev) < 0)
                abort();
            if (ev == SYNC_DATA && buf_add(log, out, data_n) < 0)
                abort();
            q += used;
            left -= used;
        }
        p += n;
        size -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = BUF_INIT(0), cut = BUF_INIT(0);
    run((const char *)data, size, size, &whole);
    run((const char *)data, size, 7, &cut);
    if (whole.len != cut.len || (whole.len && memcmp(whole.data, cut.data, whole.len) != 0))
        abort();
    buf_done(&whole);
    buf_done(&cut);
    struct sync_host h;
    bool found;
    sync_host_init(&h, "00112233445566778899aabbccddeeff");
    if (sync_host_feed(&h, (const char *)data, size, &found) > size)
        abort();
    return 0;
}
