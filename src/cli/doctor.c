/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of doctor that need no machine to be started. */
#include "cli/doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/engine.h"
#include "engine/kvm_probe.h"

#define CGROUP2_MAGIC 0x63677270
#define MIB (1024 * 1024)
#define DISK_MIN_MIB 3072 /* guest kit, one image, its snapshot */
#define DISK_GOOD_MIB 10240
#define MEMORY_MIN_MIB 1536

static void found(struct finding *f, enum finding_level level, const char *fix, const char *fmt,
                  ...) PRINTF(4, 5);

static void found(struct finding *f, enum finding_level level, const char *fix, const char *fmt,
                  ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    f->level = level;
    snprintf(f->fix, sizeof f->fix, "%s", fix ? fix : "");
}

/* ---- machine ----------------------------------------------------------------------------------
 */

static void check_system(const struct cli *c, struct finding *f)
{
    (void)c;
    struct utsname u;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uname(&u);
    if (strcmp(u.machine, "x86_64") == 0)
        found(f, FINDING_OK, NULL, "Linux %s, %s, %ld CPUs", u.release, u.machine, cpus);
    else
        found(f, FINDING_MISSING, NULL, "%s is not supported yet: x86_64 is needed", u.machine);
}

static void check_memory(const struct cli *c, struct finding *f)
{
    (void)c;
    long mib = sysconf(_SC_PHYS_PAGES) / (MIB / sysconf(_SC_PAGESIZE));
    if (mib < MEMORY_MIN_MIB)
        found(f, FINDING_NOTE, NULL, "%ld MiB: microVMs of 512 MiB fit, larger ones do not", mib);
    else
        found(f, FINDING_OK, NULL, "%ld MiB", mib);
}

/* The nearest directory that exists: the home may not be there yet. */
static void existing_above(const char *path, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s", path);
    while (access(out, F_OK) != 0) {
        char *slash = strrchr(out, '/');
        if (!slash || slash == out) {
            strcpy(out, "/");
            return;
        }
        *slash = '\0';
    }
}

static void check_disk(const struct cli *c, struct finding *f)
{
    char dir[PATH_MAX];
    struct err e;
    uint64_t bytes = 0;
    existing_above(c->home, dir);
    if (fs_free_bytes(dir, &bytes, &e) < 0) {
        found(f, FINDING_MISSING, NULL, "%s", e.text);
        return;
    }
    unsigned long long mib = bytes / MIB;
    char fix[200];
    snprintf(fix, sizeof fix, "free some space, or choose another place with TINDERBOX_HOME");
    if (access(dir, W_OK) != 0)
        found(f, FINDING_MISSING, "export TINDERBOX_HOME=<a directory of yours>",
              "%s cannot be written", dir);
    else if (mib < DISK_MIN_MIB)
        found(f, FINDING_MISSING, fix, "%llu MiB free in %s; %d are needed", mib, dir,
              DISK_MIN_MIB);
    else if (mib < DISK_GOOD_MIB)
        found(f, FINDING_NOTE, fix, "%llu MiB free in %s: enough for a few images", mib, dir);
    else
        found(f, FINDING_OK, NULL, "%.1f GiB free in %s", (double)mib / 1024, dir);
}

/* ---- engine ------------------------------------------------------------------------------------
 */

/* The value of a key in <home>/tinderbox.conf, as the daemon will read it; the last one counts. */
static bool configured(const struct cli *c, const char *key, char *out, size_t cap)
{
    char path[600], line[1024];
    bool yes = false;
    snprintf(path, sizeof path, "%s/tinderbox.conf", c->home);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        char *save, *name = strtok_r(line, "=", &save), *value = strtok_r(NULL, "\n", &save);
        if (!name || !value)
            continue;
        name += strspn(name, " \t");
        if (strncmp(name, key, strlen(key)) != 0 ||
            name[strlen(key) + strspn(name + strlen(key), " \t")] != '\0')
            continue;
        value += strspn(value, " \t");
        snprintf(out, cap, "%.*s", (int)strcspn(value, " \t\r"), value);
        yes = true;
    }
    if (file)
        fclose(file);
    return yes;
}

/* Where the daemon will look for its helpers. */
static void helper_dir(const struct cli *c, char out[PATH_MAX])
{
    static const char *const places[] = {".", "../net", "../libexec/tinderbox"};
    char self[PATH_MAX], program[PATH_MAX + 32];
    if (configured(c, "helper.dir", out, PATH_MAX) && *out)
        return;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n < 0 ? 0 : n] = '\0';
    int dir = (int)(strrchr(self, '/') ? strrchr(self, '/') - self : 0);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (snprintf(out, PATH_MAX, "%.*s/%s", dir, self, places[i]) >= PATH_MAX)
            continue;
        snprintf(program, sizeof program, "%s/tinderbox-net", out);
        if (access(program, X_OK) == 0)
            return;
    }
}

