/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build machines. Every step of a build runs in a machine of its own, thawed from one snapshot that
 * is made once per guest kit and engine: booted, agent up, nothing mounted, four disk slots of
 * fixed size. A restored guest keeps the disk sizes it was frozen with, so every disk of a build
 * has DISK_BYTES, whatever it holds:
 *   slot 0  the stage, read-write: a new overlay over the previous step's disk
 *   slot 1  the build context (a zip at the start of the disk), read-only
 *   slot 2  the disk of another stage (COPY --from), read-only
 *   slot 3  spare, read-only
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/log.h"
#include "microvm/internal.h"
#include "proto/wire.h"

#define BUILDER_MEMORY_MIB 2048
#define BUILDER_LAYOUT 1 /* raise when slots or agent state in the snapshot change */
#define BOOT_TIMEOUT_MS 120000

/* <data>/builder/<digest of what the snapshot depends on>. */
static int snapshot_home(struct microvm_service *s, char *out, size_t cap, struct err *e)
{
    char path[1024], hex[SHA256_HEX_LEN + 1];
    CLEANUP(buf_done)
    struct buf b = BUF_INIT(1 << 20);
    snprintf(path, sizeof path, "%s/manifest.json", s->cfg.guest_dir);
    int r = fs_read_file(path, &b, e);
    if (r < 0)
        return err_wrap(e, "guest kit (made by guest/assemble)");
    if (buf_addf(&b, "\n%s %s %d %d %u", engine_name(s->cfg.engine), engine_version(s->cfg.engine),
                 BUILDER_LAYOUT, BUILDER_MEMORY_MIB, service_vcpus(s, BUILDER_MEMORY_MIB)) < 0)
        return err_set(e, ENOMEM, "out of memory");
    sha256_hex_of(b.data, b.len, hex);
    hex[16] = '\0';
    snprintf(out, cap, "%s/builder/%s", s->cfg.data_dir, hex);
    return 0;
}

static void fill_spec(const struct microvm_service *s, const char *id, const char *dir,
                      struct engine_spec *spec)
{
    *spec = (struct engine_spec){
        .id = id,
        .dir = dir,
        .memory_mib = BUILDER_MEMORY_MIB,
        .vcpus = service_vcpus(s, BUILDER_MEMORY_MIB),
        .n_disks = BUILDER_SLOTS,
        .network = true,
        .end_when_full = true,
    };
}

static int boot_and_freeze(struct microvm_service *s, const char *home, const char *dir,
                           struct err *e)
{
    char slot[1024], stage[1024], snapshot[1024];
    struct engine_spec spec;
    struct builder b = {.service = s};
    snprintf(slot, sizeof slot, "%s/slot.raw", home);
    snprintf(stage, sizeof stage, "%.900s/stage.overlay", dir);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", home);
    fill_spec(s, "builder", dir, &spec);
    int r = fs_exists(slot) ? 0 : engine_disk_create(s->cfg.engine, slot, DISK_BYTES, e);
    if (r == 0)
        r = engine_disk_overlay(s->cfg.engine, stage, slot, ENGINE_DISK_RAW, 0, e);
    spec.disks[SLOT_STAGE] = (struct engine_disk){stage, ENGINE_DISK_OVERLAY, false};
    for (int i = SLOT_CONTEXT; i < BUILDER_SLOTS; i++)
        spec.disks[i] = (struct engine_disk){slot, ENGINE_DISK_RAW, true};
    if (r == 0)
        r = engine_boot(s->cfg.engine, &spec, &b.machine, e);
    if (r == 0)
        r = builder_enlist(&b, e);
    if (r == 0)
        r = guest_connect(s, b.machine, BOOT_TIMEOUT_MS, &b.agent, e);
    CLEANUP(cleanup_json)
    json_t *body = json_pack("{s:b}", "dropCaches", 1);
    if (r == 0)
        r = agent_call(b.agent, "POST", WIRE_PREPARE, body, 60000, NULL, e);
    if (b.agent)
        agent_close(b.agent);
    if (r == 0)
        r = engine_snapshot(b.machine, snapshot, e);
    r = builder_explain(&b, r, e);
    builder_stop(&b); /* the directory is the caller's */
    return r;
}

