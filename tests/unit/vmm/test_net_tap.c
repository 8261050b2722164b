/* SPDX-License-Identifier: Apache-2.0 */
/* The network device over a TAP device, with this kernel's network stack at the other end: in a
 * user and network namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest_driver.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/net_port.h"

#define BIT(n) (UINT64_C(1) << (n))
#define PLAIN (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF))
#define OFFLOADS                                                                           \
    (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | \
     BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6))
enum { RX = 0, TX = 1 };
#define HOST_IP 0x0a090901u  /* 10.9.9.1 */
#define GUEST_IP 0x0a090902u /* 10.9.9.2 */
#define PORT 4711
#define PIECE 1536u /* an rx buffer, as Linux makes them */

static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0, 0, 2};
static char unavailable[200]; /* why there is no TAP device */

struct fixture {
    struct guest g;
    struct virtio_dev *net;
    unsigned flags; /* of the TAP device */
    int tap;        /* borrowed by tests, owned by the device */
    char name[IFNAMSIZ];
    uint8_t host_mac[6];
    uint64_t buffer[GUEST_QUEUE_SIZE]; /* by descriptor */
    struct net_hdr h;                  /* of the frame received last */
    uint8_t frame[70000];
    uint32_t n;
};

static int tap_open(unsigned flags, char name[IFNAMSIZ])
{
    struct ifreq r = {.ifr_flags = (short)flags};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0) {
        snprintf(unavailable, sizeof unavailable, "no TAP device: %s", strerror(errno));
        return -1;
    }
    memcpy(name, r.ifr_name, IFNAMSIZ);
    return fd;
}

static struct sockaddr_in address(uint32_t ip, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
}

static void interface_up(struct fixture *f)
{
    struct ifreq r = {0};
    struct sockaddr_in a = address(HOST_IP, 0), mask = address(0xffffff00u, 0);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(r.ifr_name, f->name, IFNAMSIZ);
    assert_int_equal(ioctl(s, SIOCGIFHWADDR, &r), 0);
    memcpy(f->host_mac, r.ifr_hwaddr.sa_data, 6);
    memcpy(&r.ifr_addr, &a, sizeof a);
    assert_int_equal(ioctl(s, SIOCSIFADDR, &r), 0);
    memcpy(&r.ifr_netmask, &mask, sizeof mask);
    assert_int_equal(ioctl(s, SIOCSIFNETMASK, &r), 0);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    assert_int_equal(ioctl(s, SIOCSIFFLAGS, &r), 0);
    close(s);
}

static int make(void **state, unsigned flags)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err e = {0};
    *state = f;
    f->flags = IFF_TAP | IFF_NO_PI | flags;
    f->tap = *unavailable ? -1 : tap_open(f->flags, f->name);
    if (f->tap < 0)
        return 0;
    interface_up(f);
    guest_init(&f->g, 16 << 20);
    struct net_dev_config c = {.backend = NET_BACKEND_TAP, .fd = f->tap};
    memcpy(c.mac, guest_mac, 6);
    assert_int_equal(net_dev_new(guest_place(&f->g, 2), &c, &f->net, &e), 0);
    return 0;
}

static int set_up(void **state)
{
    return make(state, IFF_VNET_HDR);
}

static int set_up_bare(void **state)
{
    return make(state, 0);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    virtio_free(f->net);
    if (f->tap >= 0)
        guest_done(&f->g);
    free(f);
    return 0;
}

static struct fixture *available(void **state)
{
    struct fixture *f = *state;
    if (!f->net) {
        print_message("%s\n", unavailable);
        skip();
    }
    return f;
}

static void rx_give(struct fixture *f)
{
    uint64_t at = guest_alloc(&f->g, PIECE, 1);
    uint16_t head = guest_add(&f->g, RX, &(struct guest_buf){at, PIECE, true}, 1);
    f->buffer[head] = at;
    guest_kick(&f->g, RX);
}

static void start(struct fixture *f, uint64_t features)
{
    guest_start(&f->g, f->net, features);
    for (unsigned i = 0; i < GUEST_QUEUE_SIZE; i++)
        rx_give(f);
}

/* ---- frames ---- */

static uint32_t sum(uint32_t s, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        s += i & 1 ? b[i] : (uint32_t)b[i] << 8;
    return s;
}

static uint16_t fold(uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)s;
}

struct packet {
    struct ethhdr eth;
    struct iphdr ip;
    union {
        struct udphdr udp;
        struct tcphdr tcp;
    } l4;
    uint8_t rest[9000];
} __attribute__((packed));

