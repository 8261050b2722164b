/* SPDX-License-Identifier: Apache-2.0 */
/* DNS codec, resolv.conf, counters, and the kernel's answer about its own addresses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest.h"
#include "net/be.h"
#include "net/dns.h"
#include "net/hostroute.h"
#include "net/resolvconf.h"
#include "net/stats.h"

static size_t with_opt(uint8_t *p, size_t n, unsigned size, unsigned flags, unsigned options)
{
    be16_put(p + 10, 1);
    memset(p + n, 0, 11 + options);
    be16_put(p + n + 1, DNS_TYPE_OPT);
    be16_put(p + n + 3, size);
    be16_put(p + n + 7, flags);
    be16_put(p + n + 9, options);
    return n + 11 + options;
}

static void parses_queries(void **state)
{
    uint8_t p[DNS_QUERY_MAX];
    struct dns_query q;
    char text[DNS_NAME_MAX + 1];
    size_t n = guest_dns_query(p, 0x1234, "www.example.com", DNS_TYPE_A);
    (void)state;
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.type, DNS_TYPE_A);
    assert_int_equal(q.class_, 1);
    assert_true(q.rd && !q.ad && !q.cd && !q.edns);
    assert_int_equal(q.udp_size, 512);
    dns_name_text(&q, text);
    assert_string_equal(text, "www.example.com.");
    n = with_opt(p, n, 1400, 0x8000, 12); /* options (a cookie) are not passed on */
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    assert_true(q.edns && q.dnssec_ok);
    assert_int_equal(q.udp_size, 1400);
    n = guest_dns_query(p, 1, "", DNS_TYPE_A); /* the root */
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    assert_int_equal(q.name_len, 1);
}

static void refuses_bad_queries(void **state)
{
    uint8_t p[DNS_QUERY_MAX + 100];
    struct dns_query q;
    size_t n = guest_dns_query(p, 1, "a.b", DNS_TYPE_A);
    (void)state;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(dns_parse_query(p, i, &q), i < 12 ? -EBADMSG : DNS_FORMERR);
    p[n] = 0;
    assert_int_equal(dns_parse_query(p, n + 1, &q), DNS_FORMERR); /* bytes behind the end */
    p[2] |= 0x80;
    assert_int_equal(dns_parse_query(p, n, &q), -EBADMSG); /* a response */
    p[2] = 0x29;
    assert_int_equal(dns_parse_query(p, n, &q), DNS_NOTIMP); /* an update */
    p[2] = 1;
    for (int count = 5; count <= 9; count += 2) { /* two questions, an answer, an authority */
        p[count]++;
        assert_int_equal(dns_parse_query(p, n, &q), DNS_FORMERR);
        p[count]--;
    }
    p[12] = 0xc0; /* compression in a question */
    assert_int_equal(dns_parse_query(p, n, &q), DNS_FORMERR);
    p[12] = 64;
    assert_int_equal(dns_parse_query(p, n, &q), DNS_FORMERR);
    /* 255 bytes are a name, 256 are not. */
    memset(p + 12, 0, sizeof p - 12);
    for (int i = 0; i < 4; i++)
        p[12 + 63 * i] = 62;
    p[12 + 252] = 1;
    be16_put(p + 12 + 255, 1), be16_put(p + 12 + 257, 1);
    assert_int_equal(dns_parse_query(p, 12 + 259, &q), 0);
    assert_int_equal(q.name_len, 255);
    p[12 + 252] = 2;
    assert_int_equal(dns_parse_query(p, 12 + 260, &q), DNS_FORMERR);
    /* OPT records. */
    n = with_opt(p, guest_dns_query(p, 1, "a.b", DNS_TYPE_A), 100, 0, 0);
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    assert_int_equal(q.udp_size, 512);
    assert_int_equal(dns_parse_query(p, n - 1, &q), DNS_FORMERR);
    p[n - 1] = 1; /* an option that is not there */
    assert_int_equal(dns_parse_query(p, n, &q), DNS_FORMERR);
}

