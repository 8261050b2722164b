/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freezing: pause and save through passed descriptors, end the process, then hash, sync and rename.
 * Until the monitor is told to quit every failure lets the machine run on. The state goes to
 * "state"; memory, where the machine
 *
 *   is a clone            is another link to the file it is a copy of, and the pages that differ
 *   has no such file      is a full memory file: a pages file with every page that is not zero has
 *                         page n at offset n, so without its index it is one
 *
 * The description of disks that move in a fork is in fork.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/kvm/freeze.h"

enum { SAVE_TIMEOUT_MS = 300000, QUIT_TIMEOUT_MS = 3000 };

void vmm_saving_done(struct vmm_saving *s)
{
    cleanup_close(&s->state);
    cleanup_close(&s->pages);
    frozen_abandon(&s->frozen);
}

static bool link_memory(struct vmm *m, struct vmm_saving *s)
{
    struct stat st;
    struct err ignored; /* the snapshot was deleted, or is on another file system */
    return m->base_fd >= 0 && fstat(m->base_fd, &st) == 0 && st.st_nlink > 0 &&
           frozen_link_in(&s->frozen, m->base_fd, "memory", &ignored) == 0;
}

int vmm_saving_begin(struct vmm *m, const char *dir, enum manifest_kind kind, struct vmm_saving *s,
                     struct err *e)
{
    *s = (struct vmm_saving){.state = -1, .pages = -1};
    vmm_describe(m, &s->manifest);
    s->manifest.kind = kind;
    int r = frozen_begin(&s->frozen, dir, e);
    if (r < 0)
        return r;
    s->all = !link_memory(m, s);
    r = s->state = frozen_create(&s->frozen, "state", e);
    if (r >= 0)
        r = s->pages = frozen_create(&s->frozen, s->all ? "memory" : "pages", e);
    return r < 0 ? r : 0;
}

int vmm_save(struct vmm *m, struct vmm_saving *s, struct monitor_message *msg, const int *fds,
             struct monitor_answer *ret, struct err *e)
{
    msg->save.all = s->all;
    int r = vmm_call(m, msg, fds, SAVE_TIMEOUT_MS, ret, e);
    if (r < 0)
        return err_wrap(e, "the state of machine %s could not be written", m->life.id);
    frozen_start_writeback(s->state);
    frozen_start_writeback(s->pages);
    if (s->all && ftruncate(s->pages, (off_t)m->shape.memory_mib << 20) < 0)
        return err_set_errno(e, errno, "memory file of machine %s", m->life.id);
    return 0;
}

int vmm_saving_commit(struct vmm *m, struct vmm_saving *s, struct err *e)
{
    struct manifest *mf = &s->manifest;
    uint64_t bytes = (uint64_t)m->shape.memory_mib << 20;
    int r = frozen_add_digest(&s->frozen, mf, "state", VMM_STATE_MAX, MANIFEST_PLAIN, e);
    if (r == 0 && s->all)
        r = frozen_add_digest(&s->frozen, mf, "memory", bytes, MANIFEST_SPARSE, e);
    else if (r == 0)
        r = manifest_add_file(mf, "memory", bytes, MANIFEST_SPARSE, m->base_digest, e);
    if (r == 0 && !s->all)
        r = frozen_add_digest(&s->frozen, mf, "pages", bytes + VMM_PAGES_INDEX_MAX(bytes),
                              MANIFEST_SPARSE, e);
    return r < 0 ? r : frozen_commit(&s->frozen, mf, m->base.en->cache, e);
}

static void quit(struct vmm *m)
{
    struct monitor_message msg = vmm_request(MONITOR_QUIT, 0);
    struct err ignored;
    life_expect_end(&m->life);
    if (vmm_ask(m, &msg, NULL, &ignored) < 0 || life_wait_end(&m->life, QUIT_TIMEOUT_MS) < 0)
        life_kill(&m->life); /* its state is safe already */
}

static int pause_and_save(struct vmm *m, struct vmm_saving *s, struct err *e)
{
    struct monitor_message msg = vmm_request(MONITOR_SAVE, 2);
    struct monitor_answer a;
    struct err ignored; /* the first error is the one to report */
    int r = vmm_simple(m, MONITOR_PAUSE, e);
    if (r == 0)
        r = vmm_save(m, s, &msg, (int[]){s->state, s->pages}, &a, e);
    if (r < 0 && life_alive(&m->life) && vmm_simple(m, MONITOR_RUN, &ignored) < 0)
        life_kill(&m->life);
    return r;
}

int vmm_freeze(struct vmm *m, const char *dir, enum manifest_kind kind, struct err *e)
{
    struct vmm_saving s;
    int r = vmm_saving_begin(m, dir, kind, &s, e);
    if (r == 0)
        r = pause_and_save(m, &s, e);
    if (r == 0) {
        quit(m);
        r = disks_sync(m->disks, m->disk_read_only, m->shape.n_disks, e);
    }
    if (r == 0)
        r = vmm_saving_commit(m, &s, e);
    vmm_saving_done(&s);
    return r;
}
