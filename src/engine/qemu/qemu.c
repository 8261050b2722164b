/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine: one QEMU process (TCG, machine "microvm") per machine, in a sandbox, with a
 * tinderbox-net process beside it when it has a network.
 *
 * Memory of a booted machine is a file mapped shared: when it is frozen the file *is* the memory
 * snapshot, and only tens of kilobytes of device state are written (QEMU capability
 * x-ignore-shared). A clone maps that file copy-on-write, so all clones share its page cache.
 * Suspending a clone writes device state and the pages in which it differs from that file
 * (pages.c); a machine without such a file has all of its memory written.
 *
 * Threads: the caller's, which sends commands and waits; the engine's reaper, which reads every
 * descriptor and notices every end (reaper.h, life.h, watch.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/qemu/machine.h"
#include "engine/qemu/pages.h"
#include "engine/qemu/spawn.h"
#include "engine/tsc.h"

enum { START_TIMEOUT_MS = 30000 };

#define OWN_MEMORY \
    (UINT64_C(1536) << 20) /* translation cache, heap, stacks of disk workers; egress */

static struct machine *of(const struct engine_machine *m)
{
    return CONTAINER_OF(m, struct machine, base);
}

/* "QEMU emulator version 7.2.22 (Debian ...)" */
static int read_version(struct engine *en, struct err *e)
{
    struct buf out = BUF_INIT(4096);
    const char *argv[] = {en->program, "--version", NULL};
    int r = proc_run(argv, NULL, 10000, &out, e);
    const char *at = r == 0 && out.data ? strstr(out.data, "version ") : NULL;
    if (at)
        snprintf(en->version, sizeof en->version, "%.*s",
                 (int)strspn(at + 8, "0123456789.abcdefghijklmnopqrstuvwxyz-"), at + 8);
    else if (r == 0)
        r = err_set(e, ENOENT, "%s does not tell its version", en->program);
    buf_done(&out);
    return r;
}

/* The sandbox binds and runs the program by its path: PATH is searched once, here. */
static int find_program(struct engine *en, struct err *e)
{
    const char *path = getenv("PATH"), *name = en->program;
    char full[4096];
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? 0 : err_set_errno(e, errno, "%s", name);
    for (const char *p = path ? path : "/usr/bin"; *p;) {
        size_t n = strcspn(p, ":");
        if (snprintf(full, sizeof full, "%.*s/%s", (int)n, p, name) < (int)sizeof full &&
            access(full, X_OK) == 0) {
            char *s = strdup(full);
            if (!s)
                return err_set(e, ENOMEM, "out of memory");
            free(en->program);
            en->program = s;
            return 0;
        }
        p += n + (p[n] == ':');
    }
    return err_set(e, ENOENT, "%s is not installed (Debian package qemu-system-x86)", name);
}

static int qemu_open(struct engine *en, struct err *e)
{
    struct reaper *r = NULL;
    int k = find_program(en, e);
    if (k == 0)
        k = read_version(en, e);
    if (k == 0 && !tsc_khz())
        k = err_set(e, ENOTSUP, "this processor has no time stamp counter");
    if (k == 0)
        k = reaper_new(&r, e);
    en->own_memory = OWN_MEMORY;
    en->impl = r;
    return k;
}

static void qemu_close(struct engine *en)
{
    reaper_free(en->impl);
}

static int enable_capabilities(struct machine *m, int slots[2], struct err *e)
{
    slots[1] = -1;
    slots[0] = machine_command(m, "qmp_capabilities", NULL, -1, e);
    if (slots[0] < 0)
        return slots[0];
    slots[1] = machine_command(m, "migrate-set-capabilities",
                               json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability",
                                         "x-ignore-shared", "state", 1, "capability", "events",
                                         "state", 1),
                               -1, e);
    return slots[1] < 0 ? slots[1] : 0;
}

static int start_incoming(struct machine *m, struct err *e)
{
    return machine_command(m, "migrate-incoming", json_pack("{s:s}", "uri", "fd:7"), -1, e);
}

