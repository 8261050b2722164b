/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forking: the machine stands still for as long as its monitor takes to copy itself and to put a
 * new empty layer on top of each writable disk; the copy then writes the state while the machine
 * runs.
 *
 * A disk's top file T is linked as T.<n>, the base of the machine's new layer for as long as the
 * machine's directory lives; the new layer takes the name T once it is in use. Until then nothing
 * has changed for who opens T after a crash. The clones' overlays are made over a copy,
 * <snapshot>/disk<i> (shared extents, where the file system has them): T.<n> stays open for writing
 * in a monitor that its guest may own, and must not be what other machines read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/kvm/freeze.h"

enum { LINKS_MAX = 4096 };

struct move {                         /* of one writable disk */
    char below[OVERLAY_PATH_MAX + 1]; /* T.<n> */
    char next[OVERLAY_PATH_MAX + 1];  /* the new layer until it is T */
    int fd;                           /* owned: of the new layer */
    bool linked, made;
};

struct moves {
    struct move disk[ENGINE_DISKS_MAX];
};

static const char *top_of(const struct vmm *m, unsigned i)
{
    return m->disks[i].node[0].path;
}

static int check_disks(const struct vmm *m, struct err *e)
{
    for (unsigned i = 0; i < m->shape.n_disks; i++) {
        if (m->disk_read_only[i])
            continue;
        if (m->disks[i].node[0].format != ENGINE_DISK_OVERLAY)
            return err_set(e, ENOTSUP,
                           "machine %s cannot be forked: disk %u is neither read-only nor "
                           "copy-on-write",
                           m->life.id, i);
        if (m->disks[i].n + 2 > OVERLAY_CHAIN_MAX) /* one for the clones' overlays, too */
            return err_set(e, ENOSPC, "machine %s cannot be forked again: disk %u has %u layers",
                           m->life.id, i, m->disks[i].n);
    }
    return 0;
}

/* The first free name T.<n>. */
static int link_below(struct move *v, const char *top, struct err *e)
{
    for (int n = 1; n < LINKS_MAX; n++) {
        if (snprintf(v->below, sizeof v->below, "%s.%d", top, n) >= (int)sizeof v->below)
            return err_set(e, ENAMETOOLONG, "disk %.200s: name too long", top);
        v->linked = linkat(AT_FDCWD, top, AT_FDCWD, v->below, 0) == 0;
        if (v->linked)
            return 0;
        if (errno != EEXIST)
            break;
    }
    return err_set_errno(e, errno, "link %s", v->below);
}

static int prepare_disk(struct vmm *m, unsigned i, struct move *v, struct engine_fork_info *ret,
                        struct err *e)
{
    const char *top = top_of(m, i);
    snprintf(ret->disk[i], sizeof ret->disk[i], "disk%u", i);
    int r = link_below(v, top, e);
    if (r < 0)
        return r;
    if (snprintf(v->next, sizeof v->next, "%s.next", top) >= (int)sizeof v->next)
        return err_set(e, ENAMETOOLONG, "disk %.200s: name too long", top);
    unlink(v->next); /* of a fork that was cut off */
    r = disks_overlay(&disks_layers, v->next, v->below, ENGINE_DISK_OVERLAY, m->disks[i].bytes,
                      &m->base.en->key, e);
    if (r < 0)
        return r;
    v->made = true;
    v->fd = open(v->next, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return v->fd < 0 ? err_set_errno(e, errno, "disk %s", v->next) : 0;
}

static int prepare(struct vmm *m, struct moves *mv, struct engine_fork_info *ret, struct err *e)
{
    int r = 0;
    ret->n_disks = m->shape.n_disks;
    for (unsigned i = 0; r == 0 && i < m->shape.n_disks; i++)
        if (!m->disk_read_only[i])
            r = prepare_disk(m, i, &mv->disk[i], ret, e);
    return r;
}

/* Nothing has moved. */
static void undo(struct moves *mv)
{
    for (unsigned i = 0; i < ENGINE_DISKS_MAX; i++) {
        struct move *v = &mv->disk[i];
        if (v->made)
            unlink(v->next);
        if (v->linked)
            unlink(v->below);
        v->made = v->linked = false;
    }
}

static int insert_below(struct overlay_chain *c, const char *below)
{
    char *path = strdup(below);
    if (!path)
        return -ENOMEM;
    memmove(&c->node[2], &c->node[1], (c->n - 1) * sizeof c->node[0]);
    c->node[1] = (struct overlay_node){path, ENGINE_DISK_OVERLAY};
    c->n++;
    return 0;
}

/* The new layers that are in use take their names. */
static int settle(struct vmm *m, struct moves *mv, uint32_t moved, struct err *e)
{
    for (unsigned i = 0; i < m->shape.n_disks; i++) {
        struct move *v = &mv->disk[i];
        if (!v->made || !(moved >> i & 1))
            continue;
        int r = rename(v->next, top_of(m, i)) < 0 ? -errno : insert_below(&m->disks[i], v->below);
        if (r < 0) {
            /* Its disk has no name any more by which it could go on later. */
            life_end(&m->life, "its disk could not be renamed in a fork");
            return err_set_errno(e, -r, "rename %s", v->next);
        }
        v->made = v->linked = false;
    }
    return 0;
}

static int ask(struct vmm *m, struct vmm_saving *s, struct moves *mv, struct monitor_answer *ret,
               struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_FORK, 2);
    int fds[2 + ENGINE_DISKS_MAX] = {s->state, s->pages};
    for (unsigned i = 0; i < m->shape.n_disks; i++)
        if (mv->disk[i].made) {
            msg.save.disks |= 1u << i;
            fds[msg.n_fds++] = mv->disk[i].fd;
        }
    return vmm_save(m, s, &msg, fds, ret, e);
}

