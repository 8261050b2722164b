/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot and thaw. Every request goes out before the first answer is waited for: each round trip
 * would be a switch between two busy processes, and a monitor that has failed in one refuses the
 * next. The network helper starts while the monitor works.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/fds.h"
#include "engine/kvm/machine.h"
#include "net/policy.h"

/* Loading a large state from a slow disk is slow, not dead. */
enum { START_TIMEOUT_MS = 120000, BATCH_MAX = ENGINE_DISKS_MAX + 8 };

/* kvmclock and the TSC deadline timer need no calibration; there is no PCI. reboot=k: a reset the
 * guest asked for can be told from a triple fault. */
static const char CMDLINE[] =
    "console=ttyS0 quiet panic=-1 reboot=k pci=off 8250.nr_uarts=1 random.trust_cpu=on";

struct batch {
    int slot[BATCH_MAX];
    unsigned n;
};

struct start { /* one machine being started */
    struct vmm *m;
    struct batch sent;
    int net_helper; /* the helper's end of the frames' stream */
    int console;    /* the monitor's end */
};

static int send_request(struct start *s, struct monitor_message *msg, const int *fds, struct err *e)
{
    int slot = vmm_ask(s->m, msg, fds, e);
    if (slot < 0)
        return slot;
    s->sent.slot[s->sent.n++] = slot;
    return 0;
}