static int ensure_snapshot(struct microvm_service *s, const char *home, struct err *e)
{
    char manifest[1024], dir[1024], uuid[UUID_LEN + 1];
    snprintf(manifest, sizeof manifest, "%s/snapshot/manifest.json", home);
    if (fs_exists(manifest))
        return 0;
    uuid_new(uuid);
    snprintf(dir, sizeof dir, "%s/tmp/builder-%s", s->cfg.data_dir, uuid);
    int64_t start = clock_mono_ms();
    int r = fs_mkdir_p(home, 0700, e);
    if (r == 0)
        r = fs_mkdir_p(dir, 0700, e);
    if (r == 0)
        r = boot_and_freeze(s, home, dir, e);
    if (fs_remove_tree(dir, NULL) < 0)
        log_warn("build", "cannot remove %s", dir);
    if (r < 0)
        return err_wrap(e, "build machine");
    log_info("build", "build machine booted and frozen in %lld ms",
             (long long)(clock_mono_ms() - start));
    return 0;
}

static int make_disks(struct builder *b, const char *home, const struct builder_disks *d,
                      struct engine_spec *spec, char paths[BUILDER_SLOTS][1024], struct err *e)
{
    struct engine *en = b->service->cfg.engine;
    for (int i = 0; i < BUILDER_SLOTS; i++) {
        snprintf(paths[i], 1024, "%s/slot.raw", home);
        spec->disks[i] = (struct engine_disk){paths[i], ENGINE_DISK_RAW, true};
    }
    const char *parent = d->stage_parent ? d->stage_parent : paths[SLOT_SPARE];
    snprintf(paths[SLOT_STAGE], 1024, "%s/stage.overlay", b->dir);
    spec->disks[SLOT_STAGE] = (struct engine_disk){paths[SLOT_STAGE], ENGINE_DISK_OVERLAY, false};
    int r = engine_disk_overlay(en, paths[SLOT_STAGE], parent,
                                d->stage_parent ? d->stage_format : ENGINE_DISK_RAW, DISK_BYTES, e);
    if (r == 0 && d->context) {
        snprintf(paths[SLOT_CONTEXT], 1024, "%s/context.overlay", b->dir);
        spec->disks[SLOT_CONTEXT].format = ENGINE_DISK_OVERLAY;
        r = engine_disk_overlay(en, paths[SLOT_CONTEXT], d->context, ENGINE_DISK_RAW, DISK_BYTES,
                                e);
    }
    if (r == 0 && d->from) {
        snprintf(paths[SLOT_FROM], 1024, "%s", d->from);
        spec->disks[SLOT_FROM].format = d->from_format;
    }
    return r;
}

/* builds_interrupt() comes after closing was set: either it finds b listed or we see the flag. */
int builder_enlist(struct builder *b, struct err *e)
{
    pthread_mutex_lock(&b->service->lock);
    bool closing = atomic_load(&b->service->closing);
    if (!closing) {
        b->next = b->service->builders;
        b->service->builders = b;
    }
    pthread_mutex_unlock(&b->service->lock);
    return closing ? err_set(e, ECANCELED, "the service is shutting down") : 0;
}

static void delist(struct builder *b)
{
    pthread_mutex_lock(&b->service->lock);
    for (struct builder **at = &b->service->builders; *at; at = &(*at)->next)
        if (*at == b) {
            *at = b->next;
            break;
        }
    pthread_mutex_unlock(&b->service->lock);
}

