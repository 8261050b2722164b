/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets of an installation. Theory of operation: every secret is one file that is made when it is
 * missing and otherwise only read; files appear atomically (written aside, synced, renamed), so an
 * interrupted first start is finished by the next. A file that is there but cannot be understood is
 * an error, never replaced: it may be the only copy of something people depend on. Only the
 * endpoint certificate is renewed by itself, and the authority when it expires or the domain
 * changed.
 *
 *     credential.json  {"accessKeyId", "secretAccessKey"}
 *     token.json       {"kid", "key"}
 *     ca.key ca.pem endpoint.key endpoint.pem   (PEM; endpoint.pem is the chain without the root)
 */
#include "auth/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/certs.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/fs.h"
#include "base/json.h"

#define SECRET_FILE_MAX 65536
#define DOMAIN_MAX 200

static void cleanup_secret(struct buf *b)
{
    if (b->data)
        OPENSSL_cleanse(b->data, b->cap);
    buf_done(b);
}

static void cleanup_pkey(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

static void cleanup_x509(X509 **x)
{
    X509_free(*x);
}

static void cleanup_bio(BIO **b)
{
    BIO_free(*b);
}

/* Others must not be able to read it: a copied backup may have lost its mode. */
static int check_private(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_set_errno(e, errno, "cannot read %s", path);
    if (st.st_mode & 077)
        return err_set(e, EACCES, "%s can be read by others: run chmod 600 %s", path, path);
    return 0;
}

static int read_secret(const char *path, struct buf *out, struct err *e)
{
    int rc = check_private(path, e);
    return rc < 0 ? rc : fs_read_file(path, out, e);
}

/* ---- JSON secrets -----------------------------------------------------------------------------
 */

static int read_json(const char *path, json_t **ret, struct err *e)
{
    CLEANUP(cleanup_secret)
    struct buf text = BUF_INIT(SECRET_FILE_MAX);
    int rc = read_secret(path, &text, e);
    if (rc == 0)
        rc = json_parse(text.data, text.len, SECRET_FILE_MAX, ret, e);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

static bool take_text(char *out, size_t cap, const json_t *o, const char *key)
{
    const char *s = json_get_str(o, key);
    if (!s || !*s || strlen(s) >= cap)
        return false;
    memcpy(out, s, strlen(s) + 1);
    return true;
}

static int write_pair(const char *path, const char *k1, const char *v1, const char *k2,
                      const char *v2, struct err *e)
{
    CLEANUP(cleanup_secret)
    struct buf text = BUF_INIT(SECRET_FILE_MAX);
    int rc = buf_addf(&text, "{\"%s\": \"%s\", \"%s\": \"%s\"}\n", k1, v1, k2, v2);
    return rc < 0 ? err_set(e, ENOMEM, "out of memory")
                  : fs_write_file(path, text.data, text.len, 0600, e);
}

/* Access keys look like AWS's (20 characters, AKIA...): some tools check that. */
static int make_credential(const char *path, struct err *e)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    unsigned char bytes[16 + 30];
    char access[21] = "AKIA";
    random_bytes(bytes, sizeof bytes);
    for (int i = 0; i < 16; i++)
        access[4 + i] = abc[bytes[i] & 31];
    CLEANUP(cleanup_secret)
    struct buf secret = BUF_INIT(64);
    int rc = base64url_encode(&secret, bytes + 16, 30); /* 40 characters, safe in a shell */
    if (rc == 0)
        rc = write_pair(path, "accessKeyId", access, "secretAccessKey", secret.data, e);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return rc;
}

static int read_credential(const char *path, struct sigv4_credential *ret, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *o = NULL;
    int rc = read_json(path, &o, e);
    if (rc < 0)
        return rc;
    if (!take_text(ret->access_key, sizeof ret->access_key, o, "accessKeyId") ||
        !take_text(ret->secret_key, sizeof ret->secret_key, o, "secretAccessKey"))
        return err_set(e, EINVAL, "%s: accessKeyId or secretAccessKey is missing", path);
    return 0;
}

static int open_credential(const char *path, struct sigv4_credential *ret, struct err *e)
{
    int rc = fs_exists(path) ? 0 : make_credential(path, e);
    return rc < 0 ? rc : read_credential(path, ret, e);
}

int auth_credential_read(const char *dir, struct sigv4_credential *ret, struct err *e)
{
    char path[600];
    int rc = path_join(path, sizeof path, dir, "credential.json", e);
    return rc < 0 ? rc : read_credential(path, ret, e);
}

static int make_token_key(const char *path, struct err *e)
{
    unsigned char key[32];
    char kid[UUID_LEN + 1];
    uuid_new(kid);
    random_bytes(key, sizeof key);
    CLEANUP(cleanup_secret)
    struct buf text = BUF_INIT(64);
    int rc = base64url_encode(&text, key, sizeof key);
    OPENSSL_cleanse(key, sizeof key);
    return rc < 0 ? err_set(e, ENOMEM, "out of memory")
                  : write_pair(path, "kid", kid, "key", text.data, e);
}

static int open_token_key(const char *path, struct token_key *ret, struct err *e)
{
    int rc = fs_exists(path) ? 0 : make_token_key(path, e);
    CLEANUP(cleanup_json)
    json_t *o = NULL;
    CLEANUP(cleanup_secret)
    struct buf key = BUF_INIT(64);
    if (rc == 0)
        rc = read_json(path, &o, e);
    if (rc < 0)
        return rc;
    const char *text = json_get_str(o, "key");
    if (!take_text(ret->kid, sizeof ret->kid, o, "kid") || strlen(ret->kid) != UUID_LEN ||
        strspn(ret->kid, "0123456789abcdef-") != UUID_LEN || !text ||
        base64url_decode(&key, text, strlen(text)) < 0 || key.len != sizeof ret->key)
        return err_set(e, EINVAL, "%s: kid or key is missing or malformed", path);
    memcpy(ret->key, key.data, key.len);
    return 0;
}

/* ---- PEM files --------------------------------------------------------------------------------
 */

static int write_bio(const char *path, BIO *b, mode_t mode, struct err *e)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    return fs_write_file(path, p, (size_t)n, mode, e);
}

