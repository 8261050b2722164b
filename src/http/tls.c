/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL reads the socket itself, through a BIO of ours (the library's own would raise SIGPIPE
 * when a client has gone). What it writes is gathered: a record is 16 KiB at most, and a large
 * download would otherwise be one send(2) per record.
 */
#include "http/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int ssl_failed(struct err *e, const char *what)
{
    char text[256];
    unsigned long code = ERR_get_error();
    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return err_set(e, EINVAL, "%s: %s", what, text);
}

int tls_context_new(const char *chain_pem, const char *key_pem, SSL_CTX **ret, struct err *e)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        return ssl_failed(e, "TLS");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    int r = 0;
    if (SSL_CTX_use_certificate_chain_file(ctx, chain_pem) != 1)
        r = ssl_failed(e, chain_pem);
    else if (SSL_CTX_use_PrivateKey_file(ctx, key_pem, SSL_FILETYPE_PEM) != 1)
        r = ssl_failed(e, key_pem);
    else if (SSL_CTX_check_private_key(ctx) != 1)
        r = ssl_failed(e, "certificate and key do not belong together");
    if (r < 0) {
        SSL_CTX_free(ctx);
        return r;
    }
    *ret = ctx;
    return 0;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                       const unsigned char *in, unsigned in_n, void *arg)
{
    static const unsigned char with_h2[] = "\x02h2\x08http/1.1";
    const unsigned char *ours = arg ? with_h2 : with_h2 + 3;
    unsigned ours_n = (unsigned)(sizeof with_h2 - 1) - (arg ? 0 : 3);
    unsigned char *picked;
    (void)ssl;
    if (SSL_select_next_proto(&picked, out_n, ours, ours_n, in, in_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = picked;
    return SSL_TLSEXT_ERR_OK;
}

void tls_context_alpn(SSL_CTX *ctx, bool h2)
{
    static char yes;
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, h2 ? &yes : NULL);
    /* A record buffer is 34 KiB; idle connections give theirs back. */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
}

/* ---- the BIO ---- */

static int bio_result(BIO *bio, ssize_t n, void (*retry)(BIO *))
{
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        retry(bio);
    return (int)n;
}

static void retry_read(BIO *bio)
{
    BIO_set_retry_read(bio);
}

static void retry_write(BIO *bio)
{
    BIO_set_retry_write(bio);
}

#define WIRE_MARK ((size_t)128 * 1024)

static int wire_send(struct transport *t)
{
    while (t->wire.len) {
        ssize_t n = send(t->fd, queue_head(&t->wire), t->wire.len, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EINTR ? -EAGAIN : -errno;
        queue_consume(&t->wire, (size_t)n);
    }
    return 0;
}

static int bio_write(BIO *bio, const char *p, int n)
{
    struct transport *t = BIO_get_data(bio);
    int r = t->wire.len >= WIRE_MARK ? wire_send(t) : 0;
    if (r == -EAGAIN && t->wire.len < WIRE_MARK)
        r = 0;
    if (r == 0)
        r = queue_add(&t->wire, p, (size_t)n);
    errno = -r;
    return bio_result(bio, r < 0 ? -1 : n, retry_write);
}

static int bio_read(BIO *bio, char *p, int n)
{
    struct transport *t = BIO_get_data(bio);
    ssize_t r = recv(t->fd, p, (size_t)n, 0);
    if (r == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return bio_result(bio, r, retry_read);
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num, (void)ptr;
    if (cmd == BIO_CTRL_FLUSH)
        return 1;
    return cmd == BIO_CTRL_EOF && BIO_test_flags(bio, BIO_FLAGS_IN_EOF);
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *socket_method(void)
{
    static BIO_METHOD *m; /* made once, on the loop thread; lives as long as the process */
    if (m)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without SIGPIPE");
    if (!m || !BIO_meth_set_write(m, bio_write) || !BIO_meth_set_read(m, bio_read) ||
        !BIO_meth_set_ctrl(m, bio_ctrl) || !BIO_meth_set_create(m, bio_create)) {
        BIO_meth_free(m);
        m = NULL;
    }
    return m;
}

/* ---- the transport ---- */

int transport_init(struct transport *t, int fd, SSL_CTX *ctx)
{
    *t = (struct transport){.fd = fd, .ready = !ctx};
    if (!ctx)
        return 0;
    BIO *bio = socket_method() ? BIO_new(socket_method()) : NULL;
    t->ssl = bio ? SSL_new(ctx) : NULL;
    if (!t->ssl) {
        BIO_free(bio);
        transport_done(t);
        return -ENOMEM;
    }
    BIO_set_data(bio, t);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_accept_state(t->ssl);
    return 0;
}

/* Turns a library result into ours: 0 = end of stream. */
static int ssl_error(struct transport *t, int r)
{
    int saved = errno, why = SSL_get_error(t->ssl, r);
    ERR_clear_error();
    switch (why) {
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        t->want_write = true;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return saved ? -saved : -ECONNRESET;
    default:
        return -EPROTO;
    }
}

int transport_handshake(struct transport *t)
{
    t->want_write = false;
    if (t->ready)
        return 0;
    errno = 0;
    int r = SSL_do_handshake(t->ssl), why = r == 1 ? 0 : ssl_error(t, r);
    int sent = transport_flush(t); /* also an alert, when it failed */
    if (r == 1) {
        t->ready = true;
        return sent == -EAGAIN ? 0 : sent;
    }
    return why == -EAGAIN && (sent == 0 || sent == -EAGAIN) ? -EAGAIN : -EPROTO;
}

ssize_t transport_read(struct transport *t, void *p, size_t n)
{
    t->want_write = false;
    errno = 0;
    if (!t->ssl) {
        ssize_t r = recv(t->fd, p, n, 0);
        return r >= 0 ? r : errno == EINTR ? -EAGAIN : -errno;
    }
    size_t got;
    int r = SSL_read_ex(t->ssl, p, n, &got);
    return r == 1 ? (ssize_t)got : ssl_error(t, r);
}

ssize_t transport_write(struct transport *t, const void *p, size_t n)
{
    t->want_write = false;
    errno = 0;
    if (!t->ssl) {
        ssize_t r = send(t->fd, p, n, MSG_NOSIGNAL);
        return r >= 0 ? r : errno == EINTR ? -EAGAIN : -errno;
    }
    size_t put;
    int r = SSL_write_ex(t->ssl, p, n, &put);
    if (r == 1)
        return (ssize_t)put;
    int why = ssl_error(t, r);
    return why ? why : -EPIPE;
}

int transport_flush(struct transport *t)
{
    int r = wire_send(t);
    t->want_write = r == -EAGAIN;
    return r;
}

bool transport_pending(const struct transport *t)
{
    return t->ssl && SSL_has_pending(t->ssl);
}

void transport_end(struct transport *t)
{
    if (t->sent_close || t->fd < 0)
        return;
    t->sent_close = true;
    if (t->ssl && t->ready) {
        SSL_shutdown(t->ssl); /* best effort: the FIN below says the same */
        ERR_clear_error();
        (void)!wire_send(t);
    }
    shutdown(t->fd, SHUT_WR);
}

void transport_done(struct transport *t)
{
    SSL_free(t->ssl);
    t->ssl = NULL;
    queue_done(&t->wire);
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}

bool transport_is_h2(const struct transport *t)
{
    const unsigned char *p = NULL;
    unsigned n = 0;
    if (t->ssl)
        SSL_get0_alpn_selected(t->ssl, &p, &n);
    return n == 2 && memcmp(p, "h2", 2) == 0;
}

struct slice transport_sni(const struct transport *t)
{
    return slice_from(t->ssl ? SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name) : NULL);
}
