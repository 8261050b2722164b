/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/fs.h"
#include "net/policy.h"
#include "proto/wire.h"

enum { BOOT_TIMEOUT_MS = 120000, CALL_TIMEOUT_MS = 60000 };

static pthread_t loop_thread;

static void *loop_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void skip_all(const char *why)
{
    printf("skipped: %s\n", why);
    exit(77);
}

void rig_open(struct rig *r, int argc, char **argv)
{
    struct err e = {0};
    char kernel[600], initramfs[600], base[600];
    const char *guest = getenv("TINDERBOX_GUEST_DIR");
    *r = (struct rig){.helper_dir = argc > 1 ? argv[1] : "."};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!guest)
        skip_all("TINDERBOX_GUEST_DIR is not set: make the guest kit with guest/assemble");
    snprintf(r->guest, sizeof r->guest, "%s", guest);
    snprintf(kernel, sizeof kernel, "%s/vmlinux", guest);
    snprintf(initramfs, sizeof initramfs, "%s/initramfs.cpio", guest);
    snprintf(base, sizeof base, "%s/debian-12.ext4", guest);
    if (access(kernel, R_OK) || access(initramfs, R_OK) || access(base, R_OK))
        skip_all("TINDERBOX_GUEST_DIR lacks vmlinux, initramfs.cpio or debian-12.ext4");
    const char *tmp = getenv("TINDERBOX_TEST_TMP");
    snprintf(r->dir, sizeof r->dir, "%s/tb-engine.XXXXXX", tmp ? tmp : "/var/tmp");
    const char *kind = getenv("TINDERBOX_ENGINE");
    struct engine_config c = {.kind = kind ? kind : "auto",
                              .kernel = kernel,
                              .initramfs = initramfs,
                              .helper_dir = r->helper_dir,
                              .key_dir = r->dir,
                              .sandbox = true};
    if (!mkdtemp(r->dir) || loop_new(&r->loop, &e) < 0 || engine_open(&c, &r->engine, &e) < 0) {
        fprintf(stderr, "%s: %s\n", r->dir, e.text);
        exit(1);
    }
    pthread_create(&loop_thread, NULL, loop_main, r->loop);
}

int rig_slow(void)
{
    const char *s = getenv("TINDERBOX_SLOW");
    int n = s ? atoi(s) : 1;
    return n > 0 ? n : 1;
}

unsigned count_children(void)
{
    unsigned n = 0;
    char path[64], name[300];
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *t; d && (t = readdir(d));) {
        int pid;
        snprintf(path, sizeof path, "/proc/self/task/%.20s/children", t->d_name);
        FILE *f = t->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fscanf(f, "%d", &pid) == 1) {
            n++;
            snprintf(name, sizeof name, "/proc/%d/cmdline", pid);
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return n;
}

/* The process that runs a machine, under whichever engine. */
static bool is_monitor(int pid)
{
    char path[64], exe[512];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    ssize_t n = readlink(path, exe, sizeof exe - 1);
    if (n < 0)
        return false;
    exe[n] = '\0';
    return strstr(exe, "/qemu-system-") || strstr(exe, "/tinderbox-vmm");
}

static int parent_of(int pid)
{
    char path[64];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &parent) != 1)
        parent = 0;
    if (f)
        fclose(f);
    return parent;
}

/* It may stand behind a sandbox's own processes. */
static bool is_below_us(int pid)
{
    for (int depth = 0; pid > 1 && depth < 4; depth++)
        if ((pid = parent_of(pid)) == getpid())
            return true;
    return false;
}

pid_t newest_monitor(void)
{
    pid_t best = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *ent; d && (ent = readdir(d));) {
        int pid = atoi(ent->d_name);
        if (pid > best && is_monitor(pid) && is_below_us(pid))
            best = pid;
    }
    if (d)
        closedir(d);
    return best;
}

