/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: options come from a table; a row says when it applies and whether the guest
 * can see it. Rows with values of this machine call a function. In the sandbox every file has a
 * fixed short name below /m, so two machines of one shape have the same command line.
 *
 * Pitfalls behind single words of the table:
 *  - tsc_early_khz, no_timer_check, lpj: without them a guest on a busy host hangs in its own
 *    calibration of the time stamp counter (8 of 12 boots); PIT and PIC stay on for the same
 * reason.
 *  - tsc=reliable: the only other clock of this machine is the timer tick, and a guest that checks
 * the counter against it falls back to it when the host is busy; its clock then runs slow for ever
 *    (4 s in 15 s with six busy processes on two processors).
 *  - qboot.rom: Debian 13's default for this machine with ACPI is SeaBIOS, which cannot start a
 * kernel without option ROMs; Debian 12's is qboot under another name.
 *  - tb-size: the default translation cache grows to a quarter of guest memory, per machine.
 *  - mitigations=off: there is no speculation to exploit inside an emulator.
 *  - no kernel when incoming: the memory holds it already, and a snapshot outlives an update of it.
 *  - send-configuration=off, suppress-vmdesc: xen-save-devices-state writes neither, and what it
 * writes must be readable as an incoming migration (freeze.c).
 *  - cache.no-flush: a running machine does not survive a crash of its host; what is frozen is
 *    synced by the engine.
 */
#include "engine/qemu/args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/encode.h"
#include "engine/sandbox.h"
#include "net/policy.h"
#include "proto/wire.h"

enum when { ALWAYS = 0, BOOT = 1, INCOMING = 2, NETWORK = 4 };

struct row {
    unsigned when;
    bool guest; /* part of what a frozen state depends on */
    const char *option;
    const char *value;                                       /* or */
    void (*make)(struct argv *a, const struct qemu_args *q); /* appends the value */
};

static void make_memory_size(struct argv *a, const struct qemu_args *q)
{
    argv_addf(a, "%uM", q->memory_mib);
}

/* QEMU reads ",," as a comma in a value. */
static void escape(struct buf *out, const char *path)
{
    for (; *path; path++)
        if (buf_add(out, path, 1) < 0 || (*path == ',' && buf_add(out, ",", 1) < 0))
            return; /* no ceiling: only when memory is gone, and then argv_addf() fails too */
}

static void add_with_path(struct argv *a, const char *prefix, const char *path, const char *suffix)
{
    struct buf b = BUF_INIT(0);
    escape(&b, path);
    argv_addf(a, "%s%s%s", prefix, b.data ? b.data : "", suffix);
    buf_done(&b);
}

static void make_memory_object(struct argv *a, const struct qemu_args *q)
{
    char prefix[96];
    if (q->memory == QEMU_MEMORY_ANON) {
        argv_addf(a, "memory-backend-ram,id=ram,size=%uM", q->memory_mib);
        return;
    }
    snprintf(prefix, sizeof prefix,
             "memory-backend-file,id=ram,size=%uM,share=%s,mem-path=", q->memory_mib,
             q->memory == QEMU_MEMORY_SHARED ? "on" : "off");
    add_with_path(a, prefix, q->sandboxed ? "/m/memory" : q->memory_file, "");
}

static void make_smp(struct argv *a, const struct qemu_args *q)
{
    argv_addf(a, "%u", q->vcpus);
}

static void make_kernel(struct argv *a, const struct qemu_args *q)
{
    argv_add(a, q->sandboxed ? "/m/kernel" : q->kernel);
}

static void make_initramfs(struct argv *a, const struct qemu_args *q)
{
    argv_add(a, q->sandboxed ? "/m/initramfs" : q->initramfs);
}

static void make_append(struct argv *a, const struct qemu_args *q)
{
    argv_addf(a,
              "console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz=%llu tsc=reliable "
              "no_timer_check lpj=%llu "
              "mitigations=off random.trust_cpu=on",
              (unsigned long long)q->tsc_khz, (unsigned long long)q->tsc_khz * 4);
}

