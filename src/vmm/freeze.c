/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's state out into files and in again. Saving ends with the machine paused; forking lets
 * it go on: while it is paused a copy of the whole process is made by fork(2), which shares every
 * page until one of the two writes to it, and the copy writes the files. The pause is the time to
 * collect the device state, to note which pages differ and to copy page tables; it does not depend
 * on how much there is to write.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "vmm/boot/vmclock.h"
#include "vmm/machine.h"
#include "vmm/snapshot/pager.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/net.h"

#define MACHINE_STATE_VERSION 1

struct machine_state {
    uint64_t memory_bytes;
    uint32_t vcpus, n_disks, flags;
    uint32_t layout; /* the guest-visible hardware: a later monitor that changes it says so */
    uint64_t disk_bytes[MONITOR_DISKS_MAX];
};

#define LAYOUT_REVISION 1u

struct saved_result { /* in memory shared with the forked copy */
    struct monitor_saved saved;
    int code;
    char text[MONITOR_TEXT_MAX];
};

_Static_assert(sizeof(struct saved_result) <= GMEM_PAGE, "machine_create() maps one page for it");

static struct machine_state describe(const struct machine *m)
{
    struct machine_state s = {m->shape.memory_bytes, m->shape.vcpus,
                              m->shape.n_disks,      m->shape.flags & MONITOR_GUEST_FLAGS,
                              LAYOUT_REVISION,       {0}};
    for (unsigned i = 0; i < m->shape.n_disks; i++)
        s.disk_bytes[i] = disk_bytes(m->disks[i]);
    return s;
}

static int collect(struct machine *m, struct state_writer *w, struct err *e)
{
    struct machine_state s = describe(m);
    for (unsigned i = 0; i < m->shape.n_disks; i++)
        if (blk_is_stuck(m->virtio[i]))
            return err_set(e, ENOSPC, "disk %u waits for space on the host", i);
    state_put(w, STATE_MACHINE, 0, MACHINE_STATE_VERSION, &s, sizeof s);
    int r = kvm_vm_save(m->vm, w, e);
    if (r < 0)
        return r;
    ioapic_save(&m->ioapic, w);
    serial_save(&m->serial, w);
    rtc_save(&m->rtc, w);
    ged_save(&m->ged, w);
    for (unsigned i = 0; i < m->n_virtio; i++)
        virtio_save(m->virtio[i], w);
    return 0;
}

/* Pages that are not local yet cannot be told from those that are zero: all are fetched first. */
static int find_pages(struct machine *m, bool all, struct page_set *ret, struct err *e)
{
    int r = m->pager ? pager_complete(m->pager, e) : 0;
    enum pages_what what = all && m->has_file ? PAGES_ALL : PAGES_DIFFERENT;
    if (r == 0)
        r = page_set_init(ret, &m->mem, e);
    return r < 0 ? r : pages_scan(&m->mem, m->pagemap, what, &m->mapped, ret, e);
}

static int write_files(struct machine *m, struct state_writer *w, const struct page_set *pages,
                       const int *fds, struct monitor_saved *ret, struct err *e)
{
    struct pages_result p;
    int r = state_writer_finish(w, fds[0], e);
    if (r == 0)
        r = pages_write(&m->mem, pages, fds[1], &p, e);
    if (r == 0) {
        ret->state_bytes = w->len;
        ret->pages = p.pages;
        ret->pages_bytes = p.bytes;
    }
    return r;
}

static int flush_disks(struct machine *m, struct err *e)
{
    for (unsigned i = 0; i < m->shape.n_disks; i++) {
        int r = disk_is_read_only(m->disks[i]) ? 0 : disk_flush(m->disks[i]);
        if (r < 0)
            return err_set_errno(e, -r, "flush disk %u", i);
    }
    return 0;
}

