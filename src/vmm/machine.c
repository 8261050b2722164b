/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that is complete, while it runs and stands still. Two things stop independently: the
 * vCPUs (paused, vcpus.c) and the device threads (quiet, ev.h). A paused machine's devices go on:
 * what its guest asked for is completed. Its state is whole only when both stand.
 */
#include <errno.h>
#include <sys/resource.h>

#include "vmm/fd.h"
#include "vmm/machine.h"
#include "vmm/snapshot/pager.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/net.h"

void machine_quiet(struct machine *m, bool quiet)
{
    if (m->quiet == quiet)
        return;
    m->quiet = quiet;
    if (quiet) {
        ev_park(m->disk);
        ev_park(m->io);
    } else {
        ev_unpark(m->io);
        ev_unpark(m->disk);
    }
}

int machine_run(struct machine *m, struct err *e)
{
    if (!m->ready)
        return err_set(e, EINVAL, "there is no machine to run");
    machine_quiet(m, false);
    if (m->paused)
        kvm_vm_stood_still(m->vm);
    m->running = true;
    vcpus_run(m);
    return 0;
}

void machine_pause(struct machine *m)
{
    if (m->running) {
        vcpus_pause(m);
        m->paused = true;
    }
    m->running = false;
}

int machine_link(struct machine *m, int *fd, struct err *e)
{
    int r = m->ready ? 0 : err_set(e, EINVAL, "there is no machine yet");
    if (r == 0 && *fd >= 0)
        r = fd_nonblocking(*fd, "guest channel", e);
    if (r < 0)
        return r;
    bool was_quiet =
        m->quiet; /* the disks' thread goes on: a slow disk is not the channel's matter */
    if (!was_quiet)
        ev_park(m->io);
    console_link(m->console, fd_take(fd));
    if (!was_quiet)
        ev_unpark(m->io);
    return 0;
}

int machine_gate(struct machine *m, bool open, struct err *e)
{
    if (!m->net)
        return err_set(e, EINVAL, "this machine has no network");
    net_dev_gate(m->net, open);
    return 0;
}

int machine_balloon(struct machine *m, uint64_t bytes, struct err *e)
{
    if (!m->balloon)
        return err_set(e, EINVAL, "this machine has no balloon");
    if (bytes > m->mem.bytes)
        return err_set(e, EINVAL, "the machine has less memory than that");
    balloon_set_target(m->balloon, bytes / GMEM_PAGE);
    return 0;
}

static uint64_t us_of(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

int machine_stats(struct machine *m, struct monitor_stats *ret, struct err *e)
{
    struct rusage u;
    struct balloon_stats b = {0};
    if (!m->ready)
        return err_set(e, EINVAL, "there is no machine yet");
    *ret = (struct monitor_stats){.running = m->running, .disk_full = atomic_load(&m->stuck)};
    if (getrusage(RUSAGE_SELF, &u) == 0)
        ret->cpu_us = us_of(u.ru_utime) + us_of(u.ru_stime);
    for (unsigned i = 0; i < m->vcpus.n; i++)
        ret->exits += vcpu_exits(m->vcpus.thread[i].vcpu);
    for (unsigned i = 0; i < m->shape.n_disks; i++)
        ret->disk_written_bytes += blk_bytes_written(m->virtio[i]);
    if (m->net)
        net_dev_counters(m->net, &ret->net_rx_bytes, &ret->net_tx_bytes);
    if (m->balloon)
        balloon_stats(m->balloon, &b);
    ret->balloon_bytes = b.actual_pages * GMEM_PAGE;
    ret->reported_bytes = b.reported_bytes;
    ret->faults_served = m->pager ? pager_faults(m->pager) : 0;
    return 0;
}
