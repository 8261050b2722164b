/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets made at first start, below <data>/keys (0700, files 0600): the API credential, the
 * endpoint token key, and the certificate authority with the endpoint's wildcard certificate.
 * Blocking; start-up only. Nothing here is ever logged.
 */
#ifndef AUTH_KEYS_H
#define AUTH_KEYS_H

#include <openssl/ssl.h>

#include "auth/sigv4.h"
#include "auth/token.h"

struct auth_keys {
    struct sigv4_credential credential;
    struct token_key token;
    char ca_path[512];   /* PEM of the CA certificate, for clients */
    char cert_path[512]; /* endpoint certificate chain */
    char key_path[512];
};

/* Loads or makes everything. The certificate covers "<domain>", "*.<domain>" and "localhost",
 * 127.0.0.1, ::1; it is renewed when it expires within 30 days or the domain changed. */
int auth_keys_open(const char *dir, const char *domain, struct auth_keys *ret,
                   struct err *e) MUST_CHECK;
void auth_keys_done(struct auth_keys *k); /* cleanses */

/* Only the API credential, which must exist: for clients on the same machine. */
int auth_credential_read(const char *dir, struct sigv4_credential *ret, struct err *e) MUST_CHECK;

/* Server context for the endpoint proxy (TLS 1.2+). Owned by the caller. */
int auth_tls_context(const struct auth_keys *k, SSL_CTX **ret, struct err *e) MUST_CHECK;

#endif
