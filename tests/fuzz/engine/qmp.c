/* SPDX-License-Identifier: Apache-2.0 */
/* QMP from a monitor its guest has taken over: any bytes, in pieces of any size. The first byte of
 * the input sets the size of the pieces. */
#include <stdlib.h>
#include <string.h>

#include "engine/qemu/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    size_t piece = data[0] ? data[0] : 1;
    struct qmp_reader r;
    qmp_reader_init(&r);
    const char *p = (const char *)data + 1;
    size_t left = size - 1;
    while (left) {
        struct qmp_message m;
        struct err e = {0};
        size_t n = left < piece ? left : piece, used = n;
        int k = qmp_read(&r, p, &used, &m, &e);
        if (used > n || (k == 0 && used == 0))
            abort();
        if (k < 0)
            break;
        if (k == 1) {
            if (!memchr(m.name, '\0', sizeof m.name) || !memchr(m.text, '\0', sizeof m.text))
                abort();
            (void)json_get_str(m.data, "status");
            qmp_message_done(&m);
        }
        p += used;
        left -= used;
    }
    qmp_reader_done(&r);
    return 0;
}
