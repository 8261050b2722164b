/* SPDX-License-Identifier: Apache-2.0 */
/* Frame parser, filter verdicts, our own frames, and the stream's framing. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest.h"
#include "net/be.h"
#include "net/deframe.h"
#include "net/filter.h"
#include "net/reply.h"

#define WORLD IP(198, 51, 100, 2)
#define OWN IP(198, 51, 100, 1)

static bool elsewhere(void *arg, uint32_t dst)
{
    ++*(unsigned *)arg;
    return dst != OWN;
}

struct fixture {
    struct net_policy policy;
    struct net_filter filter;
    unsigned asked;
    struct net_frame frame;
    enum net_reason reason;
};

static struct fixture *fixture_default(void)
{
    static struct fixture f;
    memset(&f, 0, sizeof f);
    net_policy_default(&f.policy);
    net_filter_init(&f.filter, &f.policy);
    f.filter.is_elsewhere = elsewhere;
    f.filter.arg = &f.asked;
    return &f;
}

static enum net_verdict judge(struct fixture *f, const uint8_t *p, size_t n)
{
    return net_filter_frame(&f->filter, p, n, &f->frame, &f->reason);
}

static void expect_drop(struct fixture *f, const uint8_t *p, size_t n, enum net_reason why)
{
    enum net_verdict v = judge(f, p, n);
    if (v != NET_DROP || f->reason != why)
        fail_msg("verdict %d, '%s' instead of dropped, '%s'", v, net_reason_name(f->reason),
                 net_reason_name(why));
}

static void parses_tcp(void **state)
{
    uint8_t p[NET_FRAME_MAX];
    struct net_frame f;
    size_t n = guest_tcp(p, WORLD, 1234, 443, NET_TCP_SYN, 7, 9, "abc", 3);
    (void)state;
    assert_int_equal(net_frame_parse(p, n, &f), NET_OK);
    assert_int_equal(f.kind, NET_TCP);
    assert_int_equal(f.src, GUEST_IP);
    assert_int_equal(f.dst, WORLD);
    assert_int_equal(f.src_port, 1234);
    assert_int_equal(f.dst_port, 443);
    assert_int_equal(f.tcp_flags, NET_TCP_SYN);
    assert_int_equal(f.tcp_seq, 7);
    assert_int_equal(f.payload_len, 3);
    assert_memory_equal(f.payload, "abc", 3);
    /* Ethernet padding is not payload. */
    memset(p + n, 0xee, 20);
    assert_int_equal(net_frame_parse(p, n + 20, &f), NET_OK);
    assert_int_equal(f.payload_len, 3);
}

/* No prefix of a good frame is a good frame, and none is read past its end. */
static void refuses_truncation(void **state)
{
    uint8_t p[NET_FRAME_MAX];
    struct net_frame f;
    (void)state;
    size_t lengths[] = {guest_tcp(p, WORLD, 1, 2, 0, 0, 0, "abcd", 4),
                        guest_udp(p, WORLD, 1, 2, "x", 1), guest_ping(p, WORLD),
                        guest_arp(p, GATEWAY_IP)};
    for (size_t kind = 0; kind < ARRAY_LEN(lengths); kind++)
        for (size_t n = 0; n < lengths[kind]; n++) {
            switch (kind) {
            case 0:
                guest_tcp(p, WORLD, 1, 2, 0, 0, 0, "abcd", 4);
                break;
            case 1:
                guest_udp(p, WORLD, 1, 2, "x", 1);
                break;
            case 2:
                guest_ping(p, WORLD);
                break;
            default:
                guest_arp(p, GATEWAY_IP);
            }
            uint8_t *exact = malloc(n ? n : 1);
            assert_non_null(exact);
            memcpy(exact, p, n);
            assert_int_equal(net_frame_parse(exact, n, &f), NET_MALFORMED);
            free(exact);
        }
}

static void set_total(uint8_t *p, unsigned total)
{
    be16_put(p + 16, total);
    guest_fix_ip(p);
}

static void refuses_bent_headers(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX];
    size_t n;
    (void)state;
