/* SPDX-License-Identifier: Apache-2.0 */
/* The last steps in the child: user, working directory, terminal, limits, capabilities, exec. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "guest/launch.h"
#include "guest/rootfs.h"
#include "guest/user.h"

/* Docker's default set: chown dac_override fowner fsetid kill setgid setuid setpcap
 * net_bind_service net_raw sys_chroot mknod audit_write setfcap. */
#define DEFAULT_CAPS 0x00000000a80425fbull
#define NOFILE_SOFT 1024
#define NOFILE_HARD 65536

/* A file of the image, which may be anything: only a regular one is read, the rest is "". */
static char *read_image_file(const char *path)
{
    struct buf b = BUF_INIT(USER_FILE_MAX);
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        char chunk[4096];
        ssize_t n;
        while ((n = read(fd, chunk, sizeof chunk)) > 0)
            if (buf_add(&b, chunk, (size_t)n) < 0)
                break;
    }
    return buf_take(&b);
}

static int find_ids(const char *spec, struct user_ids *ids, struct err *e)
{
    CLEANUP(cleanup_free)
    char *passwd = read_image_file("/etc/passwd");
    CLEANUP(cleanup_free)
    char *group = read_image_file("/etc/group");
    return user_lookup(spec ? spec : "", passwd, group, ids, e);
}

static int enter_cwd(const struct launch *l, struct err *e)
{
    const char *cwd = l->cwd ? l->cwd : "/";
    if (chdir(cwd) == 0)
        return 0;
    int r = -errno;
    if (r == -ENOENT && l->make_cwd) {
        r = rootfs_mkdir_p(cwd);
        if (r == 0 && chdir(cwd) == 0)
            return 0;
        r = r < 0 ? r : -errno;
    }
    return err_set_errno(e, -r, "cannot enter the working directory '%s'", cwd);
}

static int take_terminal(const struct launch *l, int sock, uid_t uid, struct err *e)
{
    CLEANUP(cleanup_close)
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return err_set_errno(e, errno, "cannot open a terminal");
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    const struct winsize size = {.ws_row = l->rows, .ws_col = l->cols};
    if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) < 0 || ioctl(slave, TIOCSWINSZ, &size) < 0)
        return err_set_errno(e, errno, "cannot take a terminal");
    if (fchown(slave, uid, (gid_t)-1) < 0) /* for programs that reopen their terminal by name */
        return err_set_errno(e, errno, "cannot hand the terminal over");
    launch_say(sock, 'T', NULL, 0, master);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(slave, fd) < 0)
            return err_set_errno(e, errno, "cannot use a terminal");
    return 0;
}

static int take_fds(const struct launch *l, struct err *e)
{
    int high[3]; /* first out of the way: a source may be one of 0, 1, 2 */
    for (int fd = 0; fd < 3; fd++) {
        high[fd] = fcntl(l->fds[fd], F_DUPFD_CLOEXEC, 3);
        if (high[fd] < 0)
            return err_set_errno(e, errno, "cannot pass descriptors");
    }
    for (int fd = 0; fd < 3; fd++)
        if (dup2(high[fd], fd) < 0)
            return err_set_errno(e, errno, "cannot pass descriptors");
    return 0;
}

static int drop_caps(const struct launch *l, struct err *e)
{
    unsigned long long keep = l->all_caps ? ~0ull : DEFAULT_CAPS, have = 0;
    for (unsigned long cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        have |= 1ull << cap;
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return err_set_errno(e, errno, "cannot drop a capability");
    }
    keep &= have;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (unsigned)keep, .permitted = (unsigned)keep},
        {.effective = (unsigned)(keep >> 32), .permitted = (unsigned)(keep >> 32)}};
    if (syscall(SYS_capset, &head, data) < 0)
        return err_set_errno(e, errno, "cannot set capabilities");
    return 0;
}

/* The kernel clears the capabilities of whoever is not root when the uid changes. */
static int become(const struct launch *l, const struct user_ids *ids, struct err *e)
{
    if (l->where == LAUNCH_HERE && geteuid() != 0)
        return 0;
    if (setgroups(ids->n_groups, ids->groups) < 0 || setresgid(ids->gid, ids->gid, ids->gid) < 0)
        return err_set_errno(e, errno, "cannot take group %u", ids->gid);
    int r = drop_caps(l, e);
    if (r == 0 && setresuid(ids->uid, ids->uid, ids->uid) < 0)
        r = err_set_errno(e, errno, "cannot become user %u", ids->uid);
    return r;
}

static void set_limits(void)
{
    const struct rlimit files = {NOFILE_SOFT, NOFILE_HARD};
    (void)setrlimit(RLIMIT_NOFILE, &files); /* refused only where we are not root: tests */
    CLEANUP(cleanup_close)
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fs_write_all(fd, "0", 1) < 0) /* the agent is exempt, the application is not */
        log_debug("agent", "oom_score_adj stays as it is");
    umask(022);
}

static const char *env_get(char *const *env, const char *key)
{
    size_t n = strlen(key);
    for (; *env; env++)
        if (strncmp(*env, key, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

static char **with_home(char **env, const char *home)
{
    if (env_get(env, "HOME"))
        return env;
    static char var[300];
    size_t n = 0;
    while (env[n])
        n++;
    char **more = calloc(n + 2, sizeof *more);
    if (!more)
        return env;
    snprintf(var, sizeof var, "HOME=%s", home);
    memcpy(more, env, n * sizeof *more);
    more[n] = var;
    return more;
}

static int exec_failed(const char *what, int code, struct err *e)
{
    if (code == ENOENT || code == ENOTDIR)
        return err_set(e, code, "exec: \"%s\": no such file or directory", what);
    if (code == EACCES)
        return err_set(e, code, "exec: \"%s\": permission denied", what);
    if (code == ENOEXEC)
        return err_set(e, code, "exec: \"%s\": exec format error", what);
    return err_set_errno(e, code, "exec: \"%s\"", what);
}

static int exec_in_path(const struct launch *l, char **env, struct err *e)
{
    const char *name = l->argv[0], *path = env_get(env, "PATH");
    if (strchr(name, '/')) {
        execve(name, l->argv, env);
        return exec_failed(name, errno, e);
    }
    bool denied = false;
    while (path && *path && *name) {
        size_t n = strcspn(path, ":");
        char file[4096];
        if (n && (size_t)snprintf(file, sizeof file, "%.*s/%s", (int)n, path, name) < sizeof file) {
            struct stat st;
            if (stat(file, &st) == 0 && S_ISREG(st.st_mode)) {
                execve(file, l->argv, env);
                if (errno != EACCES)
                    return exec_failed(file, errno, e);
                denied = true;
            }
        }
        path += n + (path[n] == ':');
    }
    if (denied)
        return exec_failed(name, EACCES, e);
    return err_set(e, ENOENT, "exec: \"%s\": executable file not found in $PATH", name);
}

int launch_exec(const struct launch *l, int sock, struct err *e)
{
    struct user_ids ids;
    int r = find_ids(l->user, &ids, e);
    if (r == 0)
        r = enter_cwd(l, e);
    if (r < 0)
        return r;
    setsid(); /* fails only for a leader, which is what we want to be */
    set_limits();
    r = l->tty ? take_terminal(l, sock, ids.uid, e) : take_fds(l, e);
    if (r == 0)
        r = become(l, &ids, e);
    if (r < 0)
        return r;
    char **env = with_home(l->env, ids.home);
    r = exec_in_path(l, env, e);
    if (env != l->env)
        free(env);
    return r;
}
