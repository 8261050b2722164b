/* SPDX-License-Identifier: Apache-2.0 */
#include "net/hostroute.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/be.h"

#define REPLY_MAX 4096 /* one route with all its attributes takes about 150 bytes */

int net_hostroute_open(struct net_hostroute *r, struct err *e)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return err_set_errno(e, errno, "netlink socket");
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (connect(fd, (struct sockaddr *)&kernel, sizeof kernel) < 0) {
        int rc = err_set_errno(e, errno, "netlink connect");
        close(fd);
        return rc;
    }
    *r = (struct net_hostroute){.fd = fd};
    return 0;
}

void net_hostroute_close(struct net_hostroute *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

static int send_request(struct net_hostroute *r, uint32_t dst)
{
    struct {
        struct nlmsghdr h;
        struct rtmsg m;
        struct rtattr a;
        uint8_t address[4];
    } q = {
        .h = {.nlmsg_len = sizeof q,
              .nlmsg_type = RTM_GETROUTE,
              .nlmsg_flags = NLM_F_REQUEST,
              .nlmsg_seq = ++r->seq},
        .m = {.rtm_family = AF_INET, .rtm_dst_len = 32},
        .a = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_DST},
    };
    be32_put(q.address, dst);
    return send(r->fd, &q, sizeof q, 0) == (ssize_t)sizeof q ? 0 : -1;
}

static bool judge(const struct nlmsghdr *h)
{
    if (h->nlmsg_type == RTM_NEWROUTE && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct rtmsg))) {
        const struct rtmsg *m = NLMSG_DATA(h);
        return m->rtm_type == RTN_UNICAST;
    }
    if (h->nlmsg_type == NLMSG_ERROR && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
        const struct nlmsgerr *m = NLMSG_DATA(h);
        /* No way there: the stack finds out the same way and tells the guest. */
        return m->error == -ENETUNREACH || m->error == -EHOSTUNREACH;
    }
    return false;
}

bool net_hostroute_is_elsewhere(struct net_hostroute *r, uint32_t dst)
{
    _Alignas(struct nlmsghdr) char reply[REPLY_MAX];
    if (send_request(r, dst) < 0)
        return false;
    /* The kernel answers within send(); a few stale answers at most can be before ours. */
    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(r->fd, reply, sizeof reply, MSG_DONTWAIT);
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)reply;
        if (n < (ssize_t)sizeof *h || h->nlmsg_len > (size_t)n)
            return false;
        if (h->nlmsg_seq == r->seq)
            return judge(h);
    }
    return false;
}