static int fork_into(struct vmm *m, struct vmm_saving *s, struct moves *mv,
                     struct engine_fork_info *ret, struct err *e)
{
    struct monitor_answer a = {0};
    struct err why = {0};
    int r = prepare(m, mv, ret, e);
    if (r == 0 && (r = ask(m, s, mv, &a, &why)) == -ETIMEDOUT)
        life_end(&m->life, "it did not answer a fork"); /* which layer it writes is not known */
    if (r < 0 && why.code)
        err_copy(e, &why);
    int k = settle(m, mv, a.saved.disks_moved, &why);
    if (r == 0 && k < 0)
        r = err_copy(e, &why);
    ret->paused_us = a.saved.paused_us;
    return r;
}

/* The monitor lives on and may have kept the descriptors of what it wrote. */
static int copy_saved(struct vmm_saving *s, struct err *e)
{
    const char *const names[] = {"state", s->all ? "memory" : "pages"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char from[4200], to[4200];
        int r = path_join(to, sizeof to, s->frozen.part, names[i], e);
        if (r == 0)
            r = path_join(from, sizeof from, s->frozen.part, "written", e);
        if (r < 0)
            return r;
        if (rename(to, from) < 0)
            return err_set_errno(e, errno, "rename %s", to);
        r = fs_copy_file(from, to, 0600, e);
        if (r < 0)
            return r;
        unlink(from);
    }
    return 0;
}

static int copy_frozen(const struct vmm *m, const struct vmm_saving *s, const struct moves *mv,
                       const struct engine_fork_info *info, struct err *e)
{
    for (unsigned i = 0; i < m->shape.n_disks; i++) {
        char to[4200];
        int r = info->disk[i][0] ? path_join(to, sizeof to, s->frozen.part, info->disk[i], e) : 0;
        if (r == 0 && info->disk[i][0])
            r = fs_copy_file(mv->disk[i].below, to, 0600, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int sync_frozen(const struct vmm *m, const struct vmm_saving *s,
                       const struct engine_fork_info *info, struct err *e)
{
    for (unsigned i = 0; i < m->shape.n_disks; i++) {
        CLEANUP(cleanup_close)
        int fd = info->disk[i][0] ? frozen_open(s->frozen.part, info->disk[i], e) : -1;
        if (info->disk[i][0] && fd < 0)
            return fd;
        if (fd >= 0 && fdatasync(fd) < 0)
            return err_set_errno(e, errno, "sync disk %u of machine %s", i, m->life.id);
    }
    return 0;
}

int vmm_fork(struct vmm *m, const char *dir, struct engine_fork_info *ret, struct err *e)
{
    struct vmm_saving s;
    struct moves mv = {0};
    struct engine_fork_info info = {0};
    for (unsigned i = 0; i < ENGINE_DISKS_MAX; i++)
        mv.disk[i].fd = -1;
    int r = check_disks(m, e);
    if (r < 0)
        return r;
    r = vmm_saving_begin(m, dir, MANIFEST_SNAPSHOT, &s, e);
    if (r == 0)
        r = fork_into(m, &s, &mv, &info, e);
    if (r == 0)
        r = copy_saved(&s, e);
    if (r == 0)
        r = copy_frozen(m, &s, &mv, &info, e);
    if (r == 0)
        r = sync_frozen(m, &s, &info, e);
    if (r == 0)
        r = vmm_saving_commit(m, &s, e);
    if (r == 0)
        *ret = info;
    undo(&mv);
    for (unsigned i = 0; i < ENGINE_DISKS_MAX; i++)
        cleanup_close(&mv.disk[i].fd);
    vmm_saving_done(&s);
    return r;
}
