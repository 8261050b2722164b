/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kvm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/encode.h"
#include "disk/layer.h"
#include "engine/usage.h"
#include "net/policy.h"

enum { STATS_TIMEOUT_MS = 5000 };

int vmm_new(struct engine *en, const struct engine_spec *s, struct vmm **ret, struct err *e)
{
    struct vmm_engine *v = en->impl;
    struct vmm *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(e, ENOMEM, "out of memory");
    m->base.en = en;
    m->shape = (struct vmm_shape){.memory_mib = s->memory_mib,
                                  .vcpus = s->vcpus,
                                  .n_disks = s->n_disks,
                                  .network = s->network};
    m->base_fd = m->err_theirs = m->working_set_dir = m->working_set_file = -1;
    m->next_request = m->next_answer = 1;
    m->end_when_full = s->end_when_full;
    vmm_watch_init(m);
    int r = life_init(&m->life, &vmm_life_ops, v->reaper, s, e);
    if (r == 0)
        r = disks_read(&disks_layers, s, &en->key, m->disks, m->disk_read_only, e);
    m->on_timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (r == 0 && m->on_timer.fd < 0)
        r = err_set_errno(e, errno, "timer");
    if (r < 0)
        vmm_free(m);
    else
        *ret = m;
    return r;
}

/* Its layers and what it saves have lengths that are known: a monitor that its guest owns must not
 * fill the host's disk with more than these. */
static void limit_files(const struct vmm *m)
{
    struct layer_geometry g;
    uint64_t ram = (uint64_t)m->shape.memory_mib << 20;
    uint64_t max = ram + VMM_PAGES_INDEX_MAX(ram) + VMM_STATE_MAX;
    for (unsigned i = 0; i < m->shape.n_disks; i++)
        if (!m->disk_read_only[i] && layer_geometry(m->disks[i].bytes, &g) == 0 &&
            g.file_bytes > max)
            max = g.file_bytes;
    struct rlimit l = {max, max};
    (void)prlimit(m->life.pid, RLIMIT_FSIZE, &l, NULL); /* a second line of defence only */
}

static int send_create(struct vmm *m, struct err *e)
{
    struct monitor_message msg;
    vmm_create_message(&m->shape, &msg);
    return vmm_ask(m, &msg, NULL, e);
}

int vmm_start_process(struct vmm *m, struct err *e)
{
    struct vmm_engine *v = m->base.en->impl;
    struct vmm_process p;
    bool created = vmm_pool_take(v->pool, &m->shape, &p);
    int r = created ? 0 : vmm_process_spawn(&v->program, &p, e);
    if (r < 0)
        return r;
    m->life.vmm = p.proc;
    m->life.pid = p.proc.pid;
    m->life.on_stderr.fd = p.err;
    m->on_control.fd = p.control;
    m->err_theirs = p.err_theirs;
    m->next_request = m->next_answer = created ? 2 : 1;
    limit_files(m);
    int slot = created ? 0 : send_create(m, e);
    return slot < 0 ? slot : created ? 0 : slot + 1;
}

static void machine_digest(const struct vmm *m, char out[SHA256_HEX_LEN + 1])
{
    struct monitor_message create;
    char text[256];
    vmm_create_message(&m->shape, &create);
    int n = snprintf(text, sizeof text, "kvm %s %s %u MiB %u cpus devices %#x net %s disks",
                     MONITOR_VERSION, MONITOR_CPU, m->shape.memory_mib, m->shape.vcpus,
                     create.create.flags & MONITOR_GUEST_FLAGS,
                     m->shape.network ? NET_GUEST_MAC : "none");
    for (unsigned i = 0; i < m->shape.n_disks; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s", m->disk_read_only[i] ? "ro" : "rw");
    sha256_hex_of(text, (size_t)n, out);
}

/* No rate of the time stamp counter: the state has it, and the monitor refuses one that it can
 * neither match nor scale to. */
void vmm_describe(const struct vmm *m, struct manifest *ret)
{
    *ret = (struct manifest){
        .memory_mib = m->shape.memory_mib,
        .vcpus = m->shape.vcpus,
        .network = m->shape.network,
        .n_disks = m->shape.n_disks,
    };
    snprintf(ret->engine, sizeof ret->engine, "%s", kvm_engine_ops.name);
    snprintf(ret->engine_version, sizeof ret->engine_version, "%s", m->base.en->version);
    snprintf(ret->cpu, sizeof ret->cpu, "%s", MONITOR_CPU);
    for (unsigned i = 0; i < ret->n_disks; i++)
        ret->disk_bytes[i] = m->disks[i].bytes;
    machine_digest(m, ret->machine);
}

int vmm_stats(struct vmm *m, struct engine_stats *ret, struct err *e)
{
    struct engine_stats s = {0};
    struct monitor_message msg = vmm_request(MONITOR_STATS, 0);
    struct monitor_answer a;
    int r = vmm_call(m, &msg, NULL, STATS_TIMEOUT_MS, &a, e);
    if (r == 0 && (r = usage_process(m->life.pid, &s, e)) < 0 && !life_alive(&m->life))
        r = life_gone(&m->life, e);
    if (r < 0)
        return r;
    s.exits = a.stats.exits;
    s.balloon_bytes = a.stats.balloon_bytes;
    s.disk_written_bytes = disks_written(m->disks, m->disk_read_only, m->shape.n_disks);
    usage_network(m->life.stats_fd, &s);
    *ret = s;
    return 0;
}

void vmm_free(struct vmm *m)
{
    if (!m)
        return;
    life_stop(&m->life);
    disks_done(m->disks);
    int *const fds[] = {&m->base_fd,     &m->err_theirs,      &m->on_control.fd,
                        &m->on_timer.fd, &m->working_set_dir, &m->working_set_file};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        cleanup_close(fds[i]);
    life_done(&m->life);
    free(m);
}
