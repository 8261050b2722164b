/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "net/be.h"

#define FLAG_QR 0x8000
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100
#define FLAG_RA 0x0080
#define FLAG_AD 0x0020
#define FLAG_CD 0x0010
#define OPCODE(flags) (((flags) >> 11) & 0x0f)

#define CLASS_IN 1
#define TYPE_IXFR 251
#define TYPE_AXFR 252
#define TYPE_MAILB 253
#define TYPE_MAILA 254
#define OPT_FIXED 11 /* root name, type, class, ttl, rdlength */
#define OPT_DO 0x8000

/* Length of the uncompressed name at p, terminating root included; 0 when it is none. */
static size_t plain_name_len(const uint8_t *p, size_t n)
{
    size_t at = 0;
    while (at < n && at < DNS_NAME_MAX) {
        uint8_t label = p[at];
        if (label > 63)
            return 0;
        at += 1 + (size_t)label;
        if (label == 0)
            return at;
    }
    return 0;
}

/*
 * Skips a name that may end in a pointer (RFC 1035 4.1.4). The pointer is not followed, but it must
 * point backwards, behind the header: a chain of such pointers always ends. Returns the offset
 * behind the name, 0 when it is malformed.
 */
static size_t skip_name(const uint8_t *p, size_t n, size_t at)
{
    size_t start = at;
    while (at < n && at - start < DNS_NAME_MAX) {
        uint8_t label = p[at];
        if (label >= 0xc0) {
            if (n - at < 2)
                return 0;
            size_t target = be16_get(p + at) & 0x3fffu;
            return target >= DNS_HEADER && target < start ? at + 2 : 0;
        }
        if (label > 63)
            return 0;
        at += 1 + (size_t)label;
        if (label == 0)
            return at <= n ? at : 0;
    }
    return 0;
}

static int parse_opt(const uint8_t *p, size_t n, struct dns_query *q)
{
    if (n < OPT_FIXED || p[0] != 0 || be16_get(p + 1) != DNS_TYPE_OPT)
        return DNS_FORMERR;
    if (be16_get(p + 9) != n - OPT_FIXED)
        return DNS_FORMERR;
    uint16_t size = be16_get(p + 3);
    q->edns = true;
    q->udp_size = size < 512 ? 512 : size;
    q->dnssec_ok = be16_get(p + 7) & OPT_DO;
    return 0;
}

int dns_parse_query(const uint8_t *p, size_t n, struct dns_query *ret)
{
    if (n < DNS_HEADER || (be16_get(p + 2) & FLAG_QR))
        return -EBADMSG;
    uint16_t flags = be16_get(p + 2);
    memset(ret, 0, sizeof *ret);
    ret->id = be16_get(p);
    ret->rd = flags & FLAG_RD;
    ret->ad = flags & FLAG_AD;
    ret->cd = flags & FLAG_CD;
    ret->udp_size = 512;
    if (OPCODE(flags) != 0)
        return DNS_NOTIMP;
    uint16_t additional = be16_get(p + 10);
    if (be16_get(p + 4) != 1 || be16_get(p + 6) || be16_get(p + 8) || additional > 1)
        return DNS_FORMERR;
    size_t len = plain_name_len(p + DNS_HEADER, n - DNS_HEADER), at = DNS_HEADER + len;
    if (len == 0 || n - at < 4)
        return DNS_FORMERR;
    memcpy(ret->name, p + DNS_HEADER, len);
    ret->name_len = len;
    ret->type = be16_get(p + at);
    ret->class_ = be16_get(p + at + 2);
    at += 4;
    if (additional)
        return parse_opt(p + at, n - at, ret);
    return at == n ? 0 : DNS_FORMERR;
}

int dns_local_answer(const struct dns_query *q)
{
    if (q->class_ != CLASS_IN)
        return DNS_REFUSED;
    if (q->type >= TYPE_IXFR && q->type <= TYPE_MAILA)
        return DNS_REFUSED; /* transfers are no business of a stub */
    if (q->type == DNS_TYPE_OPT || q->type == 0)
        return DNS_FORMERR;
    /* There is no IPv6 route out of a guest: "no such address" at once instead of a connection
     * attempt that has to time out first. */
    if (q->type == DNS_TYPE_AAAA)
        return DNS_NOERROR;
    return -1;
}

