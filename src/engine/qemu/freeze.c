/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freezing: stop, write the state through a passed descriptor, end the process, then hash, sync and
 * rename. Until QEMU is told to quit every failure lets the machine run on. What is written depends
 * on where the memory is:
 *
 *   a shared file (booted)            device state by "migrate" with x-ignore-shared; the file
 * moves private copy of a file (clone)    the pages that differ, device state by
 * "xen-save-devices-state" (despite its name: everything but RAM), another link to the file
 *   neither, or the file has gone     everything by "migrate"
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/qemu/machine.h"
#include "engine/qemu/pages.h"
#include "engine/tsc.h"

enum { MOVE_TIMEOUT_MS = 300000 };

#define STATE_OVERHEAD (UINT64_C(64) << 20) /* beside RAM, all of which may be in it */

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
        return err_set(e, EIO, "the state of machine %s could not be written", m->life.id);
    const char *why = json_get_str(v, "error-desc");
    bool full = why && strstr(why, strerror(ENOSPC));
    return err_set(e, full ? ENOSPC : EIO, "the state of machine %s could not be written: %.200s",
                   m->life.id, why ? why : "no reason given");
}

static int write_state(struct machine *m, int fd, struct err *e)
{
    int slot = machine_command(m, "getfd", json_pack("{s:s}", "fdname", "state"), fd, e);
    int r = slot < 0 ? slot : machine_answer(m, slot, 10000, NULL, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&m->life.lock);
    m->migration_over = m->migration_failed = false;
    pthread_mutex_unlock(&m->life.lock);
    r = machine_call(m, "migrate", json_pack("{s:s}", "uri", "fd:state"), e);
    if (r == 0 && (r = machine_wait_migration(m, MOVE_TIMEOUT_MS, e)) == -EIO)
        r = explain_failure(m, e);
    return r;
}

static void ask_to_quit(struct machine *m)
{
    struct err ignored;
    life_expect_end(&m->life);
    if (machine_command(m, "quit", NULL, -1, &ignored) < 0)
        life_kill(&m->life); /* its state is safe already */
}

static void await_end(struct machine *m)
{
    if (life_wait_end(&m->life, 3000) < 0)
        life_kill(&m->life);
}

static bool tracing_refused(int r)
{
    return r == -EPERM || r == -EACCES || r == -ENOSYS || r == -EPROTO;
}

/* 0, or a failure after which the other way can be tried (1), or an error. */
static int write_pages(struct machine *m, struct frozen *f, struct manifest *mf, struct err *e)
{
    struct stat st;
    struct pages_file saved;
    struct err why = {0};
    if (m->base_fd < 0 || fstat(m->base_fd, &st) < 0 || st.st_nlink == 0 ||
        frozen_link_in(f, m->base_fd, "memory", &why) < 0)
        return 1; /* the snapshot was deleted, or is on another file system */
    CLEANUP(cleanup_close)
    int fd = frozen_create(f, "pages", e);
    if (fd < 0)
        return fd;
    struct pages_target t = {m->life.pid, st.st_ino, (uint64_t)st.st_size};
    int r = pages_save(&t, fd, &saved, e);
    if (tracing_refused(r)) {
        frozen_discard(f, "memory");
        frozen_discard(f, "pages");
        return 1;
    }
    frozen_start_writeback(fd);
    if (r == 0)
        r = manifest_add_file(mf, "memory", t.bytes, MANIFEST_SPARSE, m->base_digest, e);
    return r < 0 ? r : manifest_add_file(mf, "pages", saved.bytes, MANIFEST_PLAIN, saved.digest, e);
}

/* QEMU opens a file by name and must not have one to open: an fdset is its name for a descriptor.
 */
static int write_device_state(struct machine *m, int fd, struct err *e)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    CLEANUP(cleanup_close)
    int out = open(self, O_WRONLY | O_CLOEXEC); /* the mode it asks for */
    if (out < 0)
        return err_set_errno(e, errno, "open state file");
    int slot = machine_command(m, "add-fd", json_pack("{s:i}", "fdset-id", 1), out, e);
    int r = slot < 0 ? slot : machine_answer(m, slot, 10000, NULL, e);
    if (r < 0)
        return r;
    r = machine_call(m, "xen-save-devices-state",
                     json_pack("{s:s, s:b}", "filename", "/dev/fdset/1", "live", 0), e);
    struct err ignored; /* matters only to a machine that goes on, and then costs a descriptor */
    if (machine_call(m, "remove-fd", json_pack("{s:i}", "fdset-id", 1), &ignored) < 0)
        return r;
    return r;
}

