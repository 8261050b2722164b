/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint tokens: compact JWE (RFC 7516) with exactly one algorithm pair, alg "dir" and enc
 * "A256GCM" (RFC 7518 §4.5, §5.3). The protected header is compared byte for byte with the one we
 * make for a known key, so nothing in a token chooses an algorithm. Pure functions; any thread.
 */
#ifndef AUTH_TOKEN_H
#define AUTH_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"

#define TOKEN_PORT_RANGES_MAX 64
#define TOKEN_TEXT_MAX 8000

struct token_port_range {
    uint16_t first, last;
};

struct token_claims {
    char microvm_id[64];
    bool shell; /* a shell token opens no ports */
    bool all_ports;
    struct token_port_range ports[TOKEN_PORT_RANGES_MAX];
    unsigned n_ports;
    int64_t expires_at; /* Unix seconds */
};

struct token_key {
    char kid[UUID_LEN + 1];
    unsigned char key[32]; /* secret */
};

/* Appends the token text to out. -EINVAL with too many ranges. */
int token_mint(const struct token_key *k, const struct token_claims *c, struct buf *out,
               struct err *e) MUST_CHECK;
/* -EINVAL: not a token of ours (malformed, unknown kid, bad tag). Expiry is not judged here. */
int token_open(const struct token_key *k, struct slice text, struct token_claims *ret) MUST_CHECK;

enum token_verdict { TOKEN_OK, TOKEN_OTHER_MICROVM, TOKEN_EXPIRED, TOKEN_PORT_DENIED };
/* port 0 asks for the shell: only a shell token gives it, and it gives nothing else. */
enum token_verdict token_check(const struct token_claims *c, const char *microvm_id, uint16_t port,
                               int64_t now_s);

#endif
