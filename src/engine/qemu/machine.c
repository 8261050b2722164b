/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/tsc.h"
#include "engine/usage.h"

static void fill_args(struct machine *m, const struct engine_spec *s)
{
    struct engine *en = m->base.en;
    m->args = (struct qemu_args){
        .program = en->program,
        .memory_mib = s->memory_mib,
        .vcpus = s->vcpus,
        .kernel = en->kernel,
        .initramfs = en->initramfs,
        .tsc_khz = tsc_khz(),
        .network = s->network,
        .sandboxed = en->sandbox,
        .disks = m->disks,
        .disk_read_only = m->disk_read_only,
        .n_disks = s->n_disks,
    };
}

int machine_new(struct engine *en, struct reaper *r, const struct engine_spec *s,
                struct machine **ret, struct err *e)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(e, ENOMEM, "out of memory");
    m->base.en = en;
    m->base_fd = m->pages_fd = -1;
    m->next_id = 1;
    m->end_when_full = s->end_when_full;
    qmp_reader_init(&m->qmp);
    machine_watch_init(m);
    fill_args(m, s);
    int k = life_init(&m->life, &machine_life_ops, r, s, e);
    m->life.sandboxed = en->sandbox;
    if (k == 0)
        k = disks_read(&disks_qcow2, s, &en->key, m->disks, m->disk_read_only, e);
    if (k < 0)
        machine_free(m);
    else
        *ret = m;
    return k;
}

int machine_stats(struct machine *m, struct engine_stats *ret, struct err *e)
{
    struct engine_stats s = {0};
    if (!life_alive(&m->life))
        return life_gone(&m->life, e);
    int r = usage_process(m->life.pid, &s, e);
    if (r < 0)
        return life_alive(&m->life) ? r : life_gone(&m->life, e);
    s.disk_written_bytes = disks_written(m->disks, m->disk_read_only, m->args.n_disks);
    usage_network(m->life.stats_fd, &s);
    *ret = s;
    return 0;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    life_stop(&m->life);
    if (m->life.dir_fd >= 0)
        unlinkat(m->life.dir_fd, "agent.sock", 0);
    disks_done(m->disks);
    for (unsigned i = 0; i < MACHINE_CALLS_MAX; i++)
        json_decref(m->calls[i].data);
    qmp_reader_done(&m->qmp);
    cleanup_close(&m->base_fd);
    cleanup_close(&m->pages_fd);
    cleanup_close(&m->on_qmp.fd);
    cleanup_close(&m->on_retry.fd);
    life_done(&m->life);
    free(m->memory_file);
    free(m);
}
