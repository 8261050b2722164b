/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets are made once, kept, guarded and renewed; the certificates are judged by OpenSSL's own
 * verification in a real handshake and, where it is installed, by curl. */
#include "common.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/certs.h"
#include "auth/keys.h"
#include "base/fs.h"

#define DOMAIN "microvm.localhost"

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/tinderbox-keys-XXXXXX");
    *state = dir;
    return dir && mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct err e;
    int rc = fs_remove_tree(*state, &e);
    free(*state);
    return rc;
}

static void in_keys(char out[200], const char *dir, const char *name)
{
    snprintf(out, 200, "%s/keys%s%s", dir, *name ? "/" : "", name);
}

static void open_keys(const char *dir, const char *domain, struct auth_keys *k)
{
    struct err e;
    char keys[200];
    in_keys(keys, dir, "");
    assert_ok(auth_keys_open(keys, domain, k, &e), e);
}

static void read_all(const char *path, struct buf *b)
{
    struct err e;
    *b = BUF_INIT(0);
    assert_ok(fs_read_file(path, b, &e), e);
}

static X509 *load(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(x);
    return x;
}

static void made_once(void **state)
{
    struct auth_keys a, b;
    struct buf c1, c2;
    open_keys(*state, DOMAIN, &a);
    read_all(a.cert_path, &c1);
    open_keys(*state, DOMAIN, &b);
    read_all(b.cert_path, &c2);
    assert_int_equal(strlen(a.credential.access_key), 20);
    assert_int_equal(strlen(a.credential.secret_key), 40);
    assert_string_equal(a.credential.secret_key, b.credential.secret_key);
    assert_string_equal(a.token.kid, b.token.kid);
    assert_memory_equal(a.token.key, b.token.key, 32);
    assert_int_equal(c1.len, c2.len);
    assert_memory_equal(c1.data, c2.data, c1.len);
    buf_done(&c1);
    buf_done(&c2);
    auth_keys_done(&a);
    for (size_t i = 0; i < sizeof a; i++)
        assert_int_equal(((unsigned char *)&a)[i], 0);
    auth_keys_done(&b);
}

static void private_files(void **state)
{
    static const struct {
        const char *name;
        mode_t mode;
    } rows[] = {{"", 0700},       {"credential.json", 0600}, {"token.json", 0600},
                {"ca.key", 0600}, {"endpoint.key", 0600},    {"endpoint.pem", 0600},
                {"ca.pem", 0644}};
    struct auth_keys k;
    struct err e;
    umask(0);
    open_keys(*state, DOMAIN, &k);
    umask(022);
    char path[200];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct stat st;
        in_keys(path, *state, rows[i].name);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, rows[i].mode);
    }
    /* a secret that others can read is refused with the command that mends it */
    in_keys(path, *state, "token.json");
    assert_int_equal(chmod(path, 0644), 0);
    in_keys(path, *state, "");
    assert_int_equal(auth_keys_open(path, DOMAIN, &k, &e), -EACCES);
    assert_non_null(strstr(e.text, "chmod 600"));
}

/* What cannot be understood is never replaced. */
static void damaged_files(void **state)
{
    static const char *const names[] = {"credential.json", "token.json", "ca.key",
                                        "endpoint.key",    "ca.pem",     "endpoint.pem"};
    struct auth_keys k;
    char keys[200], path[200];
    in_keys(keys, *state, "");
    open_keys(*state, DOMAIN, &k);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct err e;
        struct buf good, after;
        in_keys(path, *state, names[i]);
        read_all(path, &good);
        assert_ok(fs_write_file(path, "{\"half\"", 7, 0600, &e), e);
        assert_true(auth_keys_open(keys, DOMAIN, &k, &e) < 0);
        assert_non_null(strstr(e.text, names[i]));
        read_all(path, &after);
        assert_int_equal(after.len, 7);
        assert_ok(fs_write_file(path, good.data, good.len, 0600, &e), e);
        buf_done(&good);
        buf_done(&after);
    }
    open_keys(*state, DOMAIN, &k);
    /* an interrupted first start: what is missing is made again around what is there */
    in_keys(path, *state, "endpoint.pem");
    assert_int_equal(unlink(path), 0);
    open_keys(*state, DOMAIN, &k);
    assert_true(fs_exists(path));
}

static void bad_domains(void **state)
{
    static const char *const bad[] = {"", ".", "a..b", ".a", "a.", "A", "a,DNS:b", "a b", "a\nb"};
    char keys[200];
    in_keys(keys, *state, "");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct auth_keys k;
        struct err e;
        assert_int_equal(auth_keys_open(keys, bad[i], &k, &e), -EINVAL);
        assert_false(fs_exists(keys));
    }
}

static void certificate_contents(void **state)
{
    struct auth_keys k;
    open_keys(*state, DOMAIN, &k);
    X509 *leaf = load(k.cert_path), *ca = load(k.ca_path);
    static const char *const covered[] = {DOMAIN, "0f0e.microvm.localhost", "localhost"};
    static const char *const others[] = {"a.b.microvm.localhost", "example.com", "xlocalhost"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(X509_check_host(leaf, covered[i], 0, 0, NULL), 1);
        assert_int_equal(X509_check_host(leaf, others[i], 0, 0, NULL), 0);
    }
    assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "::1", 0), 1);
    assert_int_equal(X509_check_ca(ca), 1);
    assert_int_equal(X509_check_ca(leaf), 0);
    assert_true(cert_lives(ca, 3640));
    assert_false(cert_lives(ca, 3660));
    assert_true(cert_lives(leaf, 300));
    X509_free(leaf);
    X509_free(ca);
}