int machine_save(struct machine *m, const struct monitor_save *c, const int *fds,
                 struct monitor_saved *ret, struct err *e)
{
    CLEANUP(state_writer_done)
    struct state_writer w;
    CLEANUP(page_set_done)
    struct page_set pages = {0};
    state_writer_init(&w);
    int r = m->ready ? 0 : err_set(e, EINVAL, "there is no machine to save");
    if (r == 0) {
        machine_pause(m);
        machine_quiet(m, true);
        r = collect(m, &w, e);
    }
    if (r == 0)
        r = flush_disks(m, e);
    if (r == 0)
        r = find_pages(m, c->all, &pages, e);
    if (r == 0)
        r = write_files(m, &w, &pages, fds, ret, e);
    machine_quiet(m, false);
    return r;
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* New top layers. After a failure half-way each disk goes on with what it has. */
static int push_layers(struct machine *m, uint32_t disks, int *fds, uint32_t *moved, struct err *e)
{
    for (unsigned i = 0; i < m->shape.n_disks; i++) {
        if (!(disks >> i & 1))
            continue;
        int r = disk_push(m->disks[i], *fds, e);
        if (r < 0)
            return r;
        *fds++ = -1; /* the disk's now */
        *moved |= 1u << i;
    }
    return 0;
}

static void write_in_copy(struct machine *m, struct state_writer *w, const struct page_set *pages,
                          const int *fds)
{
    struct saved_result *out = m->child_result;
    struct err e = {0};
    int r = write_files(m, w, pages, fds, &out->saved, &e);
    out->code = r;
    snprintf(out->text, sizeof out->text, "%.*s", (int)sizeof out->text - 1, e.text);
    syscall(SYS_exit_group, 0);
}

/* As fork(), but without what the C library does in it: other threads hold its locks. */
static pid_t copy_process(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static int wait_for_copy(struct machine *m, pid_t pid, struct monitor_saved *ret, struct err *e)
{
    int status;
    const struct saved_result *out = m->child_result;
    pid_t r = (pid_t)TEMP_FAILURE_RETRY(syscall(SYS_wait4, pid, &status, 0, NULL));
    if (r != pid || !WIFEXITED(status))
        return err_set(e, EIO, "the copy of the machine ended before it was written");
    if (out->code < 0)
        return err_set(e, -out->code, "%s", out->text);
    ret->state_bytes = out->saved.state_bytes;
    ret->pages_bytes = out->saved.pages_bytes;
    ret->pages = out->saved.pages;
    return 0;
}

int machine_fork(struct machine *m, const struct monitor_save *c, int *fds,
                 struct monitor_saved *ret, struct err *e)
{
    CLEANUP(state_writer_done)
    struct state_writer w;
    CLEANUP(page_set_done)
    struct page_set pages = {0};
    state_writer_init(&w);
    bool was_running = m->running;
    pid_t copy = -1;
    int r = m->ready ? 0 : err_set(e, EINVAL, "there is no machine to fork");
    if (r == 0 && m->pager)
        r = pager_complete(m->pager, e);
    int64_t start = clock_mono_us();
    if (r == 0) {
        machine_pause(m);
        machine_quiet(m, true);
        r = collect(m, &w, e);
    }
    if (r == 0)
        r = find_pages(m, c->all, &pages, e);
    if (r == 0)
        r = push_layers(m, c->disks, fds + 2, &ret->disks_moved, e);
    *m->child_result = (struct saved_result){.code = -EIO, .text = "nothing was written"};
    if (r == 0 && (copy = copy_process()) == 0)
        write_in_copy(m, &w, &pages, fds);
    if (r == 0 && copy < 0)
        r = err_set_errno(e, errno, "copy of the machine");
    machine_quiet(m, false);
    if (was_running && machine_run(m, e) < 0)
        r = -EINVAL;
    ret->paused_us = (uint64_t)(clock_mono_us() - start);
    return r < 0 ? r : wait_for_copy(m, copy, ret, e);
}

/* ---- restore ------------------------------------------------------------------------------- */

static int check_machine(const struct machine *m, const struct state_reader *r, struct err *e)
{
    struct machine_state have, need = describe(m);
    int k = state_get(r, STATE_MACHINE, 0, MACHINE_STATE_VERSION, &have, sizeof have, e);
    if (k < 0)
        return k;
    if (have.layout != need.layout)
        return err_set(e, EBADMSG, "the state is of hardware revision %u, this monitor has %u",
                       have.layout, need.layout);
    if (have.memory_bytes != need.memory_bytes || have.vcpus != need.vcpus)
        return err_set(e, EBADMSG, "the state is of a machine with %llu MiB and %u vCPUs",
                       (unsigned long long)(have.memory_bytes >> 20), have.vcpus);
    if (have.n_disks != need.n_disks || have.flags != need.flags)
        return err_set(e, EBADMSG, "the state is of a machine with other devices");
    for (unsigned i = 0; i < need.n_disks; i++)
        if (have.disk_bytes[i] != need.disk_bytes[i])
            return err_set(e, EBADMSG, "disk %u had %llu bytes when the state was saved", i,
                           (unsigned long long)have.disk_bytes[i]);
    return 0;
}

static int restore_devices(struct machine *m, const struct state_reader *r, struct err *e)
{
    int k;
    if ((k = ioapic_restore(&m->ioapic, r, e)) < 0 || (k = serial_restore(&m->serial, r, e)) < 0 ||
        (k = rtc_restore(&m->rtc, r, e)) < 0 || (k = ged_restore(&m->ged, r, e)) < 0)
        return k;
    for (unsigned i = 0; i < m->n_virtio && k == 0; i++)
        k = virtio_restore(m->virtio[i], r, e);
    if (k == 0 && m->net)
        net_dev_gate(m->net, !m->gate_closed); /* a restored device begins with it closed */
    return k;
}

/* The guest's kernel mixes the new id into its random numbers as soon as it runs. */
static int change_generation(struct machine *m, const uint8_t id[16], struct err *e)
{
    void *at = gmem_ptr(&m->mem, LAYOUT_VMGENID_ID, 16);
    if (!at)
        return err_set(e, EINVAL, "no place for the generation id");
    memcpy(at, id, 16);
    if (m->shape.flags & MONITOR_VMCLOCK)
        vmclock_disrupt(&m->mem);
    ged_raise(&m->ged, GED_EVENT_VMGENID);
    return 0;
}

static int load_memory(struct machine *m, uint32_t flags, const int *fds, struct err *e)
{
    struct err ignored;
    int r = 0;
    if (flags & MONITOR_HAS_PAGES) {
        r = m->pager ? err_set(e, EINVAL, "pages over memory that is not local")
                     : pages_load(&m->mem, fds[0], &m->mapped, e);
        fds++;
    }
    /* Another clone's monitor wrote it: damaged, it must not keep this one from starting. */
    if (r == 0 && flags & MONITOR_HAS_WORKING_SET && !m->pager)
        (void)!pages_populate(&m->mem, fds[0], &ignored);
    return r;
}

int machine_restore(struct machine *m, const struct monitor_restore *c, const int *fds,
                    struct err *e)
{
    CLEANUP(state_reader_done)
    struct state_reader in = {0};
    int r = machine_complete(m, e);
    if (r == 0)
        r = state_reader_load(&in, fds[0], e);
    if (r == 0)
        r = check_machine(m, &in, e);
    if (r == 0)
        r = load_memory(m, c->flags, fds + 1, e);
    machine_quiet(m, true);
    if (r == 0)
        r = restore_devices(m, &in, e);
    if (r == 0)
        r = kvm_vm_restore(m->vm, &in, e);
    if (r == 0 && c->flags & MONITOR_IS_CLONE)
        r = change_generation(m, c->generation, e);
    machine_quiet(m, false);
    m->ready = r == 0;
    return r;
}

int machine_working_set(struct machine *m, int fd, struct err *e)
{
    CLEANUP(page_set_done)
    struct page_set touched = {0};
    int r = m->ready && !m->pager ? page_set_init(&touched, &m->mem, e)
                                  : err_set(e, EINVAL, "there is no working set to tell");
    if (r == 0)
        r = pages_scan(&m->mem, m->pagemap, PAGES_TOUCHED, NULL, &touched, e);
    return r < 0 ? r : pages_write_index(&touched, m->mem.bytes, fd, e);
}