static int write_key(const char *path, EVP_PKEY *key, struct err *e)
{
    CLEANUP(cleanup_bio)
    BIO *b = BIO_new(BIO_s_secmem());
    if (!b || PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) != 1)
        return err_set(e, EIO, "cannot encode a key");
    return write_bio(path, b, 0600, e);
}

static int write_cert(const char *path, X509 *cert, mode_t mode, struct err *e)
{
    CLEANUP(cleanup_bio)
    BIO *b = BIO_new(BIO_s_mem());
    if (!b || PEM_write_bio_X509(b, cert) != 1)
        return err_set(e, EIO, "cannot encode a certificate");
    return write_bio(path, b, mode, e);
}

static int read_key(const char *path, EVP_PKEY **ret, struct err *e)
{
    CLEANUP(cleanup_secret)
    struct buf text = BUF_INIT(SECRET_FILE_MAX);
    int rc = read_secret(path, &text, e);
    if (rc < 0)
        return rc;
    CLEANUP(cleanup_bio)
    BIO *b = BIO_new_mem_buf(text.data, (int)text.len);
    *ret = b ? PEM_read_bio_PrivateKey(b, NULL, NULL, (void *)"") : NULL;
    return *ret ? 0 : err_set(e, EINVAL, "%s is not a PEM private key", path);
}

static int read_cert(const char *path, X509 **ret, struct err *e)
{
    CLEANUP(cleanup_secret)
    struct buf text = BUF_INIT(SECRET_FILE_MAX);
    int rc = fs_read_file(path, &text, e);
    if (rc < 0)
        return rc;
    CLEANUP(cleanup_bio)
    BIO *b = BIO_new_mem_buf(text.data, (int)text.len);
    *ret = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    return *ret ? 0 : err_set(e, EINVAL, "%s is not a PEM certificate", path);
}

/* The key first, the certificate second: a certificate without its key cannot exist. */
static int open_key(const char *path, EVP_PKEY **ret, struct err *e)
{
    if (fs_exists(path))
        return read_key(path, ret, e);
    int rc = cert_new_key(ret, e);
    return rc < 0 ? rc : write_key(path, *ret, e);
}

static int open_ca(const char *path, EVP_PKEY *key, const char *domain, X509 **ret, struct err *e)
{
    if (fs_exists(path)) {
        int rc = read_cert(path, ret, e);
        if (rc < 0)
            return rc;
        if (X509_check_private_key(*ret, key) == 1 && cert_lives(*ret, RENEW_DAYS) &&
            cert_ca_permits(*ret, domain))
            return 0;
        X509_free(*ret);
        *ret = NULL;
    }
    int rc = cert_new_ca(key, domain, ret, e);
    return rc < 0 ? rc : write_cert(path, *ret, 0644, e); /* clients read it */
}