static unsigned count_leftovers(const char *dir)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *ent; d && (ent = readdir(d));) {
        char path[1024];
        struct stat st;
        if (ent->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, ent->d_name);
        if (lstat(path, &st) < 0)
            continue;
        size_t len = strlen(ent->d_name);
        if (S_ISSOCK(st.st_mode) || (len > 5 && strcmp(ent->d_name + len - 5, ".part") == 0)) {
            fprintf(stderr, "left behind: %s\n", path);
            n++;
        }
        if (S_ISDIR(st.st_mode))
            n += count_leftovers(path);
    }
    if (d)
        closedir(d);
    return n;
}

int rig_close(struct rig *r)
{
    struct err e;
    engine_close(r->engine);
    loop_stop(r->loop);
    pthread_join(loop_thread, NULL);
    loop_free(r->loop);
    unsigned children = count_children(), files = count_leftovers(r->dir);
    if (children)
        fprintf(stderr, "left behind: %u processes\n", children);
    if (fs_remove_tree(r->dir, &e) < 0)
        fprintf(stderr, "%s\n", e.text);
    return children || files ? 1 : 0;
}

static void on_exit_cb(void *arg, const struct engine_exit *x)
{
    struct box *b = arg;
    b->exit = *x;
    atomic_store(&b->exited_us, clock_mono_us());
}

struct engine_spec rig_spec(struct rig *r, struct box *b)
{
    (void)r;
    struct engine_spec s = {.id = b->id,
                            .dir = b->dir,
                            .memory_mib = 512,
                            .vcpus = 1,
                            .n_disks = 1,
                            .network = true,
                            .policy = b->policy,
                            .on_exit = on_exit_cb,
                            .on_exit_arg = b};
    s.disks[0] = (struct engine_disk){b->disk, ENGINE_DISK_OVERLAY, false};
    return s;
}

static struct box boxes[16];
static unsigned n_boxes;

struct box *box_prepare(struct rig *r, const char *id, const char *base,
                        enum engine_disk_format base_format)
{
    struct err e = {0};
    assert_true(n_boxes < ARRAY_LEN(boxes));
    struct box *b = &boxes[n_boxes++];
    memset(b, 0, sizeof *b);
    snprintf(b->id, sizeof b->id, "%s", id);
    snprintf(b->dir, sizeof b->dir, "%s/%s", r->dir, id);
    snprintf(b->disk, sizeof b->disk, "%s/%s/disk.qcow2", r->dir, id);
    CHECK_OK(fs_mkdir_p(b->dir, 0700, &e), e);
    CHECK_OK(engine_disk_overlay(r->engine, b->disk, base, base_format, 0, &e), e);
    return b;
}

int box_end_all(void **state)
{
    (void)state;
    while (n_boxes)
        box_end(&boxes[--n_boxes]);
    return 0;
}

void box_connect(struct rig *r, struct box *b)
{
    struct err e = {0};
    int fd = engine_channel(b->machine, &e);
    if (fd < 0)
        fail_msg("channel of %s: %s", b->id, e.text);
    CHECK_OK(agent_open(r->loop, fd, BOOT_TIMEOUT_MS, &b->agent, &e), e);
}

void box_disconnect(struct box *b)
{
    if (!b->agent)
        return;
    agent_close(b->agent);
    agent_unref(b->agent);
    b->agent = NULL;
}

static void call(struct box *b, const char *path, json_t *body)
{
    struct err e = {0};
    int r = agent_call(b->agent, "POST", path, body, CALL_TIMEOUT_MS, NULL, &e);
    json_decref(body);
    if (r < 0)
        fail_msg("%s in %s: %s", path, b->id, e.text);
}

/* The container's own process counts in its memory only: what survives a suspend is visible. */
static const char *const app = "echo $$ > /run/app.pid; n=0; "
                               "trap 'echo $n > /run/app.count' USR1; "
                               "while :; do n=$((n+1)); sleep 0.2 & wait $!; done";

