/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/netconf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/boot.h"

static int take_address(const json_t *o, const char *key, char out[16], struct err *e)
{
    const char *s = json_get_str(o, key);
    struct in_addr a;
    if (!s || strlen(s) >= 16 || inet_pton(AF_INET, s, &a) != 1)
        return err_set(e, EINVAL, "network.%s is not an IPv4 address", key);
    memcpy(out, s, strlen(s) + 1);
    return 0;
}

int netconf_parse(const json_t *network, struct netconf *ret, struct err *e)
{
    struct netconf n = {.prefix = (int)json_get_int(network, "prefix", -1)};
    int r = take_address(network, "address", n.address, e);
    if (r == 0)
        r = take_address(network, "gateway", n.gateway, e);
    if (r == 0 && json_get_str(network, "dns"))
        r = take_address(network, "dns", n.dns, e);
    if (r == 0 && (n.prefix < 1 || n.prefix > 32))
        r = err_set(e, EINVAL, "network.prefix is not between 1 and 32");
    if (r == 0)
        *ret = n;
    return r;
}

static void set_sockaddr(struct sockaddr *sa, in_addr_t addr)
{
    const struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = addr};
    memcpy(sa, &in, sizeof in);
}

static int bring_up(int fd, const char *name, struct err *e)
{
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
        return err_set_errno(e, errno, "no network interface %s", name);
    r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
    if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
        return err_set_errno(e, errno, "cannot bring %s up", name);
    return 0;
}

int netconf_loopback(struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a socket");
    return bring_up(fd, "lo", e);
}

int netconf_eth0(const struct netconf *n, struct err *e)
{
    CLEANUP(cleanup_close)
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(e, errno, "cannot make a socket");
    struct ifreq r = {.ifr_name = "eth0"};
    set_sockaddr(&r.ifr_addr, inet_addr(n->address));
    if (ioctl(fd, SIOCSIFADDR, &r) < 0)
        return err_set_errno(e, errno, "cannot give eth0 the address %s", n->address);
    set_sockaddr(&r.ifr_netmask, htonl(~0u << (32 - n->prefix)));
    if (ioctl(fd, SIOCSIFNETMASK, &r) < 0)
        return err_set_errno(e, errno, "cannot give eth0 the prefix %d", n->prefix);
    int up = bring_up(fd, "eth0", e);
    if (up < 0)
        return up;
    char dev[] = "eth0";
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = dev};
    set_sockaddr(&route.rt_dst, INADDR_ANY);
    set_sockaddr(&route.rt_genmask, INADDR_ANY);
    set_sockaddr(&route.rt_gateway, inet_addr(n->gateway));
    if (ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST)
        return err_set_errno(e, errno, "cannot route through %s", n->gateway);
    return 0;
}

int netconf_write_resolv(const struct netconf *n, struct err *e)
{
    char text[64] = "";
    if (n && n->dns[0])
        snprintf(text, sizeof text, "nameserver %s\n", n->dns);
    return boot_lend("open/resolv.conf", text, e);
}