static void answers_locally(void **state)
{
    static const struct {
        uint16_t type, class_;
        int wanted;
    } rows[] = {{DNS_TYPE_A, 1, -1},
                {16, 1, -1},
                {65, 1, -1},
                {DNS_TYPE_AAAA, 1, DNS_NOERROR},
                {252, 1, DNS_REFUSED},
                {251, 1, DNS_REFUSED},
                {DNS_TYPE_A, 3, DNS_REFUSED},
                {0, 1, DNS_FORMERR},
                {41, 1, DNS_FORMERR}};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct dns_query q = {.type = rows[i].type, .class_ = rows[i].class_};
        assert_int_equal(dns_local_answer(&q), rows[i].wanted);
    }
}

static void rewrites_queries(void **state)
{
    uint8_t p[DNS_QUERY_MAX], out[DNS_QUERY_MAX];
    struct dns_query q, again;
    size_t n = with_opt(p, guest_dns_query(p, 1, "a.example", 16), 4096, 0x8000, 20);
    (void)state;
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    size_t m = dns_build_query(&q, 0xbeef, out);
    assert_int_equal(m, n - 20);
    assert_int_equal(dns_parse_query(out, m, &again), 0);
    assert_int_equal(again.id, 0xbeef);
    assert_int_equal(again.udp_size, DNS_UDP_MAX);
    assert_true(again.dnssec_ok && again.rd);
    assert_int_equal(again.name_len, q.name_len);
    assert_memory_equal(again.name, q.name, q.name_len);
}

static size_t build_answer(uint8_t *out, const struct dns_query *q, uint16_t id)
{
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 2};
    size_t n = dns_build_query(q, id, out);
    be16_put(out + 2, 0x8180);
    be16_put(out + 6, 1);
    memcpy(out + n, record, sizeof record);
    return n + sizeof record;
}

static void checks_answers(void **state)
{
    uint8_t p[DNS_QUERY_MAX], a[DNS_QUERY_MAX];
    struct dns_query q;
    size_t n = guest_dns_query(p, 1, "WWW.example.com", DNS_TYPE_A);
    (void)state;
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    n = build_answer(a, &q, 77);
    assert_int_equal(dns_check_answer(a, n, &q, 77), 0);
    assert_int_equal(dns_check_answer(a, n, &q, 78), -EBADMSG);
    a[13] = 'w'; /* letters may change their case */
    assert_int_equal(dns_check_answer(a, n, &q, 77), 0);
    a[13] = 'x';
    assert_int_equal(dns_check_answer(a, n, &q, 77), -EBADMSG);
    a[13] = 'W';
    for (size_t i = 0; i < n; i++) {
        uint8_t *exact = malloc(i ? i : 1);
        assert_non_null(exact);
        memcpy(exact, a, i);
        assert_int_equal(dns_check_answer(exact, i, &q, 77), -EBADMSG);
        free(exact);
    }
    size_t record = 12 + q.name_len + 4;
    static const struct {
        int at; /* behind the question when negative: -1 is its first byte */
        uint8_t value;
    } bends[] = {
        {2, 0x01},   /* a query */
        {2, 0xa9},   /* another opcode */
        {5, 2},      /* two questions */
        {7, 2},      /* more records than there are */
        {7, 0},      /* fewer */
        {-1, 0xc1},  /* a pointer forwards */
        {-1, 0x80},  /* a reserved kind of label */
        {-2, 0x03},  /* a pointer into the header */
        {-12, 0xff}, /* data past the end */
    };
    for (size_t i = 0; i < ARRAY_LEN(bends); i++) {
        size_t at = bends[i].at < 0 ? record + (size_t)(-bends[i].at - 1) : (size_t)bends[i].at;
        uint8_t saved = a[at];
        a[at] = bends[i].value;
        if (dns_check_answer(a, n, &q, 77) == 0)
            fail_msg("bend %zu was accepted", i);
        a[at] = saved;
    }
    be16_put(a + record, 0xc000 | (unsigned)record); /* a pointer at itself */
    assert_int_equal(dns_check_answer(a, n, &q, 77), -EBADMSG);
}