static size_t put_question(const struct dns_query *q, uint8_t *out)
{
    memcpy(out, q->name, q->name_len);
    be16_put(out + q->name_len, q->type);
    be16_put(out + q->name_len + 2, q->class_);
    return q->name_len + 4;
}

static size_t put_opt(uint16_t size, bool dnssec_ok, uint8_t *out)
{
    memset(out, 0, OPT_FIXED);
    be16_put(out + 1, DNS_TYPE_OPT);
    be16_put(out + 3, size);
    be16_put(out + 7, dnssec_ok ? OPT_DO : 0);
    return OPT_FIXED;
}

size_t dns_build_query(const struct dns_query *q, uint16_t id, uint8_t out[DNS_QUERY_MAX])
{
    memset(out, 0, DNS_HEADER);
    be16_put(out, id);
    be16_put(out + 2, (q->rd ? FLAG_RD : 0u) | (q->ad ? FLAG_AD : 0u) | (q->cd ? FLAG_CD : 0u));
    be16_put(out + 4, 1);
    size_t n = DNS_HEADER + put_question(q, out + DNS_HEADER);
    if (q->edns) {
        be16_put(out + 10, 1);
        n += put_opt(q->udp_size < DNS_UDP_MAX ? q->udp_size : DNS_UDP_MAX, q->dnssec_ok, out + n);
    }
    return n;
}

/* The question must come back as it was asked; only the case of letters may differ. */
static bool same_question(const uint8_t *p, const struct dns_query *q)
{
    for (size_t i = 0; i < q->name_len; i++)
        if (tolower(p[i]) != tolower(q->name[i]))
            return false;
    return be16_get(p + q->name_len) == q->type && be16_get(p + q->name_len + 2) == q->class_;
}

static size_t skip_record(const uint8_t *p, size_t n, size_t at)
{
    at = skip_name(p, n, at);
    if (at == 0 || n - at < 10)
        return 0;
    size_t rdlength = be16_get(p + at + 8);
    at += 10;
    return rdlength <= n - at ? at + rdlength : 0;
}

int dns_check_answer(const uint8_t *p, size_t n, const struct dns_query *q, uint16_t id)
{
    if (n < DNS_HEADER + q->name_len + 4 || n > DNS_MESSAGE_MAX)
        return -EBADMSG;
    uint16_t flags = be16_get(p + 2);
    if (be16_get(p) != id || !(flags & FLAG_QR) || OPCODE(flags) != 0 || be16_get(p + 4) != 1)
        return -EBADMSG;
    if (!same_question(p + DNS_HEADER, q))
        return -EBADMSG;
    size_t at = DNS_HEADER + q->name_len + 4;
    unsigned records = be16_get(p + 6);
    records += be16_get(p + 8);
    records += be16_get(p + 10);
    for (unsigned i = 0; i < records; i++) {
        at = skip_record(p, n, at);
        if (at == 0)
            return -EBADMSG;
    }
    return at == n ? 0 : -EBADMSG;
}

void dns_readdress(uint8_t *p, uint16_t id)
{
    be16_put(p, id);
}

size_t dns_build_reply(const struct dns_query *q, enum dns_rcode rcode, bool truncated,
                       uint8_t out[DNS_QUERY_MAX])
{
    memset(out, 0, DNS_HEADER);
    be16_put(out, q->id);
    be16_put(out + 2, FLAG_QR | FLAG_RA | (q->rd ? FLAG_RD : 0u) | (q->cd ? FLAG_CD : 0u) |
                          (truncated ? FLAG_TC : 0u) | (unsigned)rcode);
    size_t n = DNS_HEADER;
    if (q->name_len) {
        be16_put(out + 4, 1);
        n += put_question(q, out + n);
    }
    if (q->edns) {
        be16_put(out + 10, 1);
        n += put_opt(DNS_UDP_MAX, q->dnssec_ok, out + n);
    }
    return n;
}

void dns_name_text(const struct dns_query *q, char out[DNS_NAME_MAX + 1])
{
    size_t o = 0, at = 0;
    while (at < q->name_len && q->name[at]) {
        size_t label = q->name[at++];
        for (; label; label--, at++) {
            unsigned char c = q->name[at];
            out[o++] = (char)(isalnum(c) || c == '-' || c == '_' ? c : '?');
        }
        out[o++] = '.';
    }
    if (o == 0)
        out[o++] = '.';
    out[o] = '\0';
}