static const struct row table[] = {
    {ALWAYS, false, "-nodefaults", NULL, NULL},
    {ALWAYS, false, "-no-user-config", NULL, NULL},
    {ALWAYS, false, "-display", "none", NULL},
    {ALWAYS, false, "-no-reboot", NULL, NULL},
    {ALWAYS, false, "-sandbox",
     "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", NULL},
    {ALWAYS, true, "-machine",
     "microvm,acpi=on,x-option-roms=off,rtc=on,pit=on,pic=on,isa-serial=on,"
     "auto-kernel-cmdline=off,suppress-vmdesc=on,memory-backend=ram",
     NULL},
    {ALWAYS, true, "-bios", "qboot.rom", NULL},
    {ALWAYS, true, "-cpu", QEMU_CPU, NULL},
    {ALWAYS, false, "-accel", "tcg,thread=multi,tb-size=64", NULL},
    {ALWAYS, true, "-smp", NULL, make_smp},
    {ALWAYS, true, "-m", NULL, make_memory_size},
    {ALWAYS, false, "-object", NULL, make_memory_object},
    {ALWAYS, true, "-global", "virtio-mmio.force-legacy=false", NULL},
    {ALWAYS, true, "-global", "migration.send-configuration=off", NULL},
    {ALWAYS, false, "-chardev", "socket,id=qmp,fd=3", NULL},
    {ALWAYS, false, "-mon", "chardev=qmp,mode=control", NULL},
    {ALWAYS, false, "-chardev", "socket,id=agent,fd=4,server=on,wait=off", NULL},
    {ALWAYS, false, "-chardev", "socket,id=console,fd=5", NULL},
    {ALWAYS, false, "-serial", "chardev:console", NULL},
    {ALWAYS, true, "-device", "virtio-serial-device,id=serial0,max_ports=2", NULL},
    {ALWAYS, true, "-device",
     "virtserialport,id=agent0,bus=serial0.0,chardev=agent,name=" WIRE_PORT_NAME, NULL},
    {ALWAYS, false, "-object", "rng-builtin,id=entropy", NULL},
    {ALWAYS, true, "-device", "virtio-rng-device,id=rng0,rng=entropy", NULL},
    {NETWORK, false, "-netdev", "stream,id=net,server=off,addr.type=fd,addr.str=6", NULL},
    {NETWORK, true, "-device", "virtio-net-device,id=net0,netdev=net,mac=" NET_GUEST_MAC, NULL},
    {BOOT, false, "-kernel", NULL, make_kernel},
    {BOOT, false, "-initrd", NULL, make_initramfs},
    {BOOT, false, "-append", NULL, make_append},
    {INCOMING, false, "-incoming", "defer", NULL},
};

_Static_assert(QEMU_FD_QMP == 3 && QEMU_FD_AGENT == 4 && QEMU_FD_CONSOLE == 5 && QEMU_FD_NET == 6,
               "the table names descriptors by number");

static bool applies(const struct row *r, const struct qemu_args *q)
{
    return !((r->when & BOOT && q->incoming) || (r->when & INCOMING && !q->incoming) ||
             (r->when & NETWORK && !q->network));
}

static void add_table(struct argv *a, const struct qemu_args *q, bool guest_only)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct row *r = &table[i];
        if (!applies(r, q) || (guest_only && !r->guest))
            continue;
        argv_add(a, r->option);
        if (r->make)
            r->make(a, q);
        else if (r->value)
            argv_add(a, r->value);
    }
}

static void inside_name(char out[32], unsigned disk, unsigned layer)
{
    snprintf(out, 32, "/m/disk%u.%u", disk, layer);
}

/* A layer is two block nodes, the file and its format; the format node of an overlay names the one
 * below it explicitly, so that the name inside the overlay is never followed. */
