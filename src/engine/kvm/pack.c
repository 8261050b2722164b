/* SPDX-License-Identifier: Apache-2.0 */
/* Packing: a snapshot's directory again, with its memory in compressed chunks. A guest wrote that
 * memory, so a process of its own in the monitor's jail reads it. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/kvm/machine.h"

enum { PACK_TIMEOUT_MS = 30 * 60 * 1000 };

static int run_packer(const struct vmm_program *p, int memory, int out, struct err *e)
{
    static const char *const env[] = {"PATH=/usr/bin", "LANG=C", NULL};
    const char *argv[] = {p->path, "pack", NULL};
    struct proc_spec s = {
        .argv = argv, .env = env, .cwd = "/", .fds = {{memory, 3}, {out, 4}}, .n_fds = 2};
    struct proc packer = {.pidfd = -1};
    struct proc_exit x;
    int r = proc_spawn(&s, &packer, e);
    if (r < 0)
        return r;
    if (proc_wait(&packer, PACK_TIMEOUT_MS, &x) < 0) {
        proc_kill(&packer);
        return err_set(e, ETIMEDOUT, "packing a snapshot takes too long");
    }
    if (x.signal || x.code)
        return err_set(e, x.code == 3 ? ENOSPC : EIO, "a snapshot could not be packed");
    return 0;
}

static int pack_memory(struct engine *en, const char *from, struct frozen *f, struct err *e)
{
    const struct vmm_engine *v = en->impl;
    CLEANUP(cleanup_close)
    int memory = frozen_open(from, "memory", e);
    if (memory < 0)
        return memory;
    CLEANUP(cleanup_close)
    int out = frozen_create(f, VMM_CHUNKS, e);
    return out < 0 ? out : run_packer(&v->program, memory, out, e);
}

static int copy_state(const char *from, struct frozen *f, struct err *e)
{
    char source[4200], target[4200];
    int r = path_join(source, sizeof source, from, "state", e);
    if (r == 0)
        r = path_join(target, sizeof target, f->part, "state", e);
    return r < 0 ? r : fs_copy_file(source, target, 0600, e);
}

static int fill(struct engine *en, const char *from, struct frozen *f, struct manifest *m,
                struct err *e)
{
    int r = copy_state(from, f, e);
    if (r == 0)
        r = pack_memory(en, from, f, e);
    m->n_files = 0;
    if (r == 0)
        r = frozen_add_digest(f, m, "state", UINT64_MAX, MANIFEST_PLAIN, e);
    if (r == 0)
        r = frozen_add_digest(f, m, VMM_CHUNKS, UINT64_MAX, MANIFEST_PLAIN, e);
    return r < 0 ? r : frozen_commit(f, m, en->cache, e);
}

int vmm_pack(struct engine *en, const char *from, const char *to, struct err *e)
{
    struct manifest m;
    struct frozen f = {0};
    int r = frozen_read_manifest(from, &m, e);
    if (r == 0 &&
        (m.kind != MANIFEST_SNAPSHOT || !manifest_find(&m, "memory") || manifest_find(&m, "pages")))
        r = err_set(e, EINVAL, "%s is not a snapshot with a memory file alone", from);
    if (r == 0)
        r = frozen_verify(from, &m, en->cache, e);
    if (r == 0)
        r = frozen_begin(&f, to, e);
    if (r == 0)
        r = fill(en, from, &f, &m, e);
    frozen_abandon(&f);
    return r;
}
