/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock_diag(7): one dump per family finds the connections, SOCK_DESTROY ends each (the kernel needs
 * tcp_diag and CONFIG_INET_DIAG_DESTROY). Without tcp_diag the tables in /proc tell whether there
 * is anything to end; if there is, that is an error: a clone must not go on with its twin's
 * streams.
 */
#include "guest/sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "guest/numbers.h"

#define SOCK_DESTROY_MSG 21 /* SOCK_DESTROY of <linux/sock_diag.h> */
#define STATES (~(1u << TCP_LISTEN | 1u << TCP_CLOSE | 1u << TCP_TIME_WAIT))

struct request {
    struct nlmsghdr head;
    struct inet_diag_req_v2 req;
};

static bool is_loopback(const struct inet_diag_msg *m)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    const unsigned char *dst = (const unsigned char *)m->id.idiag_dst;
    if (m->idiag_family == AF_INET)
        return dst[0] == 127;
    if (memcmp(dst, mapped, sizeof mapped) == 0)
        return dst[12] == 127;
    return IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)m->id.idiag_dst);
}

static int send_request(int fd, const struct request *q)
{
    return send(fd, q, sizeof *q, 0) == sizeof *q ? 0 : -errno;
}

/* NLMSG_NEXT() would do, but for clang's warning about its cast. */
static struct nlmsghdr *next_message(struct nlmsghdr *h, unsigned *left)
{
    unsigned n = NLMSG_ALIGN(h->nlmsg_len);
    *left -= n < *left ? n : *left;
    return (struct nlmsghdr *)(void *)((char *)h + n);
}

/* Collects the ids of one family's connections to elsewhere. */
static int dump(int fd, uint8_t family, struct buf *found)
{
    const struct request q = {
        .head = {.nlmsg_len = sizeof q,
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .req = {.sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = STATES}};
    int r = send_request(fd, &q);
    while (r == 0) {
        _Alignas(struct nlmsghdr) char in[16384];
        ssize_t n = recv(fd, in, sizeof in, 0);
        if (n < 0)
            return -errno;
        struct nlmsghdr *h = (struct nlmsghdr *)(void *)in;
        for (unsigned left = (unsigned)n; NLMSG_OK(h, left) && r == 0; h = next_message(h, &left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *er = NLMSG_DATA(h);
                return er->error;
            }
            const struct inet_diag_msg *m = NLMSG_DATA(h);
            if (!is_loopback(m))
                r = buf_add(found, m, sizeof *m);
        }
    }
    return r;
}

static int destroy(int fd, const struct inet_diag_msg *m)
{
    const struct request q = {
        .head = {.nlmsg_len = sizeof q,
                 .nlmsg_type = SOCK_DESTROY_MSG,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .req = {.sdiag_family = m->idiag_family, .sdiag_protocol = IPPROTO_TCP, .id = m->id}};
    int r = send_request(fd, &q);
    if (r < 0)
        return r;
    _Alignas(struct nlmsghdr) char in[1024];
    ssize_t n = recv(fd, in, sizeof in, 0);
    const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)in;
    if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || h->nlmsg_type != NLMSG_ERROR)
        return n < 0 ? -errno : -EPROTO;
    const struct nlmsgerr *er = NLMSG_DATA(h);
    return er->error == -ENOENT ? 0 : er->error; /* it ended by itself meanwhile */
}

static const char *const TABLES[] = {"/proc/net/tcp", "/proc/net/tcp6"};

/* A connection to elsewhere. Words are printed in host order: an address's first byte is the last
 * one of a word. */
static bool is_remote(const struct tcp_line *l)
{
    size_t n = strlen(l->remote);
    bool mapped = n == 32 && strncmp(l->remote, "0000000000000000FFFF0000", 24) == 0;
    bool loopback = n == 8 || mapped ? strcmp(l->remote + n - 2, "7F") == 0
                                     : strcmp(l->remote, "00000000000000000000000001000000") == 0;
    return l->state < 32 && STATES >> l->state & 1 && !loopback;
}

static bool is_listener(const struct tcp_line *l)
{
    return l->state == TCP_LISTEN;
}

static unsigned count_lines(bool (*wanted)(const struct tcp_line *l))
{
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(TABLES); i++) {
        struct buf b = BUF_INIT(4 * 1024 * 1024);
        struct tcp_line line;
        if (fs_read_file(TABLES[i], &b, NULL) == 0)
            for (const char *text = b.data; tcp_line_next(&text, &line);)
                n += wanted(&line);
        buf_done(&b);
    }
    return n;
}

unsigned sockdiag_listeners(void)
{
    return count_lines(is_listener);
}

/* TCP sockets in use, listeners included, by the kernel's own count: two small files. Unknown
 * counts as many: then we look. */
static uint64_t sockets_in_use(void)
{
    static const char *const files[][2] = {{"/proc/net/sockstat", "TCP: inuse"},
                                           {"/proc/net/sockstat6", "TCP6: inuse"}};
    uint64_t total = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct buf b = BUF_INIT(65536);
        bool read = fs_read_file(files[i][0], &b, NULL) == 0;
        total += read ? number_after(b.data, files[i][1], UINT32_MAX) : UINT32_MAX;
        buf_done(&b);
    }
    return total;
}

int sockdiag_kill_remote(unsigned listeners, unsigned *killed, struct err *e)
{
    *killed = 0;
    if (sockets_in_use() <= listeners)
        return 0;
    CLEANUP(cleanup_close)
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot list connections");
    struct buf found = BUF_INIT(8 * 1024 * 1024);
    int r = dump(fd, AF_INET, &found);
    if (r == 0)
        r = dump(fd, AF_INET6, &found);
    if (r == -ENOENT && count_lines(is_remote) == 0)
        r = 0;
    if (r < 0)
        (void)err_set_errno(e, -r, "cannot list connections");
    for (size_t at = 0; r == 0 && at < found.len; at += sizeof(struct inet_diag_msg)) {
        struct inet_diag_msg m;
        memcpy(&m, found.data + at, sizeof m);
        r = destroy(fd, &m);
        if (r < 0)
            (void)err_set_errno(e, -r, "cannot end a connection of the frozen machine");
        else
            ++*killed;
    }
    buf_done(&found);
    return r;
}