/* Of the pseudo header of the n bytes behind the IP header. */
static uint16_t pseudo(const struct packet *p, uint16_t n)
{
    return fold(sum(0, (const uint8_t *)p + offsetof(struct packet, ip.saddr), 8) + p->ip.protocol +
                n);
}

/* Sends the first n bytes behind the header h. */
static void transmit(struct fixture *f, const struct net_hdr *h, const void *p, uint32_t n)
{
    uint16_t head;
    uint32_t len;
    uint64_t at = guest_alloc(&f->g, NET_HDR_BYTES + n, 1);
    memcpy(guest_at(&f->g, at, NET_HDR_BYTES), h, NET_HDR_BYTES);
    memcpy(guest_at(&f->g, at + NET_HDR_BYTES, n), p, n);
    guest_add(&f->g, TX, &(struct guest_buf){at, NET_HDR_BYTES + n, false}, 1);
    guest_kick(&f->g, TX);
    guest_run(&f->g);
    assert_true(guest_used(&f->g, TX, &head, &len));
}

/* From the guest to the host, header and payload of layer 4 being n bytes; its checksum is left to
 * the device. gso: the payload of each segment, or 0. */
static void transmit_ip(struct fixture *f, struct packet *p, uint8_t protocol, uint16_t n,
                        uint16_t gso)
{
    struct net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
    memcpy(p->eth.h_dest, f->host_mac, 6);
    memcpy(p->eth.h_source, guest_mac, 6);
    p->eth.h_proto = htons(ETH_P_IP);
    p->ip = (struct iphdr){.version = 4,
                           .ihl = 5,
                           .ttl = 64,
                           .protocol = protocol,
                           .tot_len = htons((uint16_t)(n + sizeof p->ip)),
                           .saddr = htonl(GUEST_IP),
                           .daddr = htonl(HOST_IP)};
    struct iphdr ip = p->ip;
    p->ip.check = htons((uint16_t)~fold(sum(0, &ip, sizeof ip)));
    uint16_t partial = htons(pseudo(p, n)), at = protocol == IPPROTO_TCP ? 16 : 6;
    memcpy((uint8_t *)&p->l4 + at, &partial, 2);
    le16_put(&h.csum_start, sizeof p->eth + sizeof p->ip);
    le16_put(&h.csum_offset, at);
    if (gso) {
        h.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        le16_put(&h.gso_size, gso);
        le16_put(&h.hdr_len, sizeof p->eth + sizeof p->ip + sizeof p->l4.tcp);
    }
    transmit(f, &h, p, (uint32_t)(sizeof p->eth + sizeof p->ip) + n);
}

/* The next frame there is, put together from its buffers, which are given again. */
static bool receive(struct fixture *f)
{
    uint16_t head;
    uint32_t len, buffers = 1;
    guest_run(&f->g);
    f->n = 0;
    for (uint32_t i = 0; i < buffers; i++) {
        if (!guest_used(&f->g, RX, &head, &len)) {
            assert_int_equal(i, 0); /* all at once, or none */
            return false;
        }
        const uint8_t *p = guest_at(&f->g, f->buffer[head], len);
        uint32_t skip = i ? 0 : NET_HDR_BYTES;
        memcpy(&f->h, p, skip);
        buffers = le16_get(&f->h.num_buffers);
        memcpy(f->frame + f->n, p + skip, len - skip);
        f->n += len - skip;
        rx_give(f);
    }
    return true;
}

/* Passes over what the kernel sends of its own accord (IPv6). */
static const struct packet *expect_ip(struct fixture *f, uint8_t protocol)
{
    const struct packet *p = (const void *)f->frame;
    for (unsigned tries = 0; tries < 50; tries++) {
        if (!receive(f))
            usleep(1000); /* the stack's own threads */
        else if (p->eth.h_proto == htons(ETH_P_IP) && p->ip.protocol == protocol)
            return p;
    }
    fail_msg("no such packet came");
    return NULL;
}

