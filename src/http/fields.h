/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An owned, growing list of header fields with a ceiling on count and bytes, and the small
 * questions every codec asks about fields. Names are stored in lower case.
 */
#ifndef HTTP_FIELDS_H
#define HTTP_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "http/server.h"

struct field_span {
    uint32_t name, name_n, value, value_n; /* offsets into text */
};

struct fields {
    struct buf text;          /* owned */
    struct field_span *spans; /* owned */
    struct http_header *view; /* owned; filled by fields_view() */
    unsigned n, cap, view_cap;
    unsigned max_n;   /* 0 = unlimited */
    size_t max_bytes; /* 0 = unlimited; counts names, values and 4 bytes of framing each */
    size_t bytes;
};

/* 0, -EMSGSIZE beyond a ceiling (nothing is stored), -ENOMEM. */
int fields_add(struct fields *f, const char *name, size_t name_n, const char *value,
               size_t value_n) MUST_CHECK;
/* Slices valid until the next fields_add() or fields_clear(); NULL when empty or out of memory. */
const struct http_header *fields_view(struct fields *f);
void fields_clear(struct fields *f); /* keeps memory and ceilings */
void fields_done(struct fields *f);

bool field_name_valid(struct slice s);  /* RFC 9110 token */
bool field_value_valid(struct slice s); /* no CR, LF, NUL (RFC 9110 §5.5) */
/* Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade: ours to write, never the
 * user's (RFC 9110 §7.6.1, RFC 9113 §8.2.2). Any case. */
bool field_is_framing(struct slice name);
/* True when the comma-separated list names the token (any case). */
bool field_list_has(struct slice list, const char *token);
/* Strict 1*DIGIT; -EINVAL, -ERANGE. */
int field_parse_length(struct slice s, uint64_t *ret) MUST_CHECK;
/* A Host or :authority: non-empty, reg-name, IPv4 or [IPv6] characters with an optional port. */
bool field_authority_valid(struct slice s);

#endif
