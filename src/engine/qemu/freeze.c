/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freezing: stop, write the device state (and, for a machine whose memory is not a shared file, all
 * of its memory) through an inherited descriptor, end the process, then hash, sync and rename.
 * Until QEMU is told to quit every failure lets the machine run on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/qemu/machine.h"
#include "engine/tsc.h"

enum { MOVE_TIMEOUT_MS = 300000 };

void machine_describe(const struct machine *m, struct manifest *ret)
{
    *ret = (struct manifest){
        .memory_mib = m->args.memory_mib,
        .vcpus = m->args.vcpus,
        .tsc_khz = tsc_khz(),
        .network = m->args.network,
        .n_disks = m->args.n_disks,
    };
    snprintf(ret->engine, sizeof ret->engine, "%s", qemu_engine_ops.name);
    snprintf(ret->engine_version, sizeof ret->engine_version, "%s", m->base.en->version);
    snprintf(ret->cpu, sizeof ret->cpu, "%s", QEMU_CPU);
    for (unsigned i = 0; i < ret->n_disks; i++)
        ret->disk_bytes[i] = m->disks[i].bytes;
}

/* The guest does not run, so there is nothing to be gentle to. */
static int lift_limits(struct machine *m, struct err *e)
{
    return machine_call(
        m, "migrate-set-parameters",
        json_pack("{s:I, s:i}", "max-bandwidth", (json_int_t)1 << 40, "downtime-limit", 2000000),
        e);
}

static int explain_failure(struct machine *m, struct err *e)
{
    CLEANUP(cleanup_json)
    json_t *v = NULL;
    struct err ignored;
    int slot = machine_command(m, "query-migrate", NULL, -1, &ignored);
    if (slot < 0 || machine_answer(m, slot, 5000, &v, &ignored) < 0)
        return err_set(e, EIO, "the state of machine %s could not be written", m->id);
    const char *why = json_get_str(v, "error-desc");
    bool full = why && strstr(why, strerror(ENOSPC));
    return err_set(e, full ? ENOSPC : EIO, "the state of machine %s could not be written: %.200s",
                   m->id, why ? why : "no reason given");
}

static int write_state(struct machine *m, int fd, struct err *e)
{
    int slot = machine_command(m, "getfd", json_pack("{s:s}", "fdname", "state"), fd, e);
    int r = slot < 0 ? slot : machine_answer(m, slot, 10000, NULL, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&m->lock);
    m->migration = MIGRATION_NONE;
    pthread_mutex_unlock(&m->lock);
    r = machine_call(m, "migrate", json_pack("{s:s}", "uri", "fd:state"), e);
    if (r == 0 && (r = machine_wait_migration(m, MOVE_TIMEOUT_MS, e)) == -EIO)
        r = explain_failure(m, e);
    return r;
}

static int quit(struct machine *m)
{
    struct err ignored;
    pthread_mutex_lock(&m->lock);
    m->expected = true;
    pthread_mutex_unlock(&m->lock);
    int slot = machine_command(m, "quit", NULL, -1, &ignored);
    if (slot >= 0 && machine_wait_end(m, 3000) == 0)
        return 0;
    machine_kill(m); /* its state is safe already */
    return 0;
}

static int sync_disks(const struct machine *m, struct err *e)
{
    for (unsigned i = 0; i < m->args.n_disks; i++) {
        if (m->disk_read_only[i])
            continue;
        CLEANUP(cleanup_close)
        int fd = open(m->disks[i].node[0].path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fdatasync(fd) < 0)
            return err_set_errno(e, errno, "sync %s", m->disks[i].node[0].path);
    }
    return 0;
}

static int stop_and_write(struct machine *m, struct frozen *f, struct err *e)
{
    int r = machine_call(m, "stop", NULL, e);
    if (r < 0)
        return r;
    r = lift_limits(m, e);
    CLEANUP(cleanup_close)
    int fd = r < 0 ? -1 : frozen_create(f, "state", e);
    if (r == 0 && fd < 0)
        r = fd;
    if (r == 0)
        r = write_state(m, fd, e);
    struct err ignored; /* the first error is the one to report */
    if (r < 0 && machine_alive(m) && machine_call(m, "cont", NULL, &ignored) < 0)
        machine_kill(m);
    return r;
}

static int store(struct machine *m, struct frozen *f, enum manifest_kind kind, struct err *e)
{
    struct manifest mf;
    machine_describe(m, &mf);
    mf.kind = kind;
    int r = qemu_args_machine_digest(&m->args, mf.machine, e);
    if (r == 0)
        r = frozen_add_digest(f, &mf, "state", MANIFEST_PLAIN, e);
    if (r == 0 && m->args.memory == QEMU_MEMORY_SHARED) {
        r = frozen_move_in(f, m->memory_file, "memory", e);
        if (r == 0)
            r = frozen_add_digest(f, &mf, "memory", MANIFEST_SPARSE, e);
    }
    if (r == 0)
        r = sync_disks(m, e);
    return r < 0 ? r : frozen_commit(f, &mf, m->base.en->cache, e);
}

int machine_freeze(struct machine *m, const char *dir, enum manifest_kind kind, struct err *e)
{
    struct frozen f;
    int r = frozen_begin(&f, dir, e);
    if (r == 0)
        r = stop_and_write(m, &f, e);
    if (r == 0)
        r = quit(m);
    if (r == 0)
        r = store(m, &f, kind, e);
    frozen_abandon(&f);
    return r;
}