static struct {
    bool known;
    char kind[32];
    const char *engine; /* NULL: the configuration names none */
    char why[300];
    struct kvm_probe kvm;
} choice; /* the probe takes half a second where there is no hardware: made once */

static const char *chosen_engine(const struct cli *c)
{
    char dir[PATH_MAX] = "";
    if (choice.known)
        return choice.engine;
    if (!configured(c, "engine.kind", choice.kind, sizeof choice.kind))
        snprintf(choice.kind, sizeof choice.kind, "auto");
    helper_dir(c, dir);
    kvm_probe(&choice.kvm);
    choice.engine = engine_pick(choice.kind, dir, &choice.kvm, choice.why, sizeof choice.why);
    choice.known = true;
    return choice.engine;
}

static bool uses_kvm(const struct cli *c)
{
    const char *engine = chosen_engine(c);
    return engine && strcmp(engine, "kvm") == 0;
}

static void check_kvm(const struct cli *c, struct finding *f)
{
    (void)chosen_engine(c);
    const struct kvm_probe *p = &choice.kvm;
    if (p->real)
        found(f, FINDING_OK, NULL, "%s", p->text);
    else if (p->present && !p->opens && p->cpu_flag)
        found(f, FINDING_NOTE, "sudo usermod -aG kvm $USER  # then log in again",
              "/dev/kvm may not be opened by this user");
    else
        found(f, FINDING_NOTE, NULL, "%s", p->text);
}

static void check_engine(const struct cli *c, struct finding *f)
{
    if (!chosen_engine(c))
        found(f, FINDING_MISSING, NULL, "%s", choice.why);
    else if (uses_kvm(c) && !choice.kvm.opens)
        found(f, FINDING_MISSING, "tinderbox up --set engine.kind=auto",
              "kvm (%s), but it cannot be used: %s", choice.why, choice.kvm.text);
    else if (uses_kvm(c) && !choice.kvm.real)
        found(f, FINDING_NOTE, NULL, "kvm (%s), although %s", choice.why, choice.kvm.text);
    else if (uses_kvm(c))
        found(f, FINDING_OK, NULL, "kvm (tinderbox-vmm): %s", choice.why);
    else
        found(f, FINDING_OK, NULL, "qemu (software): %s", choice.why);
}

/* ---- programs ---------------------------------------------------------------------------------
 */

static const struct program {
    const char *name, *package, *use;
    bool needed, software; /* software: only with that engine */
} programs[] = {
    {"qemu-system-x86_64", "qemu-system-x86", "runs microVMs without hardware virtualization", true,
     true},
    {"qemu-img", "qemu-utils", "makes disks of builds", true, true},
    {"bwrap", "bubblewrap", "sandboxes what reads a guest's files", true, false},
    {"mke2fs", "e2fsprogs", "makes the disks of builds", true, false},
    {"curl", "curl", "is what 'tinderbox curl' calls", false, false},
};

static bool in_path(const char *name)
{
    const char *path = getenv("PATH");
    char copy[4096], full[PATH_MAX];
    /* As the daemon does: an ordinary user's PATH lacks the system directories. */
    snprintf(copy, sizeof copy, "%s:/usr/sbin:/sbin:/usr/bin:/bin", path ? path : "");
    for (char *save, *dir = strtok_r(copy, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        snprintf(full, sizeof full, "%s/%s", dir, name);
        if (access(full, X_OK) == 0)
            return true;
    }
    return false;
}

static void check_programs(const struct cli *c, struct finding *f)
{
    bool kvm = uses_kvm(c);
    char missing[300] = "", fix[300] = "sudo apt-get install -y --no-install-recommends";
    bool needed = false;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        const struct program *p = &programs[i];
        if (in_path(p->name) || (kvm && p->software))
            continue;
        size_t at = strlen(missing), to = strlen(fix);
        snprintf(missing + at, sizeof missing - at, "%s%s (%s)", at ? ", " : "", p->name, p->use);
        snprintf(fix + to, sizeof fix - to, " %s", p->package);
        needed |= p->needed;
    }
    if (!missing[0])
        found(f, FINDING_OK, NULL, "%sbubblewrap, e2fsprogs and curl are installed",
              kvm ? "" : "QEMU, ");
    else
        found(f, needed ? FINDING_MISSING : FINDING_NOTE, fix, "not installed: %s", missing);
}

/* ---- kernel features --------------------------------------------------------------------------
 */