void box_start(struct box *b, bool network, json_t *start)
{
    json_t *boot = json_pack("{s:i, s:s, s:n}", "rootDisk", 0, "hostname", "template", "network");
    if (network)
        json_object_set_new(boot, "network",
                            json_pack("{s:s, s:i, s:s, s:s}", "address", NET_GUEST_ADDRESS,
                                      "prefix", NET_GUEST_PREFIX, "gateway", NET_GATEWAY, "dns",
                                      NET_DNS));
    call(b, WIRE_BOOT, boot);
    call(b, WIRE_START, start);
}

void box_boot(struct rig *r, struct box *b)
{
    struct err e = {0};
    struct engine_spec s = rig_spec(r, b);
    CHECK_OK(engine_boot(r->engine, &s, &b->machine, &e), e);
    box_connect(r, b);
    box_start(b, true,
              json_pack("{s:[s,s,s], s:[s], s:s, s:s, s:s}", "args", "/bin/sh", "-c", app, "env",
                        "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "cwd", "/", "user", "",
                        "capabilities", "default"));
}

void box_freeze(struct box *b)
{
    struct err e = {0};
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:b}", "dropCaches", 0);
    CHECK_OK(agent_call(b->agent, "POST", WIRE_PREPARE, body, CALL_TIMEOUT_MS, NULL, &e), e);
    box_disconnect(b);
}

void box_resumed(struct box *b, bool clone)
{
    unsigned char seed[32], raw[16];
    char id[33];
    struct timespec now;
    CLEANUP(buf_done)
    struct buf entropy = BUF_INIT(0);
    random_bytes(seed, sizeof seed);
    random_bytes(raw, sizeof raw);
    hex_encode(id, raw, sizeof raw);
    assert_int_equal(base64_encode(&entropy, seed, sizeof seed), 0);
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *body = json_pack("{s:I, s:s, s:b, s:b}", "timeNs",
                             (json_int_t)now.tv_sec * 1000000000 + (json_int_t)now.tv_nsec,
                             "entropy", entropy.data, "clone", (int)clone, "disconnected", 1);
    if (clone) {
        json_object_set_new(body, "hostname", json_string(b->id));
        json_object_set_new(body, "machineId", json_string(id));
    }
    call(b, WIRE_RESUMED, body);
}

void box_restore(struct rig *r, struct box *b, const char *snapshot, bool clone)
{
    struct err e = {0};
    struct engine_spec s = rig_spec(r, b);
    if (clone)
        CHECK_OK(engine_restore(r->engine, &s, snapshot, &b->machine, &e), e);
    else
        CHECK_OK(engine_resume(r->engine, &s, snapshot, &b->machine, &e), e);
    box_connect(r, b);
    box_resumed(b, clone);
    CHECK_OK(engine_machine_network(b->machine, true, &e), e);
}

void box_end(struct box *b)
{
    box_disconnect(b);
    engine_machine_free(b->machine);
    b->machine = NULL;
}

struct output {
    char *p;
    size_t n, cap;
};

static void add_output(int fd, const char *p, size_t n, void *arg)
{
    struct output *o = arg;
    (void)fd;
    if (n > o->cap - 1 - o->n)
        n = o->cap - 1 - o->n;
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

int box_sh(struct box *b, const char *command, char *out, size_t cap)
{
    struct err e = {0};
    struct output o = {out, 0, cap};
    struct agent_exec_result x = {0};
    CLEANUP(cleanup_json)
    json_t *spec = json_pack("{s:[s,s,s]}", "args", "/bin/sh", "-c", command);
    int r = agent_exec(b->agent, WIRE_EXEC, spec, CALL_TIMEOUT_MS, add_output, &o, &x, &e);
    if (r < 0)
        fail_msg("exec '%s' in %s: %s", command, b->id, e.text);
    while (o.n && (out[o.n - 1] == '\n' || out[o.n - 1] == '\r'))
        o.n--;
    out[o.n] = '\0';
    return x.signal ? 128 + x.signal : x.exit_code;
}