#define FRESH() (n = guest_tcp(p, WORLD, 1234, 443, NET_TCP_SYN, 7, 9, NULL, 0))
    FRESH(), p[14] = 0x65; /* version 6 inside an IPv4 frame */
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), p[14] = 0x44; /* header of 16 bytes */
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), p[24] ^= 1; /* header checksum */
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), set_total(p, 41);
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), set_total(p, 19);
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), p[46] = 4 << 4; /* TCP header of 16 bytes */
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), p[46] = 6 << 4; /* TCP header behind the end */
    expect_drop(f, p, n, NET_MALFORMED);
    FRESH(), p[50] ^= 1; /* TCP checksum */
    expect_drop(f, p, n, NET_MALFORMED);
    n = guest_tcp(p, WORLD, 1234, 443, NET_TCP_SYN | NET_TCP_FIN, 7, 9, NULL, 0);
    expect_drop(f, p, n, NET_MALFORMED);
    n = guest_tcp(p, WORLD, 0, 443, NET_TCP_SYN, 7, 9, NULL, 0);
    expect_drop(f, p, n, NET_MALFORMED);
    n = guest_udp(p, WORLD, 1, 2, "abcd", 4), be16_put(p + 38, 11); /* UDP length too short */
    expect_drop(f, p, n, NET_MALFORMED);
    n = guest_ping(p, WORLD), p[40] ^= 1;
    expect_drop(f, p, n, NET_MALFORMED);
#undef FRESH
}

static void names_what_it_drops(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX + 100] = {0};
    size_t n;
    (void)state;
    for (unsigned bits = 1; bits < 0x4000; bits <<= 1) { /* each offset bit, and "more" */
        n = guest_tcp(p, WORLD, 1, 2, NET_TCP_SYN, 0, 0, NULL, 0);
        be16_put(p + 20, bits);
        guest_fix_ip(p);
        expect_drop(f, p, n, NET_FRAGMENT);
    }
    n = guest_tcp(p, WORLD, 1, 2, NET_TCP_SYN, 0, 0, "12345678", 8);
    p[14] = 0x46; /* an option in front of the segment */
    be16_put(p + 24, 0);
    be16_put(p + 24, net_sum_end(net_sum_add(0, p + 14, 24)));
    expect_drop(f, p, n, NET_OPTIONS);
    n = guest_ip(p, GUEST_IP, WORLD, IPPROTO_SCTP, "0123456789ab", 12);
    expect_drop(f, p, n, NET_PROTOCOL);
    n = guest_ping(p, WORLD), p[34] = 0, p[36] += 8; /* an echo reply */
    expect_drop(f, p, n, NET_PROTOCOL);
    n = guest_arp(p, GATEWAY_IP), p[12] = 0x86, p[13] = 0xdd;
    expect_drop(f, p, n, NET_ETHERTYPE);
    n = guest_arp(p, GATEWAY_IP), p[12] = 0x81, p[13] = 0; /* a VLAN tag hides the rest */
    expect_drop(f, p, n, NET_ETHERTYPE);
    expect_drop(f, p, NET_FRAME_MAX + 1, NET_OVERSIZE);
}

static void refuses_spoofing(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX], q[40];
    size_t n = guest_tcp(p, WORLD, 1, 443, NET_TCP_SYN, 0, 0, NULL, 0);
    (void)state;
    p[6] ^= 2;
    expect_drop(f, p, n, NET_SPOOFED);
    be32_put(q, 0); /* a UDP datagram without checksum from the neighbour */
    be16_put(q, 1), be16_put(q + 2, 53), be16_put(q + 4, 8), be16_put(q + 6, 0);
    n = guest_ip(p, GUEST_IP + 1, DNS_IP, IPPROTO_UDP, q, 8);
    expect_drop(f, p, n, NET_SPOOFED);
    n = guest_arp(p, GATEWAY_IP), p[27] ^= 1; /* sender hardware address */
    expect_drop(f, p, n, NET_SPOOFED);
    n = guest_arp(p, GATEWAY_IP), p[31] ^= 1; /* sender address */
    expect_drop(f, p, n, NET_SPOOFED);
}

static void filters_arp(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX];
    (void)state;
    assert_int_equal(judge(f, p, guest_arp(p, GATEWAY_IP)), NET_PASS);
    assert_int_equal(judge(f, p, guest_arp(p, DNS_IP)), NET_PASS);
    assert_int_equal(judge(f, p, guest_arp(p, GUEST_IP)), NET_PASS);
    expect_drop(f, p, guest_arp(p, IP(10, 0, 2, 99)), NET_DENIED_POLICY);
    size_t n = guest_arp(p, GATEWAY_IP);
    p[21] = 2;
    assert_int_equal(judge(f, p, n), NET_PASS);
    p[21] = 8; /* inverse ARP */
    expect_drop(f, p, n, NET_MALFORMED);
    assert_int_equal(judge(f, p, net_reply_guest_arp(&f->filter, p)), NET_PASS);
}

