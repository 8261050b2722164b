/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sandbox.h"

#include <unistd.h>

/* No /proc and no device but /dev/null: the programs run without them, and each mount costs start
 * time. The program is PID 1 of its namespace, which saves a reaper process per machine. */
static const char *const fixed[] = {"bwrap",
                                    "--unshare-user",
                                    "--unshare-ipc",
                                    "--unshare-pid",
                                    "--unshare-uts",
                                    "--unshare-cgroup-try",
                                    "--die-with-parent",
                                    "--new-session",
                                    "--as-pid-1",
                                    "--cap-drop",
                                    "ALL",
                                    "--hostname",
                                    "sandbox",
                                    "--clearenv",
                                    "--setenv",
                                    "PATH",
                                    "/usr/bin",
                                    "--setenv",
                                    "LANG",
                                    "C",
                                    "--ro-bind",
                                    "/usr",
                                    "/usr",
                                    "--dev-bind",
                                    "/dev/null",
                                    "/dev/null",
                                    "--chdir",
                                    "/",
                                    NULL};

/* Where /bin and /lib are links into /usr (every current distribution) a link is enough. */
static void add_top_level(struct argv *a, const char *name)
{
    char target[256], path[64] = "/";
    for (size_t i = 0; name[i] && i + 2 < sizeof path; i++)
        path[i + 1] = name[i], path[i + 2] = '\0';
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n > 0) {
        target[n] = '\0';
        argv_add(a, "--symlink");
        argv_add(a, target);
        argv_add(a, path);
    } else {
        argv_add(a, "--ro-bind-try");
        argv_add(a, path);
        argv_add(a, path);
    }
}

void sandbox_begin(struct argv *a, const struct sandbox *s)
{
    for (size_t i = 0; fixed[i]; i++)
        argv_add(a, fixed[i]);
    add_top_level(a, "lib");
    add_top_level(a, "lib64");
    add_top_level(a, "bin");
    argv_add(a, "--ro-bind-try");
    argv_add(a, "/etc/ld.so.cache");
    argv_add(a, "/etc/ld.so.cache");
    if (!s->network)
        argv_add(a, "--unshare-net");
    if (s->info_fd >= 0) {
        argv_add(a, "--info-fd");
        argv_addf(a, "%d", s->info_fd);
    }
}

void sandbox_bind(struct argv *a, const char *host, const char *inside, bool writable)
{
    argv_add(a, writable ? "--bind" : "--ro-bind");
    argv_add(a, host);
    argv_add(a, inside);
}

void sandbox_preload(struct argv *a, int fd, const char *inside)
{
    argv_add(a, "--ro-bind-data");
    argv_addf(a, "%d", fd);
    argv_add(a, inside);
    argv_add(a, "--setenv");
    argv_add(a, "LD_PRELOAD");
    argv_add(a, inside);
}

void sandbox_end(struct argv *a)
{
    /* The root is a tmpfs: writable, it would be the host's memory for the taking. */
    argv_add(a, "--remount-ro");
    argv_add(a, "/");
    argv_add(a, "--");
}