/* The whole of what a sandbox does first: a user namespace with a mount namespace in it. */
static void check_namespaces(const struct cli *c, struct finding *f)
{
    (void)c;
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) == 0 ? 0 : errno);
    if (pid > 0)
        waitpid(pid, &status, 0);
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        found(f, FINDING_OK, NULL, "user namespaces work");
        return;
    }
    bool root = geteuid() == 0;
    const char *fix = access("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", F_OK) == 0
                          ? "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
                          : "sudo sysctl -w user.max_user_namespaces=15000 "
                            "kernel.unprivileged_userns_clone=1";
    found(f, root ? FINDING_NOTE : FINDING_MISSING, fix,
          "user namespaces are refused (%s); microVMs cannot be sandboxed",
          WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "killed");
}

static void check_cgroups(const struct cli *c, struct finding *f)
{
    (void)c;
    struct statfs s;
    if (statfs("/sys/fs/cgroup", &s) == 0 && s.f_type == CGROUP2_MAGIC)
        found(f, FINDING_OK, NULL, "cgroup v2");
    else
        found(f, FINDING_NOTE, NULL,
              "cgroup v2 is not mounted: limits of microVMs are process limits only");
}

/* ---- service ----------------------------------------------------------------------------------
 */

static void check_guest(const struct cli *c, struct finding *f)
{
    static const char *const files[] = {"vmlinux", "initramfs.cpio", "manifest.json"};
    char dir[600], path[700], fix[300];
    if (!configured(c, "guest.dir", dir, sizeof dir) || !*dir)
        snprintf(dir, sizeof dir, "%s/guest", c->home);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        if (access(path, R_OK) == 0)
            continue;
        snprintf(fix, sizeof fix, "guest/assemble --out %.200s", dir);
        found(f, FINDING_MISSING, fix, "%s is missing: nothing to boot guests from", path);
        return;
    }
    found(f, FINDING_OK, NULL, "kernel, initramfs and root file system in %s", dir);
}

static bool port_free(uint16_t port)
{
    const int one = 1;
    CLEANUP(cleanup_close)
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
}

static void check_ports(const struct cli *c, struct finding *f)
{
    static const struct {
        const char *key, *otherwise;
    } ports[] = {{"api.port", "8400"}, {"s3.port", "8401"}, {"endpoint.port", "8443"}};
    struct cli copy = *c;
    if (cli_daemon_alive(&copy)) {
        found(f, FINDING_OK, NULL, "the service is running (pid %d) at %s", (int)copy.pid,
              copy.api);
        return;
    }
    char taken[200] = "", fix[300] = "tinderbox up", all[64] = "";
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        char port[16];
        if (!configured(c, ports[i].key, port, sizeof port))
            snprintf(port, sizeof port, "%s", ports[i].otherwise);
        size_t at = strlen(taken), to = strlen(fix), n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", port);
        long number = strtol(port, NULL, 10); /* 0 = any free one */
        if (number <= 0 || number > 65535 || port_free((uint16_t)number))
            continue;
        snprintf(taken + at, sizeof taken - at, "%s%s", at ? ", " : "", port);
        snprintf(fix + to, sizeof fix - to, " --set %s=0", ports[i].key);
    }
    if (!*taken)
        found(f, FINDING_OK, NULL, "%s: free (0 = any)", all);
    else
        found(f, FINDING_NOTE, fix, "in use by another program: %s", taken);
}

/* Clients that are not curl look the endpoint's name up; not every resolver knows *.localhost
 * (RFC 6761 §6.3). */
static void check_names(const struct cli *c, struct finding *f)
{
    char domain[200], name[220];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *a = NULL;
    if (!configured(c, "endpoint.domain", domain, sizeof domain))
        snprintf(domain, sizeof domain, "microvm.localhost");
    snprintf(name, sizeof name, "doctor.%s", domain);
    if (getaddrinfo(name, NULL, &hints, &a) == 0)
        found(f, FINDING_OK, NULL, "*.%s can be looked up", domain);
    else
        found(f, FINDING_NOTE, "apt-get install libnss-myhostname",
              "*.%s cannot be looked up: \"tinderbox curl\" works, other clients do not find "
              "endpoints",
              domain);
    if (a)
        freeaddrinfo(a);
}

const struct check doctor_checks[] = {
    {"system", check_system},      {"memory", check_memory},
    {"disk", check_disk},          {"kvm", check_kvm},
    {"engine", check_engine},      {"programs", check_programs},
    {"sandbox", check_namespaces}, {"cgroups", check_cgroups},
    {"guest kit", check_guest},    {"ports", check_ports},
    {"names", check_names},
};
const size_t doctor_n_checks = ARRAY_LEN(doctor_checks);