static void asks_the_kernel_for_new_flows(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX];
    (void)state;
    assert_int_equal(judge(f, p, guest_tcp(p, WORLD, 1, 2, NET_TCP_SYN, 0, 0, NULL, 0)), NET_PASS);
    assert_int_equal(f->asked, 1);
    assert_int_equal(judge(f, p, guest_tcp(p, WORLD, 1, 2, NET_TCP_ACK, 0, 0, NULL, 0)), NET_PASS);
    assert_int_equal(f->asked, 1);
    assert_int_equal(judge(f, p, guest_tcp(p, OWN, 1, 2, NET_TCP_SYN, 0, 0, NULL, 0)), NET_REFUSE);
    assert_int_equal(f->reason, NET_DENIED_HOST);
    f->policy.default_action = NET_ALLOW;
    assert_int_equal(judge(f, p, guest_udp(p, OWN, 1, 2, NULL, 0)), NET_REFUSE);
    assert_int_equal(judge(f, p, guest_ping(p, OWN)), NET_REFUSE);
    assert_int_equal(judge(f, p, guest_udp(p, WORLD, 1, 2, NULL, 0)), NET_PASS);
    assert_int_equal(judge(f, p, guest_ping(p, WORLD)), NET_PASS);
    assert_int_equal(f->asked, 6);
}

static void sends_dns_to_the_resolver(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX];
    (void)state;
    assert_int_equal(judge(f, p, guest_udp(p, DNS_IP, 9, 53, "q", 1)), NET_TO_RESOLVER);
    assert_int_equal(f->frame.payload_len, 1);
    assert_int_equal(judge(f, p, guest_tcp(p, DNS_IP, 9, 53, NET_TCP_SYN, 0, 0, NULL, 0)),
                     NET_TO_RESOLVER_TCP);
    assert_int_equal(judge(f, p, guest_udp(p, DNS_IP, 9, 54, "q", 1)), NET_REFUSE);
    assert_int_equal(judge(f, p, guest_ping(p, DNS_IP)), NET_REFUSE);
    f->policy.dns = false;
    f->policy.default_action = NET_ALLOW;
    assert_int_equal(judge(f, p, guest_udp(p, DNS_IP, 9, 53, "q", 1)), NET_REFUSE);
    assert_int_equal(judge(f, p, guest_udp(p, WORLD, 9, 53, "q", 1)), NET_PASS);
}

static void keeps_silent_where_it_must(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX];
    (void)state;
    expect_drop(f, p, guest_udp(p, IP(255, 255, 255, 255), 68, 67, NULL, 0), NET_DENIED_POLICY);
    expect_drop(f, p, guest_udp(p, IP(224, 0, 0, 251), 5353, 5353, NULL, 0), NET_DENIED_POLICY);
    expect_drop(f, p, guest_tcp(p, IP(0, 1, 2, 3), 1, 2, NET_TCP_SYN, 0, 0, NULL, 0),
                NET_DENIED_POLICY);
    expect_drop(f, p, guest_tcp(p, GATEWAY_IP, 1, 2, NET_TCP_RST, 0, 0, NULL, 0),
                NET_DENIED_POLICY);
}

/* Our own frames pass the same strict parser, with the values the RFCs ask for. */
static void builds_resets(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t p[NET_FRAME_MAX], out[NET_FRAME_MAX];
    struct net_frame r;
    (void)state;
    judge(f, p, guest_tcp(p, GATEWAY_IP, 1234, 22, NET_TCP_SYN, 0xffffffff, 0, NULL, 0));
    size_t n = net_reply_refusal(&f->filter, &f->frame, out);
    assert_int_equal(net_frame_parse(out, n, &r), NET_OK);
    assert_int_equal(r.src, GATEWAY_IP);
    assert_int_equal(r.dst, GUEST_IP);
    assert_int_equal(r.src_port, 22);
    assert_int_equal(r.dst_port, 1234);
    assert_int_equal(r.tcp_flags, NET_TCP_RST | NET_TCP_ACK);
    assert_int_equal(r.tcp_ack, 0); /* one past the SYN, wrapped */
    judge(f, p, guest_tcp(p, GATEWAY_IP, 1234, 22, NET_TCP_ACK, 5, 77, "xy", 2));
    n = net_reply_refusal(&f->filter, &f->frame, out);
    assert_int_equal(net_frame_parse(out, n, &r), NET_OK);
    assert_int_equal(r.tcp_flags, NET_TCP_RST);
    assert_int_equal(r.tcp_seq, 77);
}

