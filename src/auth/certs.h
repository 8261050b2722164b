/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the auth layer: making and judging X.509 certificates (RFC 5280), P-256 throughout. */
#ifndef AUTH_CERTS_H
#define AUTH_CERTS_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CA_DAYS 3650
#define LEAF_DAYS 365
#define RENEW_DAYS 30

/* Each result is owned by the caller. */
int cert_new_key(EVP_PKEY **ret, struct err *e) MUST_CHECK;
/* A self-signed authority that may only name the domain, what is below it, and this host. */
int cert_new_ca(EVP_PKEY *key, const char *domain, X509 **ret, struct err *e) MUST_CHECK;
/* A server certificate for domain, *.domain, localhost, 127.0.0.1 and ::1. */
int cert_new_leaf(EVP_PKEY *key, const char *domain, X509 *ca, EVP_PKEY *ca_key, X509 **ret,
                  struct err *e) MUST_CHECK;

/* Whether the certificate lives for at least so many days and covers the domain's names. */
bool cert_lives(X509 *cert, int days);
bool cert_covers(X509 *leaf, const char *domain);
bool cert_ca_permits(X509 *ca, const char *domain);

#endif
