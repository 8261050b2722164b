/* SPDX-License-Identifier: Apache-2.0 */
#include "net/resolvconf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void parse_line(const char *p, size_t n, struct net_resolvers *ret)
{
    static const char keyword[] = "nameserver";
    const size_t k = sizeof keyword - 1;
    char text[INET6_ADDRSTRLEN];
    if (n <= k || memcmp(p, keyword, k) != 0 || !is_blank(p[k]) || ret->n == NET_RESOLVERS_MAX)
        return;
    size_t at = k, end;
    while (at < n && is_blank(p[at]))
        at++;
    for (end = at; end < n && !is_blank(p[end]);)
        end++;
    if (end == at || end - at >= sizeof text)
        return;
    memcpy(text, p + at, end - at);
    text[end - at] = '\0';
    struct net_address *a = &ret->address[ret->n];
    memset(a, 0, sizeof *a);
    a->v6 = strchr(text, ':') != NULL;
    if (inet_pton(a->v6 ? AF_INET6 : AF_INET, text, a->bytes) == 1)
        ret->n++;
}

void net_resolvconf_parse(const char *p, size_t n, struct net_resolvers *ret)
{
    struct net_resolvers r = {0};
    while (n) {
        const char *nl = memchr(p, '\n', n);
        size_t line = nl ? (size_t)(nl - p) : n;
        parse_line(p, line, &r);
        size_t used = nl ? line + 1 : line;
        p += used;
        n -= used;
    }
    if (r.n == 0) {
        r.address[0] = (struct net_address){.bytes = {127, 0, 0, 1}};
        r.n = 1;
    }
    *ret = r;
}

int net_resolvconf_load(const char *path, struct net_resolvers *ret)
{
    char text[NET_RESOLVCONF_MAX];
    CLEANUP(cleanup_close)
    int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t have = 0;
    while (have < NET_RESOLVCONF_MAX) {
        ssize_t n = read(fd, text + have, NET_RESOLVCONF_MAX - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    net_resolvconf_parse(text, have, ret);
    return 0;
}