static void builds_replies(void **state)
{
    uint8_t p[DNS_QUERY_MAX], out[DNS_QUERY_MAX];
    struct dns_query q;
    size_t n = with_opt(p, guest_dns_query(p, 0x4242, "a.b", DNS_TYPE_AAAA), 1232, 0, 0);
    (void)state;
    assert_int_equal(dns_parse_query(p, n, &q), 0);
    size_t m = dns_build_reply(&q, DNS_NOERROR, false, out);
    assert_int_equal(dns_check_answer(out, m, &q, 0x4242), 0);
    assert_int_equal(be16_get(out + 2), 0x8180);
    assert_int_equal(be16_get(out + 6), 0);
    dns_build_reply(&q, DNS_SERVFAIL, true, out);
    assert_int_equal(be16_get(out + 2), 0x8382);
    q.name_len = 0; /* the question was unreadable */
    q.edns = false;
    assert_int_equal(dns_build_reply(&q, DNS_FORMERR, false, out), 12);
    assert_int_equal(be16_get(out + 4), 0);
}

static void reads_resolv_conf(void **state)
{
    static const char text[] = "# comment\n"
                               "nameserver 192.0.2.1\n"
                               "search example.com\n"
                               " nameserver 192.0.2.9\n" /* not at the start of the line */
                               "nameserver\t2001:db8::1  # trailing\r\n"
                               "nameserver fe80::1%eth0\n"
                               "nameserver not-an-address\n"
                               "nameserverX 192.0.2.8\n"
                               "nameserver\n"
                               "options edns0\n"
                               "nameserver 192.0.2.3\n"
                               "nameserver 192.0.2.4"; /* more than are used */
    struct net_resolvers r;
    (void)state;
    net_resolvconf_parse(text, sizeof text - 1, &r);
    assert_int_equal(r.n, 3);
    assert_memory_equal(r.address[0].bytes, "\xc0\x00\x02\x01", 4);
    assert_true(r.address[1].v6);
    assert_memory_equal(r.address[2].bytes, "\xc0\x00\x02\x03", 4);
    net_resolvconf_parse("", 0, &r);
    assert_int_equal(r.n, 1);
    assert_memory_equal(r.address[0].bytes, "\x7f\x00\x00\x01", 4);
    assert_true(net_resolvconf_load("/nonexistent/resolv.conf", &r) < 0);
    assert_int_equal(r.n, 1);
}

static void counters(void **state)
{
    struct net_stats *s, copy;
    int fd = memfd_create("stats", MFD_CLOEXEC);
    (void)state;
    assert_int_equal(net_stats_read(fd, &copy), -ENODATA);
    assert_int_equal(net_stats_map(fd, &s), 0);
    net_count(s->tx_bytes, 5);
    net_count(s->tx_bytes, 6);
    assert_int_equal(net_stats_read(fd, &copy), 0);
    assert_int_equal(copy.tx_bytes, 11);
    munmap(s, sizeof *s);
    assert_int_equal(net_stats_read(fd, &copy), 0); /* they outlive the writer */
    close(fd);
    assert_int_equal(net_stats_map(-1, &s), 0);
    munmap(s, sizeof *s);
}

static void kernel_knows_its_addresses(void **state)
{
    struct net_hostroute r;
    struct err e;
    (void)state;
    assert_int_equal(net_hostroute_open(&r, &e), 0);
    for (int i = 0; i < 3; i++) {
        assert_false(net_hostroute_is_elsewhere(&r, IP(127, 0, 0, 1)));
        assert_false(net_hostroute_is_elsewhere(&r, IP(127, 9, 9, 9)));
        assert_false(net_hostroute_is_elsewhere(&r, IP(255, 255, 255, 255)));
        assert_false(net_hostroute_is_elsewhere(&r, IP(224, 0, 0, 1)));
        assert_true(net_hostroute_is_elsewhere(&r, IP(8, 8, 8, 8))); /* or no route at all */
    }
    net_hostroute_close(&r);
    assert_false(net_hostroute_is_elsewhere(&r, IP(8, 8, 8, 8))); /* fails closed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_queries),
        cmocka_unit_test(refuses_bad_queries),
        cmocka_unit_test(answers_locally),
        cmocka_unit_test(rewrites_queries),
        cmocka_unit_test(checks_answers),
        cmocka_unit_test(builds_replies),
        cmocka_unit_test(reads_resolv_conf),
        cmocka_unit_test(counters),
        cmocka_unit_test(kernel_knows_its_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