/* Asks for the host's address, by which the host learns the guest's. */
static void arp(struct fixture *f)
{
    struct {
        struct ethhdr eth;
        struct ether_arp a;
        uint8_t pad[18];
    } p = {.eth.h_proto = htons(ETH_P_ARP),
           .a.ea_hdr = {htons(1), htons(ETH_P_IP), 6, 4, htons(ARPOP_REQUEST)}};
    uint32_t guest = htonl(GUEST_IP), host = htonl(HOST_IP);
    memset(p.eth.h_dest, 0xff, 6);
    memcpy(p.eth.h_source, guest_mac, 6);
    memcpy(p.a.arp_sha, guest_mac, 6);
    memcpy(p.a.arp_spa, &guest, 4);
    memcpy(p.a.arp_tpa, &host, 4);
    transmit(f, &(struct net_hdr){0}, &p, sizeof p);
    for (unsigned tries = 0; tries < 50; tries++) {
        if (!receive(f))
            usleep(1000);
        else if (((const struct ethhdr *)f->frame)->h_proto == htons(ETH_P_ARP)) {
            const struct ether_arp *a = (const void *)(f->frame + sizeof(struct ethhdr));
            assert_int_equal(ntohs(a->ea_hdr.ar_op), ARPOP_REPLY);
            assert_memory_equal(a->arp_sha, f->host_mac, 6);
            return;
        }
    }
    fail_msg("no answer");
}

static int udp_socket(void)
{
    struct sockaddr_in a = address(HOST_IP, PORT);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(s, (const struct sockaddr *)&a, sizeof a), 0);
    return s;
}

static void udp_to_guest(int s, const void *p, size_t n)
{
    struct sockaddr_in a = address(GUEST_IP, PORT);
    assert_int_equal(sendto(s, p, n, 0, (const struct sockaddr *)&a, sizeof a), (ssize_t)n);
}

static uint32_t offered(struct fixture *f)
{
    f->g.dev = f->net;
    guest_write(&f->g, R_DEVICE_FEATURES_SEL, 0);
    return guest_read(&f->g, R_DEVICE_FEATURES) & ~(uint32_t)(GUEST_F_EVENT_IDX | GUEST_F_INDIRECT);
}

/* Frames without offloads: over a device without headers, and over one with them when the driver
 * did not negotiate any. */
static void plain(struct fixture *f)
{
    char text[1000] = "from the host";
    start(f, PLAIN);
    arp(f);
    int s = udp_socket();
    udp_to_guest(s, text, sizeof text);
    const struct packet *p = expect_ip(f, IPPROTO_UDP);
    uint16_t length = (uint16_t)(sizeof p->l4.udp + sizeof text);
    assert_int_equal(f->h.flags, 0);
    assert_int_equal(f->h.gso_type, 0);
    assert_int_equal(fold(sum(pseudo(p, length), &p->l4, length)), 0xffff);
    assert_string_equal((const char *)p + 42, text);
    assert_int_equal(net_dev_dropped(f->net), 0);
    close(s);
}

static void test_bare(void **state)
{
    struct fixture *f = available(state);
    assert_int_equal(offered(f), PLAIN);
    plain(f);
}

static void test_header_unused(void **state)
{
    struct fixture *f = available(state);
    assert_int_equal(offered(f), PLAIN | OFFLOADS);
    plain(f);
}

