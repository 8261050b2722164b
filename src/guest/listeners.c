/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/listeners.h"

#include "base/fs.h"
#include "guest/numbers.h"

#define STATE_LISTEN 0x0a
#define TABLE_MAX (4 * 1024 * 1024)

static size_t add_port(uint16_t list[LISTENERS_MAX], size_t n, uint16_t port)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == port)
            return n;
    if (n < LISTENERS_MAX)
        list[n++] = port;
    return n;
}

size_t listeners_parse(const char *text, uint16_t list[LISTENERS_MAX], size_t n)
{
    struct tcp_line line;
    while (tcp_line_next(&text, &line))
        if (line.state == STATE_LISTEN)
            n = add_port(list, n, (uint16_t)line.local_port);
    return n;
}

size_t listeners_find(uint16_t list[LISTENERS_MAX])
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    size_t n = 0;
    for (size_t i = 0; i < 2; i++) {
        struct buf b = BUF_INIT(TABLE_MAX);
        if (fs_read_file(tables[i], &b, NULL) == 0)
            n = listeners_parse(b.data, list, n);
        buf_done(&b);
    }
    return n;
}
