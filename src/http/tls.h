/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS for servers: contexts, and the byte transport under a connection (plain or TLS over one
 * non-blocking socket). Loop thread, except tls_context_new().
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "http/queue.h"

/* TLS 1.2 and 1.3, no renegotiation, no compression. PEM files: a chain (leaf first) and its key.
 * -EINVAL with the library's words. The caller frees with SSL_CTX_free(). */
int tls_context_new(const char *chain_pem, const char *key_pem, SSL_CTX **ret,
                    struct err *e) MUST_CHECK;
/* Makes ctx choose "h2" (if wanted) or "http/1.1" by ALPN, in our order; another offer is refused
 * (RFC 7301 §3.2). */
void tls_context_alpn(SSL_CTX *ctx, bool h2);

struct transport {
    int fd;          /* owned */
    SSL *ssl;        /* owned; NULL = plain */
    bool ready;      /* the handshake is done */
    bool want_write; /* the last call needs the socket to be writable, whatever it was */
    bool sent_close;
    struct queue wire; /* TLS: records made but not sent yet */
};

/* Takes fd over, also on failure. -ENOMEM. */
int transport_init(struct transport *t, int fd, SSL_CTX *ctx) MUST_CHECK;
/* 0 = ready, -EAGAIN, -EPROTO. */
int transport_handshake(struct transport *t) MUST_CHECK;
/* > 0 bytes, 0 = the peer ended its side, -EAGAIN, -errno. */
ssize_t transport_read(struct transport *t, void *p, size_t n) MUST_CHECK;
ssize_t transport_write(struct transport *t, const void *p, size_t n) MUST_CHECK;
/* Sends what transport_write() left inside: call it when there is nothing more to write. 0, -EAGAIN
 * (want_write is set), -errno. */
int transport_flush(struct transport *t) MUST_CHECK;
bool transport_pending(const struct transport *t); /* input is waiting inside, not in the socket */
void transport_end(struct transport *t);           /* half-closes our side; once */
void transport_done(struct transport *t);
bool transport_is_h2(const struct transport *t);       /* ALPN said so */
struct slice transport_sni(const struct transport *t); /* lives as long as t */

#endif
