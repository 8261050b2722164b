/* SPDX-License-Identifier: Apache-2.0 */
/* The front of the engine layer: checks specifications, fills in defaults, hands over to the
 * backend, and makes disks. */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/proc.h"
#include "engine/argv.h"
#include "engine/backend.h"
#include "engine/kvm_probe.h"
#include "engine/sandbox.h"

#define MEMORY_MIN_MIB 64
#define MEMORY_MAX_MIB (64 * 1024)
#define VCPUS_MAX 16
#define CGROUP_TASKS 512
#define FLATTEN_TIMEOUT_MS (30 * 60 * 1000)

static const struct engine_ops *const BACKENDS[] = {&kvm_engine_ops, &qemu_engine_ops};

static char *copy(const char *s)
{
    return s ? strdup(s) : NULL;
}

static bool known(const char *kind)
{
    bool yes = strcmp(kind, "auto") == 0;
    for (size_t i = 0; i < ARRAY_LEN(BACKENDS); i++)
        yes |= strcmp(kind, BACKENDS[i]->name) == 0;
    return yes;
}

const char *engine_pick(const char *kind, const char *helper_dir, const struct kvm_probe *probe,
                        char *why, size_t cap)
{
    struct kvm_probe p;
    char program[4096];
    if (!kind)
        kind = "auto";
    if (!known(kind)) {
        snprintf(why, cap, "unknown engine '%s' (auto, kvm, qemu)", kind);
        return NULL;
    }
    if (strcmp(kind, "auto") != 0) {
        snprintf(why, cap, "engine.kind asks for it");
        return strcmp(kind, "kvm") == 0 ? "kvm" : "qemu";
    }
    if (probe)
        p = *probe;
    else
        kvm_probe(&p);
    bool found = engine_find_helper(helper_dir, "vmm", "tinderbox-vmm", program, sizeof program);
    if (p.real && !found)
        snprintf(why, cap, "%s, but tinderbox-vmm is not installed", p.text);
    else
        snprintf(why, cap, "%s", p.text);
    return p.real && found ? "kvm" : "qemu";
}

static const struct engine_ops *choose(const struct engine_config *c, struct err *e)
{
    char why[300];
    const char *name = engine_pick(c->kind, c->helper_dir, NULL, why, sizeof why);
    for (size_t i = 0; name && i < ARRAY_LEN(BACKENDS); i++)
        if (strcmp(name, BACKENDS[i]->name) == 0)
            return BACKENDS[i];
    err_set(e, EINVAL, "%s", why);
    return NULL;
}

bool engine_find_helper(const char *helper_dir, const char *layer, const char *name, char *out,
                        size_t cap)
{
    /* In a build tree each program is in its layer's directory. */
    return (snprintf(out, cap, "%s/%s", helper_dir, name) < (int)cap && access(out, X_OK) == 0) ||
           (snprintf(out, cap, "%s/../%s/%s", helper_dir, layer, name) < (int)cap &&
            access(out, X_OK) == 0);
}

int engine_open(const struct engine_config *c, struct engine **ret, struct err *e)
{
    const struct engine_ops *ops = choose(c, e);
    if (!ops)
        return -EINVAL;
    struct engine *en = calloc(1, sizeof *en);
    if (!en)
        return err_set(e, ENOMEM, "out of memory");
    en->ops = ops;
    en->kernel = copy(c->kernel);
    en->initramfs = copy(c->initramfs);
    en->helper_dir = copy(c->helper_dir);
    en->program = copy(c->qemu ? c->qemu : "qemu-system-x86_64");
    en->device = copy(c->kvm ? c->kvm : "/dev/kvm");
    en->sandbox = c->sandbox;
    en->huge_pages = c->huge_pages;
    en->rates = c->rates;
    en->pool = c->pool;
    en->cache = frozen_cache_new();
    int r =
        en->cache ? overlay_key_load(c->key_dir, &en->key, e) : err_set(e, ENOMEM, "out of memory");
    if (r == 0)
        r = cgroup_open(c->cgroup ? c->cgroup : "auto", &en->cgroup, e);
    if (r == 0)
        r = ops->open(en, e);
    if (r < 0) {
        engine_close(en);
        return r;
    }
    *ret = en;
    return 0;
}

void engine_close(struct engine *en)
{
    if (!en)
        return;
    if (en->impl)
        en->ops->close(en);
    frozen_cache_free(en->cache);
    cgroup_close(en->cgroup);
    free(en->kernel);
    free(en->initramfs);
    free(en->helper_dir);
    free(en->program);
    free(en->device);
    free(en);
}

