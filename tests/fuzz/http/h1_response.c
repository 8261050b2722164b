/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: how the input is cut; second: what the request was. A response that ended must never
 * be read further, and what was consumed never exceeds what was given. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/h1_response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned heads, ends;

static void on_interim(const struct h1_response_info *r, void *arg)
{
    (void)arg;
    if (r->status < 100 || r->status > 199 || heads)
        abort();
}

static void on_head(const struct h1_response_info *r, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < r->n_headers; i++)
        if (memchr(r->headers[i].value.p, '\n', r->headers[i].value.n) || !r->headers[i].name.n)
            abort(); /* a field that would split a response when written again */
    if (heads++)
        abort();
}

static void on_body(const char *p, size_t n, void *arg)
{
    (void)arg;
    if (!n || !p || !heads || ends)
        abort();
}

static void on_end(const struct http_header *t, size_t n, void *arg)
{
    (void)t, (void)n, (void)arg;
    if (ends++)
        abort();
}

static const struct h1_response_ops ops = {on_interim, on_head, on_body, on_end};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http_limits limits = {.header_bytes = 4096, .headers = 20};
    struct h1_response *c;
    if (size < 2 || h1_response_new(&limits, &ops, NULL, &c) < 0)
        return 0;
    size_t step = data[0] ? data[0] : 65536, at = 2;
    bool head_only = data[1] & 1, may_switch = data[1] & 2;
    for (int messages = 0; at < size && messages < 100; messages++) {
        heads = ends = 0;
        h1_response_start(c, head_only, may_switch);
        int r = 0;
        while (at < size && r == 0 && h1_response_state(c) < H1_END) {
            size_t n = size - at < step ? size - at : step, used;
            r = h1_response_feed(c, (const char *)data + at, n, &used);
            if (used > n)
                abort();
            at += used;
        }
        if (r < 0 || h1_response_eof(c) < 0 || !h1_response_keep_alive(c))
            break;
    }
    h1_response_free(c);
    return 0;
}
