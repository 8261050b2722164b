/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM engine: one tinderbox-vmm process per machine (docs/design/monitor.md), which jails
 * itself, with a tinderbox-net process beside it when it has a network. The daemon opens every file
 * and passes descriptors; disks are chains of copy-on-write layers (docs/design/disk-format.md).
 *
 * Memory of a clone is a private mapping of the snapshot's memory file, so all clones share its
 * page cache; suspending writes the pages in which it differs. Nothing is tracked while it runs.
 *
 * Threads: the caller's, which sends requests and waits; the engine's reaper, which reads every
 * descriptor and notices every end (life.h, watch.c); the pool's, which starts monitors ahead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/fds.h"
#include "engine/kvm/freeze.h"

enum { LINK_TIMEOUT_MS = 10000 };

#define OWN_MEMORY (UINT64_C(256) << 20) /* most is the network helper's */

static struct vmm *of(const struct engine_machine *m)
{
    return CONTAINER_OF(m, struct vmm, base);
}

static int find_program(struct vmm_engine *v, const struct engine *en, struct err *e)
{
    char path[4096];
    if (!engine_find_helper(en->helper_dir, "vmm", "tinderbox-vmm", path, sizeof path))
        return err_set(e, ENOENT, "tinderbox-vmm is not installed in %s", en->helper_dir);
    if (!(v->path = strdup(path)))
        return err_set(e, ENOMEM, "out of memory");
    v->program.path = v->path;
    return 0;
}

static int kvm_open(struct engine *en, struct err *e)
{
    struct vmm_engine *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(e, ENOMEM, "out of memory");
    en->impl = v;
    en->own_memory = OWN_MEMORY;
    snprintf(en->version, sizeof en->version, "%s", MONITOR_VERSION);
    v->program.kvm = open(en->device, O_RDWR | O_CLOEXEC);
    if (v->program.kvm < 0)
        return err_set_errno(e, errno, "%s", en->device);
    int r = find_program(v, en, e);
    if (r == 0)
        r = reaper_new(&v->reaper, e);
    return r == 0 ? vmm_pool_new(&v->program, en->pool, &v->pool, e) : r;
}

static void kvm_close(struct engine *en)
{
    struct vmm_engine *v = en->impl;
    vmm_pool_free(v->pool);
    reaper_free(v->reaper);
    cleanup_close(&v->program.kvm);
    free(v->path);
    free(v);
}

static int kvm_freeze(struct engine_machine *bm, const char *dir, enum manifest_kind kind,
                      struct err *e)
{
    return vmm_freeze(of(bm), dir, kind, e);
}

static int kvm_fork(struct engine_machine *bm, const char *dir, struct engine_fork_info *ret,
                    struct err *e)
{
    return vmm_fork(of(bm), dir, ret, e);
}

static int kvm_channel(struct engine_machine *bm, struct err *e)
{
    struct vmm *m = of(bm);
    struct monitor_message msg = vmm_request(MONITOR_LINK, 1);
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        return err_set_errno(e, errno, "socket");
    int r = fds_nonblocking(fd[1]);
    r = r < 0 ? err_set_errno(e, -r, "socket")
              : vmm_call(m, &msg, &fd[1], LINK_TIMEOUT_MS, NULL, e);
    close(fd[1]);
    if (r == 0)
        return fd[0];
    close(fd[0]);
    return r;
}

static int kvm_pause(struct engine_machine *bm, bool pause, struct err *e)
{
    return vmm_simple(of(bm), pause ? MONITOR_PAUSE : MONITOR_RUN, e);
}

static int kvm_network(struct engine_machine *bm, bool open, struct err *e)
{
    struct vmm *m = of(bm);
    struct monitor_message msg = vmm_request(MONITOR_GATE, 0);
    msg.gate.open = open;
    return m->shape.network ? vmm_call(m, &msg, NULL, LINK_TIMEOUT_MS, NULL, e) : 0;
}

static int kvm_stats(struct engine_machine *bm, struct engine_stats *ret, struct err *e)
{
    return vmm_stats(of(bm), ret, e);
}

static void kvm_pids(const struct engine_machine *bm, pid_t ret[ENGINE_PIDS])
{
    ret[0] = of(bm)->life.vmm.pid;
    ret[1] = of(bm)->life.net.pid;
}

static bool kvm_alive(const struct engine_machine *bm)
{
    return life_alive(&of(bm)->life);
}

static void kvm_kill(struct engine_machine *bm)
{
    life_kill(&of(bm)->life);
}

static void kvm_free(struct engine_machine *bm)
{
    vmm_free(of(bm));
}

const struct engine_ops kvm_engine_ops = {
    .name = "kvm",
    .disks = &disks_layers,
    .open = kvm_open,
    .close = kvm_close,
    .boot = vmm_boot,
    .thaw = vmm_thaw,
    .freeze = kvm_freeze,
    .channel = kvm_channel,
    .pause = kvm_pause,
    .network = kvm_network,
    .fork = kvm_fork,
    .stats = kvm_stats,
    .pack = vmm_pack,
    .alive = kvm_alive,
    .pids = kvm_pids,
    .kill = kvm_kill,
    .free = kvm_free,
};
