/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a machine. CREATE makes what every machine of its shape has, down to the threads: that
 * is what a pooled monitor has done before anybody wants it. What differs follows in any order, the
 * rest of the devices while the device threads are parked; then a kernel is loaded, or a state
 * (freeze.c). After a failure the machine is of no use: the daemon ends the process.
 *
 * Devices have their slots by the shape alone (disks, console, rng, network, balloon): a saved
 * machine finds them again.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot/acpi.h"
#include "vmm/boot/boot.h"
#include "vmm/fd.h"
#include "vmm/jail/jail.h"
#include "vmm/machine.h"
#include "vmm/snapshot/pager.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"

/* Control, two device threads, pager, one of KVM's own, a forked copy; a sanitizer has one, too. */
#define OTHER_TASKS 8u

static bool has(const struct machine *m, uint32_t flag)
{
    return m->shape.flags & flag;
}

static struct irq line(struct machine *m, unsigned gsi)
{
    return (struct irq){ioapic_raise, &m->ioapic, gsi};
}

/* ---- what every machine has ---------------------------------------------------------------- */

static void on_reset(void *arg)
{
    machine_note_end(arg, MONITOR_EVENT_RESET, "the guest asked for a reset");
}

static void on_poweroff(void *arg)
{
    machine_note_end(arg, MONITOR_EVENT_POWEROFF, "the guest powered off");
}

static int add_legacy(struct machine *m, struct err *e)
{
    const struct {
        struct bus *bus;
        uint64_t base, len;
        const struct bus_ops *ops;
        void *dev;
    } ranges[] = {
        {&m->ports, LAYOUT_PORT_I8042, 5, &i8042_ops, &m->i8042},
        {&m->ports, LAYOUT_PORT_RTC, 2, &rtc_ops, &m->rtc},
        {&m->ports, LAYOUT_PORT_SERIAL, 8, &serial_ops, &m->serial},
        {&m->ports, LAYOUT_PORT_SLEEP, 2, &ged_sleep_ops, &m->ged},
        {&m->ports, LAYOUT_PORT_RESET, 1, &ged_reset_ops, &m->ged},
        {&m->mmio, LAYOUT_GED_BASE, 4, &ged_ops, &m->ged},
        {&m->mmio, LAYOUT_IOAPIC_BASE, IOAPIC_BYTES, &ioapic_ops, &m->ioapic},
    };
    ioapic_init(&m->ioapic, kvm_vm_msi, m->vm);
    serial_init(&m->serial, -1, line(m, LAYOUT_IRQ_SERIAL));
    rtc_init(&m->rtc);
    ged_init(&m->ged, line(m, LAYOUT_IRQ_GED));
    m->ged.on_poweroff = on_poweroff;
    m->ged.on_reset = m->i8042.on_reset = on_reset;
    m->ged.arg = m->i8042.arg = m;
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(ranges) && r == 0; i++)
        r = bus_add(ranges[i].bus, ranges[i].base, ranges[i].len, ranges[i].ops, ranges[i].dev);
    return r < 0 ? err_set_errno(e, -r, "devices") : 0;
}

static unsigned slot_console(const struct machine *m)
{
    return m->shape.n_disks;
}

static unsigned slot_net(const struct machine *m)
{
    return slot_console(m) + 2;
}

static unsigned n_slots(const struct machine *m)
{
    return slot_net(m) + has(m, MONITOR_NET_DEVICE) + has(m, MONITOR_BALLOON_DEVICE);
}

static struct virtio_place place(struct machine *m, unsigned slot, struct ev_loop *loop)
{
    return (struct virtio_place){slot, &m->mem, line(m, LAYOUT_IRQ_VIRTIO + slot), loop};
}

/* Puts a device on the bus. It is the machine's, also on failure. */
static void on_broken(void *arg, const struct virtio_dev *d)
{
    struct machine *m = arg;
    atomic_store(&m->broken, d->ops->name);
    machine_wake(m);
}

static int attach(struct machine *m, struct virtio_dev *d, struct err *e)
{
    uint64_t base = LAYOUT_VIRTIO_BASE + d->at.slot * LAYOUT_VIRTIO_STRIDE;
    m->virtio[d->at.slot] = d;
    d->on_broken = on_broken;
    d->on_broken_arg = m;
    int r = bus_add(&m->mmio, base, VIRTIO_MMIO_BYTES, &virtio_mmio_ops, d);
    if (r < 0)
        return err_set_errno(e, -r, "device %s", d->ops->name);
    for (unsigned q = 0; q < d->ops->n_queues && r == 0; q++)
        r = kvm_vm_ioeventfd(m->vm, base + VIRTIO_MMIO_QUEUE_NOTIFY, q, virtio_notify_fd(d, q), e);
    return r;
}

