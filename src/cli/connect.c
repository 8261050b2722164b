/* SPDX-License-Identifier: Apache-2.0 */
/* Where the service is: its home, the daemon that runs there, or a remote one. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/keys.h"
#include "base/fs.h"
#include "base/json.h"
#include "cli/cli.h"

#define DAEMON_FILE_MAX 65536

int cli_find_home(struct cli *c, struct err *e)
{
    const char *home = c->home_option ? c->home_option : getenv("TINDERBOX_HOME");
    const char *xdg = getenv("XDG_DATA_HOME"), *user = getenv("HOME");
    char path[PATH_MAX];
    int n;
    if (home && *home)
        n = snprintf(path, sizeof path, "%s", home);
    else if (xdg && *xdg)
        n = snprintf(path, sizeof path, "%s/tinderbox", xdg);
    else if (user && *user)
        n = snprintf(path, sizeof path, "%s/.local/share/tinderbox", user);
    else
        return err_set(e, EINVAL, "no home: give --home DIR or set TINDERBOX_HOME");
    char cwd[PATH_MAX] = "";
    if (path[0] != '/' && !getcwd(cwd, sizeof cwd))
        return err_set_errno(e, errno, "cannot find the working directory");
    int m = snprintf(c->home, sizeof c->home, "%s%s%s", cwd, *cwd ? "/" : "", path);
    if (n < 0 || m < 0 || (size_t)n >= sizeof path || (size_t)m >= sizeof c->home)
        return err_set(e, ENAMETOOLONG, "the home's path is too long");
    return 0;
}

static bool take(char *out, size_t cap, const json_t *o, const char *key)
{
    const char *s = json_get_str(o, key);
    if (!s || strlen(s) >= cap)
        return false;
    memcpy(out, s, strlen(s) + 1);
    return true;
}

static void take_or(char *out, size_t cap, const json_t *o, const char *key, const char *otherwise)
{
    if (!take(out, cap, o, key))
        snprintf(out, cap, "%s", otherwise);
}

/* The text after the n-th blank, or NULL. */
static const char *after_blanks(const char *s, int n)
{
    for (; s && n > 0; n--) {
        s = strchr(s, ' ');
        s = s ? s + 1 : NULL;
    }
    return s;
}

static double boot_time(void)
{
    char line[1024];
    double boot = 0;
    FILE *f = fopen("/proc/stat", "re");
    while (f && boot == 0 && fgets(line, sizeof line, f)) {
        if (strncmp(line, "btime ", 6) == 0)
            boot = (double)strtoull(line + 6, NULL, 10);
    }
    if (f)
        fclose(f);
    return boot;
}

/* Seconds since the epoch at which a process started; 0 when there is none or it is a zombie. */
static double process_start(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    /* Behind the name, which may contain anything: state is field 3, starttime field 22. */
    const char *after = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    const char *state = after_blanks(after, 1), *ticks = after_blanks(state, 19);
    if (!ticks || *state == 'Z')
        return 0;
    return boot_time() + (double)strtoull(ticks, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
}

static int read_daemon(const struct cli *c, json_t **ret, struct stat *st, struct err *e)
{
    char path[600];
    CLEANUP(buf_done)
    struct buf text = BUF_INIT(DAEMON_FILE_MAX);
    int rc = path_join(path, sizeof path, c->home, "run/daemon.json", e);
    if (rc == 0 && stat(path, st) < 0)
        rc = err_set_errno(e, errno, "cannot read %s", path);
    if (rc == 0)
        rc = fs_read_file(path, &text, e);
    if (rc == 0)
        rc = json_parse(text.data, text.len, DAEMON_FILE_MAX, ret, e);
    return rc;
}

static bool take_addresses(struct cli *c, const json_t *o)
{
    const json_t *endpoint = json_object_get(o, "endpoint");
    c->endpoint_port = json_get_int(endpoint, "port", 443);
    take_or(c->domain, sizeof c->domain, endpoint, "domain", "microvm.localhost");
    take_or(c->endpoint_address, sizeof c->endpoint_address, endpoint, "address", "127.0.0.1");
    take_or(c->region, sizeof c->region, o, "region", "us-east-1");
    take_or(c->account, sizeof c->account, o, "account", "000000000000");
    take_or(c->ca, sizeof c->ca, o, "ca", "");
    take_or(c->version, sizeof c->version, o, "version", "");
    return take(c->api, sizeof c->api, o, "api") && take(c->s3, sizeof c->s3, o, "s3");
}

/* The file outlives a daemon that was killed, and its pid may be somebody else's by now: that
 * process started after the file was written. */
bool cli_daemon_alive(struct cli *c)
{
    CLEANUP(cleanup_json)
    json_t *o = NULL;
    struct stat st = {0};
    if (read_daemon(c, &o, &st, NULL) < 0)
        return false;
    int64_t pid = json_get_int(o, "pid", 0);
    if (pid < 2 || pid > INT_MAX)
        return false;
    double start = process_start((pid_t)pid);
    if (start <= 0 || start > (double)st.st_mtim.tv_sec + 2)
        return false;
    c->pid = (pid_t)pid;
    return take_addresses(c, o);
}

static int take_env(char *out, size_t cap, const char *name, const char *otherwise, struct err *e)
{
    const char *v = getenv(name);
    if (!v || !*v)
        v = otherwise;
    if (!v)
        return err_set(e, EINVAL, "--remote needs %s in the environment", name);
    if (strlen(v) >= cap)
        return err_set(e, EINVAL, "%s is too long", name);
    memcpy(out, v, strlen(v) + 1);
    size_t n = strlen(out);
    if (n && out[n - 1] == '/')
        out[n - 1] = '\0';
    return 0;
}

static int connect_remote(struct cli *c, struct err *e)
{
    const char *any = getenv("AWS_ENDPOINT_URL"), *region = getenv("AWS_DEFAULT_REGION");
    int rc = take_env(c->api, sizeof c->api, "AWS_ENDPOINT_URL_LAMBDA_MICROVMS", any, e);
    if (rc == 0)
        rc = take_env(c->s3, sizeof c->s3, "AWS_ENDPOINT_URL_S3", any, e);
    if (rc == 0)
        rc = take_env(c->region, sizeof c->region, "AWS_REGION", region ? region : "us-east-1", e);
    if (rc == 0)
        rc = take_env(c->ca, sizeof c->ca, "TINDERBOX_CA", "", e);
    if (rc == 0)
        rc = take_env(c->account, sizeof c->account, "AWS_ACCOUNT_ID", "000000000000", e);
    if (rc == 0)
        rc = take_env(c->credential.access_key, sizeof c->credential.access_key,
                      "AWS_ACCESS_KEY_ID", NULL, e);
    if (rc == 0)
        rc = take_env(c->credential.secret_key, sizeof c->credential.secret_key,
                      "AWS_SECRET_ACCESS_KEY", NULL, e);
    return rc;
}

int cli_connect(struct cli *c, struct err *e)
{
    char keys[600];
    if (c->remote)
        return connect_remote(c, e);
    if (!cli_daemon_alive(c))
        return err_set(e, ENOTCONN,
                       "the service is not running in %s: start it with 'tinderbox up'", c->home);
    int rc = path_join(keys, sizeof keys, c->home, "keys", e);
    return rc < 0 ? rc : auth_credential_read(keys, &c->credential, e);
}
