/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages as the resolver stub needs them (RFC 1035, EDNS RFC 6891). Sans-IO, no allocation.
 *
 * A query from the guest is taken apart and a new one is written; nothing of its bytes but the
 * question and the flags RD, AD, CD and DO goes out. Answers are walked record by record before the
 * guest sees them.
 */
#ifndef NET_DNS_H
#define NET_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define DNS_HEADER 12
#define DNS_NAME_MAX 255
#define DNS_UDP_MAX 1232      /* what we offer upstream: no fragments on any path */
#define DNS_QUERY_MAX 512     /* of the guest; a question and an OPT record fit easily */
#define DNS_MESSAGE_MAX 65535 /* over TCP */

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
};

#define DNS_TYPE_A 1
#define DNS_TYPE_AAAA 28
#define DNS_TYPE_OPT 41

struct dns_query {
    uint16_t id;
    uint8_t name[DNS_NAME_MAX]; /* wire form, no compression */
    size_t name_len;
    uint16_t type, class_;
    bool rd, ad, cd;
    bool edns, dnssec_ok;
    uint16_t udp_size; /* what the asker can take over UDP, >= 512 */
};

/*
 * 0 and *ret filled; or -EBADMSG: not even a header, or a response: say nothing; or a positive
 * rcode: answer with it (*ret has id and flags; name_len is 0 when the question was unreadable).
 */
int dns_parse_query(const uint8_t *p, size_t n, struct dns_query *ret) MUST_CHECK;

/* The rcode to answer with at once, or -1: ask upstream. */
int dns_local_answer(const struct dns_query *q);

/* The query to send upstream; returns its length. */
size_t dns_build_query(const struct dns_query *q, uint16_t id, uint8_t out[DNS_QUERY_MAX]);

/* 0 when p is a well-formed answer to q sent with id; else -EBADMSG. */
int dns_check_answer(const uint8_t *p, size_t n, const struct dns_query *q, uint16_t id) MUST_CHECK;

/* Turns a checked answer into the guest's: its id. */
void dns_readdress(uint8_t *p, uint16_t id);

/* An answer without records; truncated asks the guest to come again over TCP. */
size_t dns_build_reply(const struct dns_query *q, enum dns_rcode rcode, bool truncated,
                       uint8_t out[DNS_QUERY_MAX]);

/* The name as text for logs, other characters than letters, digits, '-', '_' and '.' as '?'. */
void dns_name_text(const struct dns_query *q, char out[DNS_NAME_MAX + 1]);

#endif