static void add_layer(struct argv *a, const struct qemu_args *q, unsigned disk, unsigned layer)
{
    const struct overlay_chain *c = &q->disks[disk];
    const struct overlay_node *n = &c->node[layer];
    bool overlay = n->format == ENGINE_DISK_OVERLAY;
    bool read_only = layer > 0 || q->disk_read_only[disk];
    char inside[32], text[160], below[48] = "";
    inside_name(inside, disk, layer);
    snprintf(text, sizeof text,
             "driver=file,node-name=f%u-%u,read-only=%s,discard=unmap,cache.no-flush=on,filename=",
             disk, layer, read_only ? "on" : "off");
    argv_add(a, "-blockdev");
    add_with_path(a, text, q->sandboxed ? inside : n->path, "");
    if (overlay)
        snprintf(below, sizeof below, ",backing=d%u-%u", disk, layer + 1);
    argv_add(a, "-blockdev");
    argv_addf(a, "driver=%s,node-name=d%u-%u,read-only=%s,discard=unmap,file=f%u-%u%s",
              overlay ? "qcow2" : "raw", disk, layer, read_only ? "on" : "off", disk, layer, below);
}

static void add_disk_device(struct argv *a, unsigned disk)
{
    argv_add(a, "-device");
    argv_addf(a, "virtio-blk-device,id=disk%u,drive=d%u-0", disk, disk);
}

static void add_disks(struct argv *a, const struct qemu_args *q)
{
    for (unsigned i = 0; i < q->n_disks; i++) {
        for (unsigned layer = q->disks[i].n; layer-- > 0;)
            add_layer(a, q, i, layer);
        add_disk_device(a, i);
    }
}

static void add_sandbox(struct argv *a, const struct qemu_args *q)
{
    sandbox_begin(a, &(struct sandbox){.info_fd = QEMU_FD_INFO});
    if (q->memory != QEMU_MEMORY_ANON)
        sandbox_bind(a, q->memory_file, "/m/memory", q->memory == QEMU_MEMORY_SHARED);
    if (q->memory == QEMU_MEMORY_PRIVATE)
        sandbox_preload(a, QEMU_FD_PRELOAD, "/m/preload.so");
    if (!q->incoming) {
        sandbox_bind(a, q->kernel, "/m/kernel", false);
        sandbox_bind(a, q->initramfs, "/m/initramfs", false);
    }
    for (unsigned i = 0; i < q->n_disks; i++)
        for (unsigned layer = 0; layer < q->disks[i].n; layer++) {
            char inside[32];
            inside_name(inside, i, layer);
            sandbox_bind(a, q->disks[i].node[layer].path, inside,
                         layer == 0 && !q->disk_read_only[i]);
        }
    sandbox_end(a);
}

void qemu_args_build(struct argv *a, const struct qemu_args *q)
{
    if (q->sandboxed)
        add_sandbox(a, q);
    argv_add(a, q->program);
    add_table(a, q, false);
    add_disks(a, q);
}

int qemu_args_machine_digest(const struct qemu_args *q, char out[SHA256_HEX_LEN + 1], struct err *e)
{
    struct argv a = {0};
    add_table(&a, q, true);
    for (unsigned i = 0; i < q->n_disks; i++) {
        add_disk_device(&a, i);
        argv_add(&a, q->disk_read_only[i] ? "ro" : "rw");
    }
    const char *const *v = argv_end(&a, e);
    if (!v) {
        argv_done(&a);
        return -ENOMEM;
    }
    struct sha256 *h = sha256_new();
    for (size_t i = 0; v[i]; i++)
        sha256_add(h, v[i], strlen(v[i]) + 1);
    unsigned char d[SHA256_LEN];
    sha256_end(h, d);
    hex_encode(out, d, sizeof d);
    argv_done(&a);
    return 0;
}