/* QEMU waits for its state, so its memory is still the file and nothing has looked at it. */
static int load_pages(struct machine *m, struct err *e)
{
    struct stat st;
    if (fstat(m->base_fd, &st) < 0)
        return err_set_errno(e, errno, "stat memory file");
    struct pages_target t = {m->life.pid, st.st_ino, (uint64_t)st.st_size};
    return pages_load(&t, m->pages_fd, e);
}

/* Sends everything at once and collects the answers afterwards: each round trip would be a switch
 * between two busy processes. Only changed pages must be in place before the state is read. */
static int shake_hands(struct machine *m, bool incoming, struct err *e)
{
    int slots[2], load = -1;
    int r = machine_greeting(m, START_TIMEOUT_MS, e);
    if (r == 0)
        r = enable_capabilities(m, slots, e);
    if (r == 0 && incoming && m->pages_fd < 0)
        r = load = start_incoming(m, e);
    for (int i = 0; r >= 0 && i < 2; i++)
        r = machine_answer(m, slots[i], START_TIMEOUT_MS, NULL, e);
    if (r >= 0 && incoming && m->pages_fd >= 0) {
        r = load_pages(m, e);
        if (r == 0)
            r = load = start_incoming(m, e);
    }
    if (r >= 0 && incoming)
        r = machine_answer(m, load, START_TIMEOUT_MS, NULL, e);
    return r < 0 ? r : 0;
}

static int make_memory_file(struct machine *m, struct err *e)
{
    char path[4096];
    int r = path_join(path, sizeof path, m->life.dir, "memory", e);
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)m->args.memory_mib << 20) < 0)
        return err_set_errno(e, errno, "memory file %s", path);
    if (!(m->memory_file = strdup(path)))
        return err_set(e, ENOMEM, "out of memory");
    m->args.memory = QEMU_MEMORY_SHARED;
    m->args.memory_file = m->memory_file;
    return 0;
}

static int qemu_boot(struct engine *en, const struct engine_spec *s, struct engine_machine **ret,
                     struct err *e)
{
    struct machine *m = NULL;
    int r = machine_new(en, en->impl, s, &m, e);
    if (r == 0)
        r = make_memory_file(m, e);
    if (r == 0)
        r = machine_spawn(m, s->policy, -1, e);
    if (r == 0)
        r = shake_hands(m, false, e);
    if (r == 0) {
        *ret = &m->base;
        r = life_hand_out(&m->life, e);
    }
    if (r < 0) {
        if (m && m->memory_file)
            unlink(m->memory_file);
        machine_free(m);
    }
    return r;
}

/* The descriptor stays: a later suspend gives this file another name. */
static int open_memory(struct machine *m, const char *dir, const struct manifest_file *f,
                       struct err *e)
{
    char path[4200];
    int r = path_join(path, sizeof path, dir, f->name, e);
    if (r < 0)
        return r;
    if (f->bytes != (uint64_t)m->args.memory_mib << 20)
        return err_set(e, EBADMSG, "%s is not the size of the machine's memory", path);
    m->base_fd = frozen_open(dir, f->name, e);
    if (m->base_fd < 0)
        return m->base_fd;
    if (!(m->memory_file = strdup(path)))
        return err_set(e, ENOMEM, "out of memory");
    memcpy(m->base_digest, f->digest, sizeof m->base_digest);
    m->args.memory = QEMU_MEMORY_PRIVATE;
    m->args.memory_file = m->memory_file;
    return 0;
}

static int open_state(struct machine *m, const char *dir, const struct manifest *have,
                      struct err *e)
{
    const struct manifest_file *memory = manifest_find(have, "memory");
    const struct manifest_file *pages = manifest_find(have, "pages");
    m->args.incoming = true;
    m->args.memory = QEMU_MEMORY_ANON;
    int r = memory ? open_memory(m, dir, memory, e) : 0;
    if (r == 0 && pages)
        r = m->pages_fd = frozen_open(dir, "pages", e);
    return r < 0 ? r : frozen_open(dir, "state", e);
}

static int check_frozen(struct machine *m, const char *dir, enum manifest_kind kind,
                        struct manifest *have, struct err *e)
{
    struct manifest need;
    machine_describe(m, &need);
    int r = qemu_args_machine_digest(&m->args, need.machine, e);
    return r < 0 ? r : frozen_check(dir, kind, &need, m->base.en->cache, have, e);
}

