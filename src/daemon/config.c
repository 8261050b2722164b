/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

#define FILE_MAX_BYTES 65536

enum kind { TEXT, NUMBER, FLAG };

/* min and max: of a number, or of a text's length. */
static const struct key {
    const char *name;
    enum kind kind;
    size_t offset;
    size_t size;
    long min, max;
    const char *otherwise;
    const char *help;
} KEYS[] = {
#define T(name, member, min, def, help)                                                         \
    {                                                                                           \
        name, TEXT, offsetof(struct config, member), sizeof(((struct config *)0)->member), min, \
            (long)sizeof(((struct config *)0)->member) - 1, def, help                           \
    }
#define N(name, member, min, max, def, help)                                             \
    {                                                                                    \
        name, NUMBER, offsetof(struct config, member), sizeof(long), min, max, def, help \
    }
#define F(name, member, def, help)                                                 \
    {                                                                              \
        name, FLAG, offsetof(struct config, member), sizeof(bool), 0, 1, def, help \
    }
    T("region", region, 1, "us-east-1", "region in ARNs the service makes by itself"),
    T("account", account, 12, "000000000000", "account in ARNs: 12 digits"),
    T("api.address", api_address, 1, "127.0.0.1", "where the AWS API listens"),
    N("api.port", api_port, 0, 65535, "8400", "0 = any free port"),
    T("s3.address", s3_address, 1, "127.0.0.1", "where the S3 subset listens"),
    N("s3.port", s3_port, 0, 65535, "8401", "0 = any free port"),
    T("endpoint.address", endpoint_address, 1, "127.0.0.1", "where microVM endpoints listen"),
    N("endpoint.port", endpoint_port, 0, 65535, "8443",
      "HTTPS port; part of the endpoint unless 443"),
    T("endpoint.domain", endpoint_domain, 1, "microvm.localhost", "<uuid>.<domain> is an endpoint"),
    T("engine.kind", engine_kind, 1, "auto",
      "auto, kvm or qemu; an image runs on the engine that built it"),
    F("engine.sandbox", engine_sandbox, "true", "run every machine in a bubblewrap sandbox"),
    T("engine.cgroup", engine_cgroup, 1, "auto",
      "limits by cgroup v2: auto (where possible), none, or a directory"),
    F("engine.huge_pages", engine_huge_pages, "false", "KVM: huge pages while an image is made"),
    N("engine.disk_bytes_per_second", engine_disk_bytes, 0, LONG_MAX, "0",
      "KVM: of each disk of a machine; 0 = unlimited"),
    N("engine.disk_requests_per_second", engine_disk_requests, 0, LONG_MAX, "0",
      "KVM: of each disk of a machine; 0 = unlimited"),
    N("engine.net_bytes_per_second", engine_net_bytes, 0, LONG_MAX, "0",
      "KVM: of a machine, in each direction; 0 = unlimited"),
    N("engine.pool", engine_pool, 0, 64, "1", "KVM: monitors kept started ahead of need"),
    N("engine.max_vcpus", engine_max_vcpus, 1, 16, "1", "vCPUs of a machine at most"),
    T("guest.dir", guest_dir, 0, "", "kernel, initramfs, root file systems; default <home>/guest"),
    T("helper.dir", helper_dir, 0, "", "where tinderbox-net is; default: beside the daemon"),
    T("build.ca_bundle", build_ca_bundle, 0, "/etc/ssl/certs/ca-certificates.crt",
      "PEM file lent to RUN steps, never part of an image; empty = none"),
    N("build.max_concurrent", build_max_concurrent, 1, 64, "2", "builds at the same time"),
    N("build.cache_gib", build_cache_gib, 0, 1 << 20, "20",
      "step cache: least recently used steps go first"),
    N("microvm.retention_hours", microvm_retention_hours, 1, 24 * 365, "24",
      "how long terminated microVMs and their logs are remembered"),
    N("memory.max_mib", memory_max_mib, 0, 1L << 30, "0",
      "of all VMs together; 0 = three quarters of the machine"),
    T("log.level", log_level, 1, "info", "debug, info, warn or error"),
#undef T
#undef N
#undef F
};

static void *member(const struct config *c, const struct key *k)
{
    return (char *)(uintptr_t)c + k->offset;
}

static int set_value(struct config *c, const struct key *k, const char *value, struct err *e)
{
    char *end;
    size_t n = strlen(value);
    switch (k->kind) {
    case TEXT:
        if ((long)n < k->min || (long)n > k->max)
            return err_set(e, EINVAL, "%s: length must be %ld to %ld", k->name, k->min, k->max);
        memcpy(member(c, k), value, n + 1);
        return 0;
    case NUMBER: {
        errno = 0;
        long v = strtol(value, &end, 10);
        if (errno || !n || *end || v < k->min || v > k->max)
            return err_set(e, EINVAL, "%s: '%s' is not a number from %ld to %ld", k->name, value,
                           k->min, k->max);
        memcpy(member(c, k), &v, sizeof v);
        return 0;
    }
    case FLAG: {
        bool on = strcmp(value, "true") == 0;
        if (!on && strcmp(value, "false") != 0)
            return err_set(e, EINVAL, "%s: '%s' is neither true nor false", k->name, value);
        memcpy(member(c, k), &on, sizeof on);
        return 0;
    }
    }
    return 0;
}