static int open_leaf(const char *path, EVP_PKEY *key, const char *domain, X509 *ca,
                     EVP_PKEY *ca_key, struct err *e)
{
    CLEANUP(cleanup_x509)
    X509 *leaf = NULL;
    if (fs_exists(path)) {
        int rc = read_cert(path, &leaf, e);
        if (rc < 0)
            return rc;
        if (X509_check_private_key(leaf, key) == 1 && X509_check_issued(ca, leaf) == X509_V_OK &&
            X509_verify(leaf, ca_key) == 1 && cert_lives(leaf, RENEW_DAYS) &&
            cert_covers(leaf, domain))
            return 0;
        X509_free(leaf);
        leaf = NULL;
    }
    int rc = cert_new_leaf(key, domain, ca, ca_key, &leaf, e);
    return rc < 0 ? rc : write_cert(path, leaf, 0600, e);
}

static int open_certificates(const char *dir, const char *domain, struct auth_keys *k,
                             struct err *e)
{
    char ca_key_path[512];
    CLEANUP(cleanup_pkey)
    EVP_PKEY *ca_key = NULL;
    CLEANUP(cleanup_pkey)
    EVP_PKEY *key = NULL;
    CLEANUP(cleanup_x509)
    X509 *ca = NULL;
    int rc = path_join(ca_key_path, sizeof ca_key_path, dir, "ca.key", e);
    if (rc == 0)
        rc = path_join(k->ca_path, sizeof k->ca_path, dir, "ca.pem", e);
    if (rc == 0)
        rc = path_join(k->cert_path, sizeof k->cert_path, dir, "endpoint.pem", e);
    if (rc == 0)
        rc = path_join(k->key_path, sizeof k->key_path, dir, "endpoint.key", e);
    if (rc == 0)
        rc = open_key(ca_key_path, &ca_key, e);
    if (rc == 0)
        rc = open_key(k->key_path, &key, e);
    if (rc == 0)
        rc = open_ca(k->ca_path, ca_key, domain, &ca, e);
    if (rc == 0)
        rc = open_leaf(k->cert_path, key, domain, ca, ca_key, e);
    return rc;
}

static int open_dir(const char *dir, struct err *e)
{
    int rc = fs_mkdir_p(dir, 0700, e);
    if (rc == 0 && chmod(dir, 0700) < 0)
        rc = err_set_errno(e, errno, "cannot protect %s", dir);
    return rc;
}

/* A domain goes into certificates and host names: letters, digits, '-', '.', no empty label. */
static bool is_domain(const char *s)
{
    size_t n = strlen(s);
    return n > 0 && n <= DOMAIN_MAX && s[0] != '.' && s[n - 1] != '.' && !strstr(s, "..") &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n;
}

int auth_keys_open(const char *dir, const char *domain, struct auth_keys *ret, struct err *e)
{
    char credential[512], token[512];
    struct auth_keys k = {0};
    if (!is_domain(domain))
        return err_set(e, EINVAL, "'%s' is not a lower-case domain name", domain);
    int rc = open_dir(dir, e);
    if (rc == 0)
        rc = path_join(credential, sizeof credential, dir, "credential.json", e);
    if (rc == 0)
        rc = path_join(token, sizeof token, dir, "token.json", e);
    if (rc == 0)
        rc = open_credential(credential, &k.credential, e);
    if (rc == 0)
        rc = open_token_key(token, &k.token, e);
    if (rc == 0)
        rc = open_certificates(dir, domain, &k, e);
    if (rc == 0)
        *ret = k;
    auth_keys_done(&k);
    return rc;
}

void auth_keys_done(struct auth_keys *k)
{
    OPENSSL_cleanse(k, sizeof *k);
}

int auth_tls_context(const struct auth_keys *k, SSL_CTX **ret, struct err *e)
{
    SSL_CTX *c = SSL_CTX_new(TLS_server_method());
    if (!c || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(c, k->cert_path) != 1 ||
        SSL_CTX_use_PrivateKey_file(c, k->key_path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c) != 1) {
        SSL_CTX_free(c);
        return err_set(e, EIO, "cannot use the certificate %s with the key %s", k->cert_path,
                       k->key_path);
    }
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
    *ret = c;
    return 0;
}