const char *engine_name(const struct engine *en)
{
    return en->ops->name;
}

const char *engine_version(const struct engine *en)
{
    return en->version;
}

/* ---- specifications ---------------------------------------------------------------------------
 */

static bool good_id(const char *id)
{
    size_t n = id ? strlen(id) : 0;
    return n >= 1 && n <= 64 && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int check_spec(const struct engine_spec *s, struct err *e)
{
    if (!good_id(s->id))
        return err_set(e, EINVAL, "machine id: 1 to 64 of a-z, 0-9 and '-'");
    if (!s->dir || s->dir[0] != '/')
        return err_set(e, EINVAL, "machine directory: an absolute path is needed");
    if (s->memory_mib < MEMORY_MIN_MIB || s->memory_mib > MEMORY_MAX_MIB)
        return err_set(e, EINVAL, "memory: %u to %u MiB, not %u", MEMORY_MIN_MIB, MEMORY_MAX_MIB,
                       s->memory_mib);
    if (s->vcpus < 1 || s->vcpus > VCPUS_MAX)
        return err_set(e, EINVAL, "vCPUs: 1 to %u, not %u", VCPUS_MAX, s->vcpus);
    if (s->n_disks > ENGINE_DISKS_MAX)
        return err_set(e, EINVAL, "disks: at most %u", ENGINE_DISKS_MAX);
    for (unsigned i = 0; i < s->n_disks; i++)
        if (!s->disks[i].path || s->disks[i].path[0] != '/')
            return err_set(e, EINVAL, "disk %u: an absolute path is needed", i);
    return 0;
}

/* The policy lives as long as the call: the backend copies what it needs. */
static int with_defaults(const struct engine_spec *in, struct engine_spec *out,
                         struct net_policy **policy, struct err *e)
{
    int r = check_spec(in, e);
    *policy = NULL;
    *out = *in;
    if (r < 0 || in->policy)
        return r;
    *policy = malloc(sizeof **policy);
    if (!*policy)
        return err_set(e, ENOMEM, "out of memory");
    net_policy_default(*policy);
    out->policy = *policy;
    return 0;
}

/* A machine that exceeds its limits must not run outside of them. */
static int confine(struct engine *en, const struct engine_spec *s, struct engine_machine **m,
                   struct err *e)
{
    pid_t pids[ENGINE_PIDS] = {0};
    const struct cgroup_limits l = {((uint64_t)s->memory_mib << 20) + en->own_memory, s->vcpus,
                                    CGROUP_TASKS};
    if (!en->cgroup)
        return 0;
    snprintf((*m)->cgroup, sizeof(*m)->cgroup, "%s", s->id);
    en->ops->pids(*m, pids);
    int r = cgroup_enter(en->cgroup, s->id, &l, pids, ENGINE_PIDS, e);
    if (r < 0) {
        engine_machine_free(*m);
        *m = NULL;
    }
    return r;
}

int engine_boot(struct engine *en, const struct engine_spec *s, struct engine_machine **ret,
                struct err *e)
{
    struct engine_spec full;
    CLEANUP(cleanup_free)
    struct net_policy *policy = NULL;
    int r = with_defaults(s, &full, &policy, e);
    if (r == 0)
        r = en->ops->boot(en, &full, ret, e);
    return r < 0 ? r : confine(en, &full, ret, e);
}

static int thaw(struct engine *en, const struct engine_spec *s, const char *dir,
                enum manifest_kind kind, struct engine_machine **ret, struct err *e)
{
    struct engine_spec full;
    CLEANUP(cleanup_free)
    struct net_policy *policy = NULL;
    int r = with_defaults(s, &full, &policy, e);
    if (r == 0)
        r = en->ops->thaw(en, &full, dir, kind, ret, e);
    return r < 0 ? r : confine(en, &full, ret, e);
}

int engine_restore(struct engine *en, const struct engine_spec *s, const char *snapshot_dir,
                   struct engine_machine **ret, struct err *e)
{
    return thaw(en, s, snapshot_dir, MANIFEST_SNAPSHOT, ret, e);
}

int engine_resume(struct engine *en, const struct engine_spec *s, const char *state_dir,
                  struct engine_machine **ret, struct err *e)
{
    return thaw(en, s, state_dir, MANIFEST_SUSPENDED, ret, e);
}

int engine_snapshot(struct engine_machine *m, const char *snapshot_dir, struct err *e)
{
    return m->en->ops->freeze(m, snapshot_dir, MANIFEST_SNAPSHOT, e);
}

int engine_suspend(struct engine_machine *m, const char *state_dir, struct err *e)
{
    return m->en->ops->freeze(m, state_dir, MANIFEST_SUSPENDED, e);
}

int engine_snapshot_pack(struct engine *en, const char *snapshot_dir, const char *packed_dir,
                         struct err *e)
{
    return en->ops->pack ? en->ops->pack(en, snapshot_dir, packed_dir, e)
                         : err_set(e, ENOTSUP, "engine %s cannot pack snapshots", en->ops->name);
}

int engine_channel(struct engine_machine *m, struct err *e)
{
    return m->en->ops->channel(m, e);
}

int engine_machine_pause(struct engine_machine *m, struct err *e)
{
    return m->en->ops->pause(m, true, e);
}

int engine_machine_unpause(struct engine_machine *m, struct err *e)
{
    return m->en->ops->pause(m, false, e);
}

int engine_machine_network(struct engine_machine *m, bool open, struct err *e)
{
    return m->en->ops->network(m, open, e);
}

int engine_fork(struct engine_machine *m, const char *snapshot_dir, struct engine_fork_info *ret,
                struct err *e)
{
    return m->en->ops->fork(m, snapshot_dir, ret, e);
}

int engine_machine_stats(struct engine_machine *m, struct engine_stats *ret, struct err *e)
{
    return m->en->ops->stats(m, ret, e);
}

bool engine_machine_alive(const struct engine_machine *m)
{
    return m->en->ops->alive(m);
}

void engine_machine_kill(struct engine_machine *m)
{
    m->en->ops->kill(m);
}

void engine_machine_free(struct engine_machine *m)
{
    if (!m)
        return;
    struct engine *en = m->en;
    char cgroup[sizeof m->cgroup];
    memcpy(cgroup, m->cgroup, sizeof cgroup);
    en->ops->free(m);
    if (cgroup[0])
        cgroup_leave(en->cgroup, cgroup);
}

/* ---- disks ------------------------------------------------------------------------------------
 */

int engine_disk_create(struct engine *en, const char *path, uint64_t bytes, struct err *e)
{
    (void)en;
    CLEANUP(cleanup_close)
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(e, errno, "create disk %s", path);
    if (ftruncate(fd, (off_t)bytes) == 0)
        return 0;
    int code = errno;
    unlink(path);
    return err_set_errno(e, code, "create disk %s", path);
}

int engine_disk_overlay(struct engine *en, const char *path, const char *base,
                        enum engine_disk_format base_format, uint64_t bytes, struct err *e)
{
    return disks_overlay(en->ops->disks, path, base, base_format, bytes, &en->key, e);
}

/* The program reads what a guest wrote: it runs in the sandbox too, with the chain read-only. */
static int run_flatten(struct engine *en, const struct overlay_chain *chain, const char *raw,
                       struct err *e)
{
    const struct disks_format *f = en->ops->disks;
    struct argv a = {0};
    struct buf out = BUF_INIT(65536);
    char program[4096];
    if (!f->ours)
        snprintf(program, sizeof program, "%s", f->program);
    else if (!engine_find_helper(en->helper_dir, "disk", f->program, program, sizeof program))
        return err_set(e, ENOENT, "%s is not installed in %s", f->program, en->helper_dir);
    if (en->sandbox) {
        struct sandbox s = {.info_fd = -1};
        sandbox_begin(&a, &s);
        if (f->ours)
            sandbox_bind(&a, program, program, false);
        for (unsigned i = 0; i < chain->n; i++)
            sandbox_bind(&a, chain->node[i].path, chain->node[i].path, false);
        sandbox_bind(&a, raw, raw, true);
        sandbox_end(&a);
    }
    argv_add(&a, program);
    f->flatten(&a, chain, raw);
    const char *const *v = argv_end(&a, e);
    int r = v ? proc_run(v, NULL, FLATTEN_TIMEOUT_MS, &out, e) : -ENOMEM;
    if (r == -EIO && e && strstr(e->text, strerror(ENOSPC)))
        r = err_set(e, ENOSPC, "%s", e->text);
    argv_done(&a);
    buf_done(&out);
    return r;
}

int engine_disk_flatten(struct engine *en, const char *overlay, const char *raw, struct err *e)
{
    struct overlay_chain chain;
    int r = disks_chain_read(en->ops->disks, overlay, ENGINE_DISK_OVERLAY, &en->key, &chain, e);
    if (r == 0)
        r = engine_disk_create(en, raw, chain.bytes, e);
    if (r == 0 && (r = run_flatten(en, &chain, raw, e)) < 0)
        unlink(raw);
    disks_chain_done(&chain);
    return r;
}