static int load(struct machine *m, struct err *e)
{
    int r = shake_hands(m, true, e);
    if (r == 0)
        r = machine_wait_migration(m, START_TIMEOUT_MS * 4, e);
    return r < 0 ? r : machine_call(m, "cont", NULL, e);
}

static int qemu_thaw(struct engine *en, const struct engine_spec *s, const char *dir,
                     enum manifest_kind kind, struct engine_machine **ret, struct err *e)
{
    struct machine *m = NULL;
    struct manifest have;
    CLEANUP(cleanup_close)
    int state = -1;
    int r = machine_new(en, en->impl, s, &m, e);
    if (r == 0)
        r = check_frozen(m, dir, kind, &have, e);
    if (r == 0)
        r = state = open_state(m, dir, &have, e);
    if (r >= 0)
        r = machine_spawn(m, s->policy, state, e);
    if (r == 0)
        r = load(m, e);
    if (r == 0) {
        *ret = &m->base;
        r = life_hand_out(&m->life, e);
    }
    if (r < 0)
        machine_free(m);
    return r;
}

static int qemu_freeze(struct engine_machine *bm, const char *dir, enum manifest_kind kind,
                       struct err *e)
{
    return machine_freeze(of(bm), dir, kind, e);
}

static int qemu_channel(struct engine_machine *bm, struct err *e)
{
    struct machine *m = of(bm);
    struct sockaddr_un a;
    channel_address(m->life.dir_fd, &a);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(e, errno, "socket");
    /* EAGAIN: the queue is full because QEMU does not accept. */
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        int code = errno == EAGAIN ? ETIMEDOUT : errno;
        close(fd);
        if (!life_alive(&m->life))
            return life_gone(&m->life, e);
        return err_set_errno(e, code, "guest channel of machine %s", m->life.id);
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

static int qemu_pause(struct engine_machine *bm, bool pause, struct err *e)
{
    return machine_call(of(bm), pause ? "stop" : "cont", NULL, e);
}

static int qemu_stats(struct engine_machine *bm, struct engine_stats *ret, struct err *e)
{
    return machine_stats(of(bm), ret, e);
}

/* Packets pass from the first instruction on: what a clone sends before its agent is told of it can
 * only reach a new tinderbox-net, which knows none of its connections. A link that is taken down
 * and up again (set_link) would be seen by the application. */
static int qemu_network(struct engine_machine *bm, bool open, struct err *e)
{
    (void)open;
    return life_alive(&of(bm)->life) ? 0 : life_gone(&of(bm)->life, e);
}

static int qemu_fork(struct engine_machine *bm, const char *dir, struct engine_fork_info *ret,
                     struct err *e)
{
    (void)bm;
    (void)dir;
    (void)ret;
    return err_set(e, ENOTSUP,
                   "the software engine cannot fork a running machine: suspend it, or "
                   "use a host with hardware virtualization");
}

static bool qemu_alive(const struct engine_machine *bm)
{
    return life_alive(&of(bm)->life);
}

static void qemu_pids(const struct engine_machine *bm, pid_t ret[ENGINE_PIDS])
{
    struct machine *m = of(bm);
    ret[0] = m->life.pid;
    ret[1] = m->life.vmm.pid;
    ret[2] = m->life.net.pid;
}

static void qemu_kill(struct engine_machine *bm)
{
    life_kill(&of(bm)->life);
}

static void qemu_free(struct engine_machine *bm)
{
    machine_free(of(bm));
}

const struct engine_ops qemu_engine_ops = {
    .name = "qemu",
    .disks = &disks_qcow2,
    .open = qemu_open,
    .close = qemu_close,
    .boot = qemu_boot,
    .thaw = qemu_thaw,
    .freeze = qemu_freeze,
    .channel = qemu_channel,
    .pause = qemu_pause,
    .network = qemu_network,
    .fork = qemu_fork,
    .stats = qemu_stats,
    .alive = qemu_alive,
    .pids = qemu_pids,
    .kill = qemu_kill,
    .free = qemu_free,
};