static int wait_all(struct start *s, struct err *e)
{
    for (unsigned i = 0; i < s->sent.n; i++) {
        int r = vmm_answer(s->m, s->sent.slot[i], START_TIMEOUT_MS, NULL, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_memory(struct start *s, uint32_t kind, int fd, struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_MEMORY, fd >= 0);
    msg.memory.kind = kind;
    return send_request(s, &msg, &fd, e);
}

static void close_all(int *fds, unsigned n)
{
    while (n)
        close(fds[--n]);
}

/* The top of the chain first; only it is writable, if at all. n: how many were opened. */
static int open_layers(const struct overlay_chain *c, bool read_only, int *fds, unsigned *n,
                       struct err *e)
{
    for (*n = 0; *n < c->n; (*n)++) {
        int mode = *n == 0 && !read_only ? O_RDWR : O_RDONLY;
        fds[*n] = open(c->node[*n].path, mode | O_NOFOLLOW | O_CLOEXEC);
        if (fds[*n] < 0)
            return err_set_errno(e, errno, "disk %s", c->node[*n].path);
    }
    return 0;
}

static int send_disk(struct start *s, unsigned index, struct err *e)
{
    const struct overlay_chain *c = &s->m->disks[index];
    struct monitor_message msg = vmm_request(MONITOR_DISK, c->n);
    int fds[OVERLAY_CHAIN_MAX];
    unsigned n;
    msg.disk = (struct monitor_disk){
        .index = index, .n_layers = c->n, .read_only = s->m->disk_read_only[index]};
    msg.disk.bytes.per_second = s->m->base.en->rates.disk_bytes;
    msg.disk.ops.per_second = s->m->base.en->rates.disk_requests;
    for (unsigned i = 0; i < c->n; i++)
        if (c->node[i].format == ENGINE_DISK_OVERLAY)
            msg.disk.cow |= UINT64_C(1) << i;
    int r = open_layers(c, s->m->disk_read_only[index], fds, &n, e);
    if (r == 0)
        r = send_request(s, &msg, fds, e);
    close_all(fds, n);
    return r;
}

static int send_net(struct start *s, bool closed, struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_NET, 1);
    CLEANUP(cleanup_close)
    int theirs = -1;
    int r = fds_pair(SOCK_STREAM, &s->net_helper, &theirs);
    if (r == 0)
        r = fds_nonblocking(theirs);
    if (r < 0)
        return err_set_errno(e, -r, "network of machine %s", s->m->life.id);
    msg.net.gate_closed = closed;
    msg.net.rx_bytes.per_second = msg.net.tx_bytes.per_second = s->m->base.en->rates.net_bytes;
    unsigned mac[6];
    if (sscanf(NET_GUEST_MAC, "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5]) != 6)
        return err_set(e, EINVAL, "MAC address");
    for (int i = 0; i < 6; i++)
        msg.net.mac[i] = (uint8_t)mac[i];
    return send_request(s, &msg, &theirs, e);
}

static int send_console(struct start *s, struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_CONSOLE, 1);
    int r = life_open_console(&s->m->life, &s->console);
    if (r == 0)
        r = fds_nonblocking(s->console);
    if (r < 0)
        return err_set_errno(e, -r, "console of machine %s", s->m->life.id);
    return send_request(s, &msg, &s->console, e);
}

static uint32_t kind_of_memory(const struct start *s, int memory)
{
    return memory < 0            ? MONITOR_MEMORY_ZERO
           : s->m->shape.chunked ? MONITOR_MEMORY_CHUNKED
                                 : MONITOR_MEMORY_FILE;
}

/* memory -1: zeroes. */
static int send_hardware(struct start *s, int memory, bool gate_closed, struct err *e)
{
    int r = vmm_start_process(s->m, e);
    if (r > 0)
        s->sent.slot[s->sent.n++] = r - 1;
    if (r >= 0)
        r = send_memory(s, kind_of_memory(s, memory), memory, e);
    for (unsigned i = 0; r == 0 && i < s->m->shape.n_disks; i++)
        r = send_disk(s, i, e);
    if (r == 0 && s->m->shape.network)
        r = send_net(s, gate_closed, e);
    return r == 0 ? send_console(s, e) : r;
}

static int send_boot(struct start *s, struct err *e)
{
    const struct engine *en = s->m->base.en;
    struct monitor_message msg = vmm_request(MONITOR_BOOT, 2);
    int fds[2] = {open(en->kernel, O_RDONLY | O_CLOEXEC),
                  open(en->initramfs, O_RDONLY | O_CLOEXEC)};
    msg.boot.has_initrd = 1;
    memcpy(msg.boot.cmdline, CMDLINE, sizeof CMDLINE);
    int r = fds[0] < 0 || fds[1] < 0
                ? err_set_errno(e, errno, "%s", fds[0] < 0 ? en->kernel : en->initramfs)
                : send_request(s, &msg, fds, e);
    cleanup_close(&fds[0]);
    cleanup_close(&fds[1]);
    return r;
}

/* The state, then what else there is, in the order of the flags. */
static int send_restore(struct start *s, const char *dir, const struct manifest *have,
                        struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_RESTORE, 1);
    int fds[3] = {frozen_open(dir, "state", e), -1, -1};
    int r = fds[0] < 0 ? fds[0] : 0;
    if (r == 0 && manifest_find(have, "pages")) {
        r = fds[msg.n_fds] = frozen_open(dir, "pages", e);
        msg.n_fds++;
        msg.restore.flags |= MONITOR_HAS_PAGES;
    }
    int hint = have->kind == MANIFEST_SNAPSHOT ? frozen_open(dir, VMM_WORKING_SET, NULL) : -1;
    if (hint >= 0) {
        fds[msg.n_fds++] = hint;
        msg.restore.flags |= MONITOR_HAS_WORKING_SET;
    }
    if (have->kind == MANIFEST_SNAPSHOT) {
        msg.restore.flags |= MONITOR_IS_CLONE;
        random_bytes(msg.restore.generation, sizeof msg.restore.generation);
    }
    if (r >= 0)
        r = send_request(s, &msg, fds, e);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        cleanup_close(&fds[i]);
    return r < 0 ? r : 0;
}

static int send_run(struct start *s, struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_RUN, 0);
    return send_request(s, &msg, NULL, e);
}

/* The network helper, then the reaper: it hears the answers that are waiting by now. */
static int bring_up(struct start *s, const struct net_policy *policy, struct err *e)
{
    struct vmm *m = s->m;
    struct watch *const ours[] = {&m->on_control, &m->on_timer};
    int r = 0;
    if (m->shape.network)
        r = life_start_net(&m->life, m->base.en->helper_dir, policy, s->net_helper, m->err_theirs,
                           e);
    cleanup_close(&s->net_helper);
    cleanup_close(&s->console);
    cleanup_close(&m->err_theirs);
    s->net_helper = s->console = m->err_theirs = -1;
    if (r == 0)
        r = life_start(&m->life, ours, ARRAY_LEN(ours), e);
    return r < 0 ? r : wait_all(s, e);
}

