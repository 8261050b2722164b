/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: bit 0 signed, bit 1 trailer, the rest the size of the pieces. Fed whole and in pieces
 * the decoder must come to the same result and the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth/aws_chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int collect(void *arg, const char *p, size_t n)
{
    return buf_add(arg, p, n);
}

static int decode(const uint8_t *p, size_t n, size_t step, unsigned flags, struct buf *out)
{
    struct sigv4_result auth = {.payload = flags & 1 ? SIGV4_PAYLOAD_CHUNKED
                                                     : SIGV4_PAYLOAD_CHUNKED_UNSIGNED,
                                .trailer = flags & 2};
    struct aws_chunked_config c = {
        .auth = &auth, .decoded_length = -1, .max = 4096, .sink = collect, .arg = out};
    struct aws_chunked *d;
    if (flags & 2)
        c.trailer = SLICE("x-amz-checksum-crc32");
    int rc = aws_chunked_new(&c, &d, NULL);
    for (size_t i = 0; rc == 0 && i < n; i += step)
        rc = aws_chunked_feed(d, (const char *)p + i, n - i < step ? n - i : step, NULL);
    if (rc == 0)
        rc = aws_chunked_end(d, NULL);
    aws_chunked_free(d);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct buf whole = BUF_INIT(0), pieces = BUF_INIT(0);
    int a = decode(data + 1, size - 1, size, data[0], &whole);
    int b = decode(data + 1, size - 1, (data[0] >> 2) + 1u, data[0], &pieces);
    if (a != b || (a == 0 && (whole.len != pieces.len ||
                              (whole.len && memcmp(whole.data, pieces.data, whole.len) != 0))))
        abort();
    if (whole.len > 4096)
        abort();
    buf_done(&whole);
    buf_done(&pieces);
    return 0;
}