static void builds_datagrams(void **state)
{
    struct fixture *f = fixture_default();
    uint8_t out[NET_FRAME_MAX], data[NET_UDP_PAYLOAD_MAX];
    struct net_frame r;
    (void)state;
    memset(data, 0x5a, sizeof data);
    for (size_t len = 0; len <= sizeof data; len += 31) {
        size_t n = net_reply_dns(&f->filter, 4321, data, len, out);
        assert_int_equal(net_frame_parse(out, n, &r), NET_OK);
        assert_int_equal(r.src, DNS_IP);
        assert_int_equal(r.dst_port, 4321);
        assert_int_equal(r.payload_len, len);
    }
    assert_int_equal(net_reply_dns(&f->filter, 1, data, sizeof data, out), NET_FRAME_MAX);
}

/* ---- the stream ------------------------------------------------------------------------------ */

struct seen {
    size_t lengths[16], n;
    uint8_t first[16];
};

static void see(void *arg, const uint8_t *p, size_t n)
{
    struct seen *s = arg;
    s->first[s->n] = p && n ? p[0] : 0;
    s->lengths[s->n++] = p ? n : SIZE_MAX;
}

static void deframes_at_any_cut(void **state)
{
    static const size_t lengths[] = {60, 0, NET_FRAME_MAX, NET_FRAME_MAX + 1, 14};
    static uint8_t stream[8192];
    size_t total = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        be32_put(stream + total, (uint32_t)lengths[i]);
        memset(stream + total + 4, (int)i + 1, lengths[i]);
        total += 4 + lengths[i];
    }
    for (size_t step = 1; step < 2000; step += 1 + step / 3) {
        struct net_deframer d = {0};
        struct seen s = {0};
        for (size_t at = 0; at < total; at += step) {
            size_t n = total - at < step ? total - at : step;
            assert_int_equal(net_deframer_feed(&d, stream + at, n, see, &s), 0);
        }
        assert_int_equal(s.n, ARRAY_LEN(lengths));
        for (size_t i = 0; i < s.n; i++) {
            assert_int_equal(s.lengths[i], i == 3 ? SIZE_MAX : lengths[i]);
            assert_int_equal(s.first[i], i == 1 || i == 3 ? 0 : i + 1);
        }
    }
}

static void deframer_gives_up(void **state)
{
    static const uint8_t last[] = {0, 1, 0x10, 0}, absurd[] = {0, 1, 0x10, 1};
    struct net_deframer d = {0};
    struct seen s = {0};
    (void)state;
    assert_int_equal(net_deframer_feed(&d, last, 4, see, &s), 0);
    d = (struct net_deframer){0};
    assert_true(net_deframer_feed(&d, absurd, 4, see, &s) < 0);
    assert_int_equal(s.n, 0);
}

static void queue_is_bounded(void **state)
{
    uint8_t frame[NET_FRAME_MAX] = {0};
    struct net_outq q;
    size_t added = 0, taken = 0;
    (void)state;
    assert_int_equal(net_outq_init(&q), 0);
    for (int round = 0; round < 5; round++) {
        for (; net_outq_add(&q, frame, sizeof frame); added++)
            be32_put(frame, (uint32_t)added + 1);
        assert_true(net_outq_len(&q) <= NET_OUTQ_CAP);
        assert_true(net_outq_len(&q) > NET_OUTQ_CAP - sizeof frame - 4);
        for (int i = 0; i < 100; i++, taken++) { /* in pieces, in order, across the wrap */
            assert_int_equal(be32_get(net_outq_head(&q)), sizeof frame);
            net_outq_consume(&q, 4);
            assert_int_equal(be32_get(net_outq_head(&q)), taken);
            net_outq_consume(&q, sizeof frame);
        }
    }
    assert_false(net_outq_add(&q, frame, SIZE_MAX));
    net_outq_consume(&q, net_outq_len(&q));
    assert_true(net_outq_add(&q, frame, 10));
    net_outq_done(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_tcp),
        cmocka_unit_test(refuses_truncation),
        cmocka_unit_test(refuses_bent_headers),
        cmocka_unit_test(names_what_it_drops),
        cmocka_unit_test(refuses_spoofing),
        cmocka_unit_test(filters_arp),
        cmocka_unit_test(asks_the_kernel_for_new_flows),
        cmocka_unit_test(sends_dns_to_the_resolver),
        cmocka_unit_test(keeps_silent_where_it_must),
        cmocka_unit_test(builds_resets),
        cmocka_unit_test(builds_datagrams),
        cmocka_unit_test(deframes_at_any_cut),
        cmocka_unit_test(deframer_gives_up),
        cmocka_unit_test(queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
