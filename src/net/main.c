/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinderbox-net: the network of one microVM. It is started by the engine with everything it may
 * use already open, gives up all other rights, and ends with the monitor's stream.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "net/link.h"
#include "net/sandbox.h"

#define POLICY_JSON_MAX (64 * 1024)

struct options {
    int fd, policy_fd, stats_fd;
    bool sandbox;
    const char *resolv_conf;
};

static const char usage[] =
    "usage: tinderbox-net --fd N --policy-fd M [--stats-fd S] [--resolv-conf FILE] [--no-sandbox]\n"
    "  --fd           connected AF_UNIX stream: QEMU's \"-netdev stream\" framing\n"
    "  --policy-fd    egress policy (JSON), read to its end\n"
    "  --stats-fd     memfd that receives the counters\n"
    "  --resolv-conf  where the host's name servers are listed (default /etc/resolv.conf)\n"
    "  --no-sandbox   for tests and debuggers\n";

static int parse_fd(const char *text, int *ret)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < 0 || v > INT_MAX)
        return -EINVAL;
    *ret = (int)v;
    return 0;
}

static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"fd", required_argument, NULL, 'f'},       {"policy-fd", required_argument, NULL, 'p'},
        {"stats-fd", required_argument, NULL, 's'}, {"resolv-conf", required_argument, NULL, 'r'},
        {"no-sandbox", no_argument, NULL, 'n'},     {NULL, 0, NULL, 0}};
    *o = (struct options){-1, -1, -1, true, "/etc/resolv.conf"};
    for (int c, rc = 0; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'f')
            rc = parse_fd(optarg, &o->fd);
        else if (c == 'p')
            rc = parse_fd(optarg, &o->policy_fd);
        else if (c == 's')
            rc = parse_fd(optarg, &o->stats_fd);
        else if (c == 'r')
            o->resolv_conf = optarg;
        else if (c == 'n')
            o->sandbox = false;
        else
            return -EINVAL;
        if (rc < 0)
            return rc;
    }
    return optind == argc && o->fd >= 0 && o->policy_fd >= 0 ? 0 : -EINVAL;
}

static int read_policy(int fd, struct net_policy *ret, struct err *e)
{
    CLEANUP(cleanup_free)
    char *text = malloc(POLICY_JSON_MAX + 1);
    size_t have = 0;
    if (!text)
        return err_set(e, ENOMEM, "out of memory");
    (void)lseek(fd, 0, SEEK_SET); /* a memfd may stand at its end; a pipe refuses, which is fine */
    while (have <= POLICY_JSON_MAX) {
        ssize_t n = read(fd, text + have, POLICY_JSON_MAX + 1 - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(e, errno, "reading the egress policy");
        if (n == 0)
            break;
        have += (size_t)n;
    }
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    if (json_parse(text, have, POLICY_JSON_MAX, &v, e) < 0)
        return err_wrap(e, "egress policy");
    return net_policy_from_json(v, ret, e);
}

static int run(const struct options *o, struct err *e)
{
    static struct net_policy policy;
    struct net_stats *stats = NULL;
    struct net_link *link = NULL;
    int rc = read_policy(o->policy_fd, &policy, e);
    if (rc < 0)
        return rc;
    close(o->policy_fd);
    rc = net_stats_map(o->stats_fd, &stats);
    if (rc < 0)
        return err_set_errno(e, -rc, "mapping the counters");
    if (o->stats_fd >= 0)
        close(o->stats_fd);
    struct net_link_config c = {
        .fd = o->fd, .policy = &policy, .resolv_conf = o->resolv_conf, .stats = stats};
    rc = net_link_new(&c, &link, e);
    if (rc == 0 && o->sandbox) {
        rc = net_sandbox_enter(o->resolv_conf, e);
        if (rc < 0)
            rc = err_wrap(e, "sandbox");
    }
    if (rc == 0)
        rc = net_link_run(link, e);
    net_link_free(link);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o;
    struct err e = {0};
    if (parse_options(argc, argv, &o) < 0) {
        fputs(usage, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* the stack writes to sockets whose peers may be gone */
    if (run(&o, &e) < 0) {
        log_error("net", "%s", e.text);
        return 1;
    }
    return 0;
}