static int write_everything(struct machine *m, struct frozen *f, struct manifest *mf, struct err *e)
{
    bool clone = m->args.memory == QEMU_MEMORY_PRIVATE;
    int r = clone ? write_pages(m, f, mf, e) : 1;
    if (r < 0)
        return r;
    CLEANUP(cleanup_close)
    int fd = frozen_create(f, "state", e);
    if (fd < 0)
        return fd;
    r = r == 0 ? write_device_state(m, fd, e) : write_state(m, fd, e);
    frozen_start_writeback(fd);
    return r;
}

static void set_freezing(struct machine *m, bool freezing)
{
    pthread_mutex_lock(&m->life.lock);
    m->freezing = freezing;
    pthread_mutex_unlock(&m->life.lock);
}

/* What a stopped guest has written before: nothing adds to it any more. */
static void start_all_writeback(const struct machine *m)
{
    const char *path[ENGINE_DISKS_MAX + 1];
    unsigned n = 0;
    for (unsigned i = 0; i < m->args.n_disks; i++)
        if (!m->disk_read_only[i])
            path[n++] = m->disks[i].node[0].path;
    if (m->args.memory == QEMU_MEMORY_SHARED)
        path[n++] = m->memory_file;
    while (n-- > 0) {
        CLEANUP(cleanup_close)
        int fd = open(path[n], O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            frozen_start_writeback(fd);
    }
}

static int stop_and_write(struct machine *m, struct frozen *f, struct manifest *mf, struct err *e)
{
    set_freezing(m, true);
    int r = machine_call(m, "stop", NULL, e);
    start_all_writeback(m);
    if (r == 0)
        r = lift_limits(m, e);
    if (r == 0)
        r = write_everything(m, f, mf, e);
    struct err ignored; /* the first error is the one to report */
    if (r < 0)
        set_freezing(m, false);
    if (r < 0 && life_alive(&m->life) && machine_call(m, "cont", NULL, &ignored) < 0)
        life_kill(&m->life);
    return r;
}

static int add_digests(struct machine *m, struct frozen *f, struct manifest *mf, struct err *e)
{
    uint64_t ram = (uint64_t)m->args.memory_mib << 20;
    int r = frozen_add_digest(f, mf, "state", 2 * ram + STATE_OVERHEAD, MANIFEST_PLAIN, e);
    if (r == 0 && m->args.memory == QEMU_MEMORY_SHARED) {
        r = frozen_move_in(f, m->memory_file, "memory", e);
        if (r == 0)
            r = frozen_add_digest(f, mf, "memory", ram, MANIFEST_SPARSE, e);
    }
    return r;
}

/* Memory and state do not change once the state is written, so they are hashed while QEMU ends. One
 * that changed them all the same would have made a snapshot that is refused as damaged. */
static int end_and_store(struct machine *m, struct frozen *f, struct manifest *mf, struct err *e)
{
    ask_to_quit(m);
    int r = add_digests(m, f, mf, e);
    await_end(m);
    if (r == 0)
        r = disks_sync(m->disks, m->disk_read_only, m->args.n_disks, e);
    return r < 0 ? r : frozen_commit(f, mf, m->base.en->cache, e);
}

int machine_freeze(struct machine *m, const char *dir, enum manifest_kind kind, struct err *e)
{
    struct frozen f;
    struct manifest mf;
    machine_describe(m, &mf);
    mf.kind = kind;
    int r = frozen_begin(&f, dir, e);
    if (r == 0)
        r = qemu_args_machine_digest(&m->args, mf.machine, e);
    if (r == 0)
        r = stop_and_write(m, &f, &mf, e);
    if (r == 0)
        r = end_and_store(m, &f, &mf, e);
    frozen_abandon(&f);
    return r;
}