static int set_key(struct config *c, const char *name, const char *value, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        if (strcmp(KEYS[i].name, name) == 0)
            return set_value(c, &KEYS[i], value, e);
    return err_set(e, EINVAL, "unknown key '%s' (tinderboxd --print-config lists them)", name);
}

static char *trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    char *end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1]))
        *--end = '\0';
    return s;
}

static int set_pair(struct config *c, char *pair, struct err *e)
{
    char *eq = strchr(pair, '=');
    if (!eq)
        return err_set(e, EINVAL, "'%s' is not key = value", pair);
    *eq = '\0';
    return set_key(c, trim(pair), trim(eq + 1), e);
}

static int load_file(struct config *c, const char *path, struct err *e)
{
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(FILE_MAX_BYTES);
    if (!fs_exists(path))
        return 0;
    int r = fs_read_file(path, &b, e);
    if (r < 0)
        return r;
    char *text = b.data ? b.data : (char[]){""};
    unsigned number = 0;
    for (char *line = text, *next; r == 0 && line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        line = trim(line);
        if (*line && *line != '#')
            r = set_pair(c, line, e);
    }
    return r < 0 ? err_wrap(e, "%s:%u", path, number) : 0;
}

static int default_home(char *out, size_t cap, struct err *e)
{
    const char *home = getenv("TINDERBOX_HOME"), *xdg = getenv("XDG_DATA_HOME"),
               *user = getenv("HOME");
    int n = 0;
    if (home && *home)
        n = snprintf(out, cap, "%s", home);
    else if (xdg && *xdg)
        n = snprintf(out, cap, "%s/tinderbox", xdg);
    else if (user && *user)
        n = snprintf(out, cap, "%s/.local/share/tinderbox", user);
    else
        return err_set(e, EINVAL, "no home: give --home DIR or set TINDERBOX_HOME");
    return n < 0 || (size_t)n >= cap ? err_set(e, ENAMETOOLONG, "home path too long") : 0;
}

static int own_dir(char *out, size_t cap, struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n < 0)
        return err_set_errno(e, errno, "/proc/self/exe");
    out[n] = '\0';
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
    return 0;
}

static int fill_paths(struct config *c, struct err *e)
{
    char abs[PATH_MAX];
    int r = fs_mkdir_p(c->home, 0700, e);
    if (r < 0)
        return r;
    if (!realpath(c->home, abs) || strlen(abs) >= sizeof c->home)
        return err_set_errno(e, ENAMETOOLONG, "home %s", c->home);
    memcpy(c->home, abs, strlen(abs) + 1);
    if (!c->guest_dir[0])
        r = path_join(c->guest_dir, sizeof c->guest_dir, c->home, "guest", e);
    if (r == 0 && !c->helper_dir[0]) {
        char self[PATH_MAX], built[PATH_MAX];
        r = own_dir(self, sizeof self, e);
        /* In a build tree the programs are in sibling directories. */
        if (r == 0 && snprintf(built, sizeof built, "%s/../net/tinderbox-net", self) > 0 &&
            fs_exists(built))
            r = path_join(c->helper_dir, sizeof c->helper_dir, self, "../net", e);
        else if (r == 0)
            r = path_join(c->helper_dir, sizeof c->helper_dir, self, ".", e);
    }
    return r;
}

int config_load(int argc, char **argv, struct config *ret, struct err *e)
{
    struct config c = {0};
    char file[600];
    int r = default_home(c.home, sizeof c.home, e);
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--home") == 0)
            r = snprintf(c.home, sizeof c.home, "%s", argv[i + 1]) < (int)sizeof c.home
                    ? 0
                    : err_set(e, ENAMETOOLONG, "home path too long");
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(KEYS); i++)
        r = set_value(&c, &KEYS[i], KEYS[i].otherwise, e);
    if (r == 0 && !fs_exists(c.build_ca_bundle))
        c.build_ca_bundle[0] = '\0'; /* the default only where the host has it */
    snprintf(file, sizeof file, "%s/tinderbox.conf", c.home);
    if (r == 0)
        r = load_file(&c, file, e);
    for (int i = 1; r == 0 && i < argc; i++) {
        if (strcmp(argv[i], "--home") == 0 && i + 1 < argc) {
            i++;
        } else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc) {
            r = set_pair(&c, argv[++i], e);
        } else if (strcmp(argv[i], "--print-config") != 0) {
            r = err_set(e, EINVAL, "unknown argument '%s'", argv[i]);
        }
    }
    if (r == 0 && strspn(c.account, "0123456789") != 12)
        r = err_set(e, EINVAL, "account: 12 digits");
    if (r == 0)
        r = fill_paths(&c, e);
    if (r == 0)
        *ret = c;
    return r;
}

void config_print(const struct config *c, FILE *out)
{
    fprintf(out, "# home: %s\n", c->home);
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
        const struct key *k = &KEYS[i];
        fprintf(out, "\n# %s\n%s = ", k->help, k->name);
        if (k->kind == TEXT)
            fprintf(out, "%s\n", (const char *)member(c, k));
        else if (k->kind == NUMBER)
            fprintf(out, "%ld\n", *(const long *)member(c, k));
        else
            fprintf(out, "%s\n", *(const bool *)member(c, k) ? "true" : "false");
    }
}

void config_each(void (*fn)(const char *key, const char *help, void *arg), void *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        fn(KEYS[i].name, KEYS[i].help, arg);
}