static int add_common_devices(struct machine *m, struct err *e)
{
    struct virtio_dev *rng;
    unsigned slot = slot_console(m);
    int r;
    if ((r = console_new(place(m, slot, m->io), &m->console, e)) < 0 ||
        (r = attach(m, m->console, e)) < 0 ||
        (r = rng_new(place(m, slot + 1, m->io), &rng, e)) < 0 || (r = attach(m, rng, e)) < 0 ||
        !has(m, MONITOR_BALLOON_DEVICE))
        return r;
    r = balloon_new(place(m, m->n_virtio - 1, m->io), &m->balloon, e);
    return r < 0 ? r : attach(m, m->balloon, e);
}

/* ---- threads ------------------------------------------------------------------------------- */

static void run_loop(struct machine *m, struct ev_loop *loop, enum jail_role role)
{
    struct err e;
    if (jail_filter(role, &e) < 0)
        machine_note_end(m, MONITOR_EVENT_FAILED, e.text);
    else
        ev_run(loop);
}

static void *io_main(void *arg)
{
    struct machine *m = arg;
    run_loop(m, m->io, JAIL_IO);
    return NULL;
}

static void *disk_main(void *arg)
{
    struct machine *m = arg;
    run_loop(m, m->disk, JAIL_DISK);
    return NULL;
}

static void on_pager_failure(void *arg, const char *text)
{
    machine_note_end(arg, MONITOR_EVENT_FAILED, text);
}

static int start_pager(struct machine *m, struct err *e)
{
    int uffd = m->uffd;
    m->uffd = -1;
    if (has(m, MONITOR_CHUNKED))
        return pager_new(&m->mem, uffd, on_pager_failure, m, &m->pager, e);
    cleanup_close(&uffd);
    return 0;
}

static int start_threads(struct machine *m, struct err *e)
{
    int r = vcpus_start(m, e);
    if (r == 0)
        r = start_pager(m, e);
    if (r == 0)
        r = machine_thread(io_main, m, e);
    if (r == 0)
        r = machine_thread(disk_main, m, e);
    m->threads_started = r == 0;
    return r;
}

/* ---- building ------------------------------------------------------------------------------ */

static int check_shape(const struct monitor_create *c, struct err *e)
{
    const uint32_t flags = MONITOR_HUGE_PAGES | MONITOR_BALLOON_DEVICE | MONITOR_NET_DEVICE |
                           MONITOR_VMCLOCK | MONITOR_CHUNKED;
    if (c->vcpus < 1 || c->vcpus > KVM_VCPUS_MAX)
        return err_set(e, EINVAL, "vCPUs: 1 to %u, not %u", KVM_VCPUS_MAX, c->vcpus);
    if (c->n_disks > MONITOR_DISKS_MAX || c->flags & ~flags)
        return err_set(e, EINVAL, "this monitor knows no such machine");
    return 0;
}

int machine_create(struct machine *m, const struct monitor_create *c, struct err *e)
{
    if (m->vm)
        return err_set(e, EBUSY, "the machine exists already");
    int r = check_shape(c, e);
    if (r < 0)
        return r;
    m->shape = *c;
    m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    m->child_result =
        mmap(NULL, GMEM_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m->wake < 0 || m->child_result == MAP_FAILED)
        return err_set_errno(e, errno, "machine");
    m->n_virtio = n_slots(m);
    struct kvm_vm_config vm = {m->kvm_fd, &m->mem, c->vcpus, &m->ports, &m->mmio};
    if ((r = gmem_reserve(&m->mem, c->memory_bytes, e)) < 0 ||
        (r = page_set_init(&m->mapped, &m->mem, e)) < 0 || (r = kvm_vm_new(&vm, &m->vm, e)) < 0)
        return r;
    if ((r = add_legacy(m, e)) < 0 || (r = ev_new(&m->io, e)) < 0 ||
        (r = ev_new(&m->disk, e)) < 0 || (r = add_common_devices(m, e)) < 0)
        return r;
    r = jail_limit(c->memory_bytes, UINT64_MAX, c->vcpus + OTHER_TASKS, e);
    return r < 0 ? r : start_threads(m, e);
}

/* Between CREATE and BOOT or RESTORE. */
static int can_build(const struct machine *m, struct err *e)
{
    if (!m->threads_started)
        return err_set(e, EINVAL, "there is no machine yet");
    if (m->ready)
        return err_set(e, EBUSY, "the machine is complete");
    return 0;
}

int machine_memory(struct machine *m, const struct monitor_memory *c, int *fd, struct err *e)
{
    int r = can_build(m, e);
    if (r < 0)
        return r;
    if (c->kind == MONITOR_MEMORY_ZERO)
        r = gmem_map_zero(&m->mem, has(m, MONITOR_HUGE_PAGES), e);
    else if (c->kind == MONITOR_MEMORY_FILE)
        r = gmem_map_file(&m->mem, *fd, e);
    else if (!m->pager)
        r = err_set(e, EINVAL, "the machine was not made for memory in chunks");
    else
        r = pager_serve(m->pager, fd_take(fd), e);
    m->has_file = c->kind == MONITOR_MEMORY_FILE;
    m->has_memory |= r == 0;
    return r;
}

