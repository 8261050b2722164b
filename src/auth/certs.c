/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates. The authority carries name constraints: a stolen copy of its key can imitate the
 * service's own names on this host, never another site in the user's trust store. */
#include "auth/certs.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/macros.h"

static int failed(struct err *e, const char *what)
{
    char text[160];
    ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
    ERR_clear_error();
    return err_set(e, EIO, "cannot make %s: %s", what, text);
}

int cert_new_key(EVP_PKEY **ret, struct err *e)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key)
        return failed(e, "a key");
    *ret = key;
    return 0;
}

static bool set_serial(X509 *x)
{
    unsigned char bytes[16];
    random_bytes(bytes, sizeof bytes);
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, no leading zero */
    BIGNUM *n = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
    BN_free(n);
    return ok;
}

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Tinderbox",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = ext && X509_add_ext(x, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

/* One hour back: clients in containers and guests have clocks that lag. */
static bool set_common(X509 *x, EVP_PKEY *key, const char *common_name, int days)
{
    return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
           X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
           X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL) && X509_set_pubkey(x, key) == 1 &&
           set_name(X509_get_subject_name(x), common_name);
}

static bool ca_extensions(X509 *x, const char *domain)
{
    char names[600];
    snprintf(names, sizeof names,
             "critical,permitted;DNS:%s,permitted;DNS:localhost,"
             "permitted;IP:127.0.0.0/255.0.0.0,"
             "permitted;IP:::1/FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF",
             domain);
    return add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           add_extension(x, x, NID_subject_key_identifier, "hash") &&
           add_extension(x, x, NID_name_constraints, names);
}

int cert_new_ca(EVP_PKEY *key, const char *domain, X509 **ret, struct err *e)
{
    char name[300], id[9];
    unsigned char bytes[4];
    random_bytes(bytes, sizeof bytes);
    snprintf(id, sizeof id, "%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
    snprintf(name, sizeof name, "Tinderbox local CA %s", id); /* tells two installations apart */
    X509 *x = X509_new();
    if (!x || !set_common(x, key, name, CA_DAYS) ||
        X509_set_issuer_name(x, X509_get_subject_name(x)) != 1 || !ca_extensions(x, domain) ||
        X509_sign(x, key, EVP_sha256()) == 0) {
        X509_free(x);
        return failed(e, "the certificate authority");
    }
    *ret = x;
    return 0;
}

static bool leaf_extensions(X509 *x, X509 *ca, const char *domain)
{
    char names[700];
    snprintf(names, sizeof names, "DNS:%s,DNS:*.%s,DNS:localhost,IP:127.0.0.1,IP:::1", domain,
             domain);
    return add_extension(x, ca, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(x, ca, NID_key_usage, "critical,digitalSignature") &&
           add_extension(x, ca, NID_ext_key_usage, "serverAuth") &&
           add_extension(x, ca, NID_subject_key_identifier, "hash") &&
           add_extension(x, ca, NID_authority_key_identifier, "keyid:always") &&
           add_extension(x, ca, NID_subject_alt_name, names);
}

int cert_new_leaf(EVP_PKEY *key, const char *domain, X509 *ca, EVP_PKEY *ca_key, X509 **ret,
                  struct err *e)
{
    X509 *x = X509_new();
    if (!x || !set_common(x, key, "Tinderbox endpoint", LEAF_DAYS) ||
        X509_set_issuer_name(x, X509_get_subject_name(ca)) != 1 ||
        !leaf_extensions(x, ca, domain) || X509_sign(x, ca_key, EVP_sha256()) == 0) {
        X509_free(x);
        return failed(e, "the endpoint certificate");
    }
    *ret = x;
    return 0;
}

bool cert_lives(X509 *cert, int days)
{
    time_t at = time(NULL) + (time_t)days * 86400;
    return X509_cmp_time(X509_get0_notAfter(cert), &at) > 0 &&
           X509_cmp_current_time(X509_get0_notBefore(cert)) < 0;
}

bool cert_covers(X509 *leaf, const char *domain)
{
    char below[300];
    snprintf(below, sizeof below, "x.%s", domain);
    return X509_check_host(leaf, domain, 0, 0, NULL) == 1 &&
           X509_check_host(leaf, below, 0, 0, NULL) == 1;
}

bool cert_ca_permits(X509 *ca, const char *domain)
{
    NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca, NID_name_constraints, NULL, NULL);
    bool found = false;
    int n = nc ? sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) : 0;
    for (int i = 0; i < n && !found; i++) {
        const GENERAL_NAME *base = sk_GENERAL_SUBTREE_value(nc->permittedSubtrees, i)->base;
        if (base->type != GEN_DNS)
            continue;
        const ASN1_IA5STRING *s = base->d.dNSName;
        found = (size_t)ASN1_STRING_length(s) == strlen(domain) &&
                memcmp(ASN1_STRING_get0_data(s), domain, strlen(domain)) == 0;
    }
    NAME_CONSTRAINTS_free(nc);
    return found;
}
