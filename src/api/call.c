/* SPDX-License-Identifier: Apache-2.0 */
#include "api/call.h"

#include <errno.h>
#include <unistd.h>

int call_load_body(struct http_call *h, size_t max)
{
    if (h->body_size > max)
        return -EMSGSIZE;
    if (h->body_fd < 0)
        return 0;
    size_t size = (size_t)h->body_size;
    buf_done(&h->body);
    h->body.max = 0;
    int r = buf_reserve(&h->body, size);
    while (r == 0 && h->body.len < size) {
        ssize_t n =
            pread(h->body_fd, h->body.data + h->body.len, size - h->body.len, (off_t)h->body.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EIO;
        h->body.len += (size_t)n;
        h->body.data[h->body.len] = '\0';
    }
    return r;
}