static void test_checksums(void **state)
{
    struct fixture *f = available(state);
    static struct packet out;
    char text[100] = "";
    start(f, PLAIN | OFFLOADS);
    arp(f);
    int s = udp_socket();
    out.l4.udp = (struct udphdr){
        .source = htons(PORT), .dest = htons(PORT), .len = htons(sizeof out.l4.udp + 100)};
    memcpy((uint8_t *)&out.l4 + 8, "from the guest", 15);
    transmit_ip(f, &out, IPPROTO_UDP, sizeof out.l4.udp + 100, 0);
    assert_int_equal(recv(s, text, sizeof text, 0), 100);
    assert_string_equal(text, "from the guest");
    udp_to_guest(s, text, sizeof text);
    const struct packet *p = expect_ip(f, IPPROTO_UDP);
    assert_int_equal(f->h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_int_equal(le16_get(&f->h.csum_start), 34);
    assert_int_equal(le16_get(&f->h.csum_offset), 6);
    assert_string_equal((const char *)p + 42, "from the guest");
    close(s);
}

static void tcp_send(struct fixture *f, const struct packet *got, bool syn, uint16_t payload,
                     uint16_t gso)
{
    static struct packet p;
    static uint32_t next = 1000;
    uint32_t took = (got->l4.tcp.syn ? 1u : 0u) + (uint32_t)ntohs(got->ip.tot_len) - 20u -
                    got->l4.tcp.doff * 4u;
    p.l4.tcp = (struct tcphdr){.source = got->l4.tcp.dest,
                               .dest = got->l4.tcp.source,
                               .seq = htonl(next),
                               .ack_seq = htonl(ntohl(got->l4.tcp.seq) + took),
                               .doff = 5,
                               .ack = 1,
                               .syn = syn,
                               .window = htons(65535)};
    memset((uint8_t *)&p.l4 + 20, 'g', payload);
    next += payload + (syn ? 1u : 0u);
    transmit_ip(f, &p, IPPROTO_TCP, (uint16_t)(20 + payload), gso);
}

/* A TCP connection by hand. Without options its segments are 536 bytes; both sides send more at a
 * time and leave the cutting to the other. */
static void test_segmentation(void **state)
{
    struct fixture *f = available(state);
    struct sockaddr_in a = address(GUEST_IP, PORT);
    static char text[9000];
    start(f, PLAIN | OFFLOADS);
    arp(f);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(s, (const struct sockaddr *)&a, sizeof a), -1);
    assert_int_equal(errno, EINPROGRESS);
    struct packet got = *expect_ip(f, IPPROTO_TCP);
    assert_true(got.l4.tcp.syn);
    tcp_send(f, &got, true, 0, 0);
    got = *expect_ip(f, IPPROTO_TCP);
    assert_false(got.l4.tcp.syn);
    memset(text, 'h', sizeof text);
    assert_int_equal(send(s, text, 4000, 0), 4000);
    got = *expect_ip(f, IPPROTO_TCP);
    assert_int_equal(f->h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    assert_int_equal(le16_get(&f->h.gso_size), 536);
    assert_true(f->n > PIECE && le16_get(&f->h.num_buffers) > 1);
    for (uint32_t i = 54; i < f->n; i++)
        assert_int_equal(f->frame[i], 'h');
    tcp_send(f, &got, false, 8000, 1000);
    ssize_t have = 0;
    for (unsigned tries = 0; have < 8000 && tries < 50; tries++) {
        ssize_t r = recv(s, text + have, sizeof text - (size_t)have, 0);
        have += r > 0 ? r : 0;
        if (r < 0)
            usleep(1000);
    }
    assert_int_equal(have, 8000);
    for (unsigned i = 0; i < 8000; i++)
        assert_int_equal(text[i], 'g');
    assert_int_equal(net_dev_dropped(f->net), 0);
    close(s);
}

/* What the kernel refuses is this frame's end, not the device's. */
static void test_refused(void **state)
{
    struct fixture *f = available(state);
    static uint8_t frame[66000];
    struct net_hdr nonsense = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
    start(f, PLAIN | OFFLOADS);
    le16_put(&nonsense.csum_start, 60000);
    transmit(f, &nonsense, frame, 60);
    transmit(f, &(struct net_hdr){0}, frame, NET_TAP_LONGEST + 1);
    transmit(f, &(struct net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_TCPV4}, frame, 2000);
    assert_int_equal(net_dev_dropped(f->net), 3);
    arp(f);
}

static void delete_interface(const char *name)
{
    struct {
        struct nlmsghdr n;
        struct ifinfomsg i;
    } m = {.n = {.nlmsg_len = sizeof m,
                 .nlmsg_type = RTM_DELLINK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
           .i.ifi_index = (int)if_nametoindex(name)};
    char answer[4096];
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    assert_int_equal(send(s, &m, sizeof m, 0), sizeof m);
    assert_true(recv(s, answer, sizeof answer, 0) > 0);
    close(s);
}

static void test_deleted(void **state)
{
    struct fixture *f = available(state);
    struct le16 status;
    start(f, PLAIN | OFFLOADS);
    delete_interface(f->name);
    guest_run(&f->g);
    assert_int_equal(guest_run(&f->g), 0);
    guest_config(&f->g, 6, &status, 2);
    assert_int_equal(le16_get(&status), 0);
}

static void test_not_a_tap(void **state)
{
    struct fixture *f = available(state);
    struct err e = {0};
    char name[IFNAMSIZ];
    struct virtio_dev *n;
    struct net_dev_config c = {.backend = NET_BACKEND_TAP};
    c.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(net_dev_new(guest_place(&f->g, 2), &c, &n, &e) < 0);
    close(c.fd);
    c.fd = tap_open(IFF_TUN | IFF_NO_PI, name);
    assert_int_equal(net_dev_new(guest_place(&f->g, 2), &c, &n, &e), -EINVAL);
    close(c.fd);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bare, set_up_bare, tear_down),
        TEST(test_header_unused),
        TEST(test_checksums),
        TEST(test_segmentation),
        TEST(test_refused),
        TEST(test_deleted),
        TEST(test_not_a_tap),
    };
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        snprintf(unavailable, sizeof unavailable, "no network namespace: %s", strerror(errno));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