static bool verifies(X509 *leaf, X509 *ca, const char *host)
{
    X509_STORE *s = X509_STORE_new();
    X509_STORE_CTX *c = X509_STORE_CTX_new();
    X509_STORE_add_cert(s, ca);
    X509_STORE_CTX_init(c, s, leaf, NULL);
    X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(c), host, 0);
    bool ok = X509_verify_cert(c) == 1;
    X509_STORE_CTX_free(c);
    X509_STORE_free(s);
    return ok;
}

/* The authority cannot be used to imitate other sites. */
static void name_constraints(void **state)
{
    (void)state;
    struct err e;
    EVP_PKEY *ca_key = NULL, *key = NULL;
    X509 *ca = NULL, *good = NULL, *evil = NULL;
    assert_ok(cert_new_key(&ca_key, &e), e);
    assert_ok(cert_new_key(&key, &e), e);
    assert_ok(cert_new_ca(ca_key, DOMAIN, &ca, &e), e);
    assert_ok(cert_new_leaf(key, DOMAIN, ca, ca_key, &good, &e), e);
    assert_ok(cert_new_leaf(key, "bank.example", ca, ca_key, &evil, &e), e);
    assert_true(verifies(good, ca, "x." DOMAIN));
    assert_false(verifies(good, ca, "bank.example"));
    assert_false(verifies(evil, ca, "bank.example"));
    X509_free(ca);
    X509_free(good);
    X509_free(evil);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
}

/* Puts a certificate of our own making in place of the endpoint's and looks whether it stays. */
static void renewal(void **state)
{
    struct auth_keys k;
    struct err e;
    struct buf before, after;
    open_keys(*state, DOMAIN, &k);
    X509 *leaf = load(k.cert_path);
    X509_gmtime_adj(X509_getm_notAfter(leaf), 86400L * 29); /* due (and its signature is broken) */
    FILE *f = fopen(k.cert_path, "w");
    PEM_write_X509(f, leaf);
    fclose(f);
    X509_free(leaf);
    read_all(k.cert_path, &before);
    open_keys(*state, DOMAIN, &k);
    leaf = load(k.cert_path);
    assert_true(cert_lives(leaf, 300));
    X509_free(leaf);
    buf_done(&before);
    /* another domain: new authority (its constraints name the old one) and new certificate */
    read_all(k.ca_path, &before);
    open_keys(*state, "vm.example.test", &k);
    read_all(k.ca_path, &after);
    assert_true(before.len != after.len || memcmp(before.data, after.data, after.len) != 0);
    leaf = load(k.cert_path);
    X509 *ca = load(k.ca_path);
    assert_true(verifies(leaf, ca, "x.vm.example.test"));
    X509_free(leaf);
    X509_free(ca);
    buf_done(&before);
    buf_done(&after);
    (void)e;
}

static void serve(SSL_CTX *ctx, int listener)
{
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        SSL *ssl = SSL_new(ctx);
        SSL_set_fd(ssl, fd);
        char request[2048];
        static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
                                    "Connection: close\r\n\r\nhi\n";
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof request) > 0) {
            SSL_write(ssl, reply, sizeof reply - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(fd);
    }
}

static int run_curl(const char *ca, const char *host, unsigned port, const char *flags)
{
    char command[700];
    snprintf(command, sizeof command,
             "curl -sS --noproxy '*' --cacert %s --max-time 10 --resolve %s:%u:127.0.0.1 %s "
             "https://%s:%u/ >/dev/null 2>&1",
             ca, host, port, flags, host, port);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void handshake_with_curl(void **state)
{
    struct auth_keys k;
    struct err e;
    SSL_CTX *ctx = NULL;
    if (system("curl --version >/dev/null 2>&1") != 0)
        skip(); /* curl is not installed */
    open_keys(*state, DOMAIN, &k);
    assert_ok(auth_tls_context(&k, &ctx, &e), e);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &n), 0);
    pid_t pid = fork();
    if (pid == 0)
        serve(ctx, listener);
    unsigned port = ntohs(a.sin_port);
    int ok = run_curl(k.ca_path, "0f0e0d0c." DOMAIN, port, "");
    int local = run_curl(k.ca_path, "localhost", port, "--tlsv1.3");
    int old = run_curl(k.ca_path, "0f0e0d0c." DOMAIN, port, "--tls-max 1.1");
    int other = run_curl(k.ca_path, "bank.example", port, "");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(listener);
    SSL_CTX_free(ctx);
    assert_int_equal(ok, 0);
    assert_int_equal(local, 0);
    assert_int_equal(old, 35);   /* handshake refused */
    assert_int_equal(other, 60); /* certificate not valid for the name */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(made_once),
        TEST(private_files),
        TEST(damaged_files),
        TEST(bad_domains),
        TEST(certificate_contents),
        TEST(renewal),
        TEST(handshake_with_curl),
        cmocka_unit_test(name_constraints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