/* A monitor that ended before the reaper knew it: what it said is still to be collected. */
static int collect_end(struct start *s, struct err *e)
{
    struct vmm *m = s->m;
    struct watch *const ours[] = {&m->on_control, &m->on_timer};
    int r = life_start(&m->life, ours, ARRAY_LEN(ours), e);
    return r < 0 ? r : life_gone(&m->life, e);
}

/* Whether it was given to the reaper, which may be ending it right now. */
static bool is_watched(struct vmm *m)
{
    pthread_mutex_lock(&m->life.lock);
    bool yes = m->life.state != LIFE_NEW;
    pthread_mutex_unlock(&m->life.lock);
    return yes;
}

static int hand_out(struct start *s, int r, struct engine_machine **ret, struct err *e)
{
    cleanup_close(&s->net_helper);
    cleanup_close(&s->console);
    if (r == -EPIPE && !is_watched(s->m) && s->m->life.vmm.pidfd >= 0)
        r = collect_end(s, e);
    if (r == 0) {
        *ret = &s->m->base;
        r = life_hand_out(&s->m->life, e);
    }
    if (r < 0)
        vmm_free(s->m);
    return r;
}

int vmm_boot(struct engine *en, const struct engine_spec *spec, struct engine_machine **ret,
             struct err *e)
{
    struct start s = {.net_helper = -1, .console = -1};
    int r = vmm_new(en, spec, &s.m, e);
    if (r < 0)
        return r;
    s.m->shape.huge_pages = en->huge_pages;
    r = send_hardware(&s, -1, false, e);
    if (r == 0)
        r = send_boot(&s, e);
    if (r == 0)
        r = send_run(&s, e);
    if (r == 0)
        r = bring_up(&s, spec->policy, e);
    return hand_out(&s, r, ret, e);
}

/* Of a file to map the descriptor stays in m->base_fd: a later suspend gives that file another
 * name. Of chunks it is the caller's. */
static int open_memory(struct vmm *m, const char *dir, const struct manifest *have, struct err *e)
{
    const struct manifest_file *f = manifest_find(have, "memory");
    const struct manifest_file *chunks = f ? NULL : manifest_find(have, VMM_CHUNKS);
    m->shape.chunked = chunks;
    if (chunks)
        return frozen_open(dir, VMM_CHUNKS, e);
    if (!f)
        return err_set(e, EBADMSG, "%s: the manifest lists no memory file", dir);
    if (f->bytes != (uint64_t)m->shape.memory_mib << 20)
        return err_set(e, EBADMSG, "%s/memory is not the size of the machine's memory", dir);
    m->base_fd = frozen_open(dir, "memory", e);
    memcpy(m->base_digest, f->digest, sizeof m->base_digest);
    return m->base_fd;
}

static int check_frozen(struct vmm *m, const char *dir, enum manifest_kind kind,
                        struct manifest *have, struct err *e)
{
    struct manifest need;
    vmm_describe(m, &need);
    return frozen_check(dir, kind, &need, m->base.en->cache, have, e);
}

int vmm_thaw(struct engine *en, const struct engine_spec *spec, const char *dir,
             enum manifest_kind kind, struct engine_machine **ret, struct err *e)
{
    struct start s = {.net_helper = -1, .console = -1};
    struct manifest have;
    int r = vmm_new(en, spec, &s.m, e);
    if (r < 0)
        return r;
    r = check_frozen(s.m, dir, kind, &have, e);
    int memory = r == 0 ? open_memory(s.m, dir, &have, e) : r;
    r = memory < 0 ? memory : send_hardware(&s, memory, true, e);
    if (memory >= 0 && memory != s.m->base_fd)
        close(memory);
    if (r == 0)
        r = send_restore(&s, dir, &have, e);
    if (r == 0)
        r = send_run(&s, e);
    if (r == 0)
        r = bring_up(&s, spec->policy, e);
    if (r == 0 && kind == MANIFEST_SNAPSHOT && !s.m->shape.chunked)
        vmm_plan_working_set(s.m, dir);
    return hand_out(&s, r, ret, e);
}