static int thaw(struct builder *b, const char *home, const struct builder_disks *d, struct err *e)
{
    char paths[BUILDER_SLOTS][1024], snapshot[1024];
    struct engine_spec spec;
    fill_spec(b->service, strrchr(b->dir, '/') + 1, b->dir, &spec);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", home);
    int r = make_disks(b, home, d, &spec, paths, e);
    if (r == 0)
        r = engine_restore(b->service->cfg.engine, &spec, snapshot, &b->machine, e);
    if (r == 0)
        r = builder_enlist(b, e);
    if (r == 0)
        r = guest_connect(b->service, b->machine, 20000, &b->agent, e);
    if (r == 0)
        r = guest_resumed(b->agent, b->dir, GUEST_CLONED, e);
    return r == 0 ? engine_machine_network(b->machine, true, e) : r;
}

int builder_start(struct microvm_service *s, const struct builder_disks *d, struct builder *ret,
                  struct err *e)
{
    char home[600], uuid[UUID_LEN + 1];
    *ret = (struct builder){.service = s};
    int r = snapshot_home(s, home, sizeof home, e);
    if (r < 0)
        return r;
    pthread_mutex_lock(&s->builder_lock);
    r = ensure_snapshot(s, home, e);
    pthread_mutex_unlock(&s->builder_lock);
    if (r < 0)
        return r;
    uuid_new(uuid);
    snprintf(ret->dir, sizeof ret->dir, "%s/tmp/step-%s", s->cfg.data_dir, uuid);
    r = fs_mkdir_p(ret->dir, 0700, e);
    if (r == 0)
        r = thaw(ret, home, d, e);
    r = builder_explain(ret, r, e);
    if (r < 0)
        builder_stop(ret);
    return r < 0 ? err_wrap(e, "build machine") : 0;
}

void builder_stop(struct builder *b)
{
    if (!b->service)
        return;
    delist(b);
    if (b->agent)
        agent_close(b->agent);
    agent_unref(b->agent);
    engine_machine_free(b->machine);
    if (b->dir[0] && fs_remove_tree(b->dir, NULL) < 0)
        log_warn("build", "cannot remove %s", b->dir);
    *b = (struct builder){0};
}

int builder_explain(struct builder *b, int r, struct err *e)
{
    struct err why = {0};
    if (r >= 0 || !b->machine)
        return r;
    /* The session ends a little earlier than the machine. */
    for (int waited = 0; r == -EPIPE && waited < 2000 && engine_machine_alive(b->machine);
         waited += 20)
        usleep(20000);
    if (!engine_machine_alive(b->machine) && engine_machine_unpause(b->machine, &why) == -ENOSPC)
        return err_copy(e, &why);
    return r;
}

void builds_interrupt(struct microvm_service *s)
{
    pthread_mutex_lock(&s->lock);
    for (struct builder *b = s->builders; b; b = b->next)
        if (b->machine)
            engine_machine_kill(b->machine);
    pthread_mutex_unlock(&s->lock);
}

static bool is_part(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".part") == 0;
}

/* Entries of dir other than keep; parts_only: only what a freeze left half-made. */
static void sweep(const char *dir, const char *keep, bool parts_only)
{
    char path[1024];
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *ent; (ent = readdir(d));) {
        struct err e = {0};
        if (ent->d_name[0] == '.' || (keep && strcmp(ent->d_name, keep) == 0) ||
            (parts_only && !is_part(ent->d_name)))
            continue;
        snprintf(path, sizeof path, "%.700s/%s", dir, ent->d_name);
        if (fs_remove_tree(path, &e) < 0)
            log_warn("build", "left behind: %s", e.text);
        else
            log_info("build", "removed what an earlier run left: %s", path);
    }
    closedir(d);
}

void builders_sweep(struct microvm_service *s)
{
    char home[600], all[600];
    struct err e = {0};
    if (snapshot_home(s, home, sizeof home, &e) < 0) {
        log_warn("build", "%s", e.text);
        return;
    }
    snprintf(all, sizeof all, "%s/builder", s->cfg.data_dir);
    sweep(all, strrchr(home, '/') + 1, false);
    sweep(home, NULL, true);
}