static void on_full(void *arg, bool full)
{
    struct machine *m = arg;
    atomic_fetch_add(&m->stuck, full ? 1u : UINT32_MAX);
    machine_wake(m);
}

static struct rate_limit limit_of(struct monitor_rate r)
{
    return (struct rate_limit){r.per_second, r.burst};
}

int machine_disk(struct machine *m, const struct monitor_disk *c, int *fds, unsigned n,
                 struct err *e)
{
    struct disk_layer_fd layer[DISK_LAYERS_MAX];
    struct blk_config b = {
        .bytes = limit_of(c->bytes), .ops = limit_of(c->ops), .on_full = on_full, .on_full_arg = m};
    struct virtio_dev *d;
    int r = can_build(m, e);
    if (r == 0 && (c->index >= m->shape.n_disks || m->virtio[c->index] || n > DISK_LAYERS_MAX))
        r = err_set(e, EINVAL, "disk %u is not one of this machine's, or is there already",
                    c->index);
    for (unsigned i = 0; i < n && r == 0; i++)
        layer[i] = (struct disk_layer_fd){fds[i], c->cow >> i & 1};
    if (r == 0)
        r = disk_open(&b.disk, layer, n, c->read_only, c->durable, e);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < n; i++)
        fds[i] = -1; /* the disk's now */
    memcpy(b.serial, c->serial, sizeof b.serial - 1);
    machine_quiet(m, true);
    r = blk_new(place(m, c->index, m->disk), &b, &d, e);
    if (r < 0) {
        disk_close(b.disk);
    } else {
        m->disks[c->index] = b.disk;
        r = attach(m, d, e);
    }
    machine_quiet(m, false);
    return r;
}

int machine_net(struct machine *m, const struct monitor_net *c, int *fd, struct err *e)
{
    struct net_dev_config n = {.backend = c->tap ? NET_BACKEND_TAP : NET_BACKEND_STREAM,
                               .fd = *fd,
                               .rx_bytes = limit_of(c->rx_bytes),
                               .tx_bytes = limit_of(c->tx_bytes),
                               .rx_packets = limit_of(c->rx_packets),
                               .tx_packets = limit_of(c->tx_packets)};
    memcpy(n.mac, c->mac, sizeof n.mac);
    int r = can_build(m, e);
    if (r == 0 && (!has(m, MONITOR_NET_DEVICE) || m->net))
        r = err_set(e, EINVAL, "this machine has no network, or has it already");
    if (r == 0)
        r = fd_nonblocking(*fd, "network of the machine", e);
    if (r < 0)
        return r;
    machine_quiet(m, true);
    r = net_dev_new(place(m, slot_net(m), m->io), &n, &m->net, e);
    if (r == 0) {
        fd_take(fd);
        m->gate_closed = c->gate_closed;
        net_dev_gate(m->net, !c->gate_closed);
        r = attach(m, m->net, e);
    }
    machine_quiet(m, false);
    return r;
}

int machine_serial(struct machine *m, int *fd, struct err *e)
{
    int r = can_build(m, e);
    if (r == 0 && m->serial.fd >= 0)
        r = err_set(e, EBUSY, "the serial port is connected already");
    if (r == 0)
        r = fd_nonblocking(*fd, "serial port of the machine", e);
    if (r == 0)
        m->serial.fd = fd_take(fd);
    return r;
}

int machine_complete(const struct machine *m, struct err *e)
{
    int r = can_build(m, e);
    if (r == 0 && !m->has_memory)
        r = err_set(e, EINVAL, "the memory is missing");
    for (unsigned i = 0; r == 0 && i < m->n_virtio; i++)
        if (!m->virtio[i])
            r = i < m->shape.n_disks ? err_set(e, EINVAL, "disk %u is missing", i)
                                     : err_set(e, EINVAL, "the network is missing");
    return r;
}

static int load_kernel(struct machine *m, const struct monitor_boot *c, const int *fds,
                       struct boot_entry *entry, struct err *e)
{
    struct acpi_config acpi = {m->shape.vcpus, m->n_virtio, has(m, MONITOR_VMCLOCK)};
    struct boot_config b = {
        .kernel_fd = fds[0], .initrd_fd = c->has_initrd ? fds[1] : -1, .cmdline = c->cmdline};
    int r = acpi_build(&m->mem, &acpi, &b.rsdp, e);
    return r < 0 ? r : boot_load(&m->mem, &b, entry, e);
}

int machine_boot(struct machine *m, const struct monitor_boot *c, const int *fds, struct err *e)
{
    struct boot_entry entry;
    int r = machine_complete(m, e);
    if (r == 0)
        r = c->flat ? boot_load_flat(&m->mem, fds[0], c->flat_address, &entry, e)
                    : load_kernel(m, c, fds, &entry, e);
    if (r == 0)
        r = kvm_vm_power_on(m->vm, &entry, e);
    m->ready = r == 0;
    return r;
}
