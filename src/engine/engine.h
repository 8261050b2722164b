/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one interface to "a machine". Above it nobody knows how a machine runs.
 *
 * Threads: all functions block and may be called from any thread but a loop's; calls on one machine
 * must not overlap (engine_machine_kill() excepted: it may interrupt any of them). on_exit comes
 * on the engine's reaper thread: it must neither block nor free the machine.
 *
 * Life: engine_boot | engine_restore | engine_resume -> running
 *       -> engine_snapshot | engine_suspend | engine_machine_kill | its own end -> ended
 *       -> engine_machine_free
 * A machine directory is made by the caller (mode 0700, empty or holding disks) and belongs to the
 * machine until it is freed; the engine puts sockets, "console.log" and the memory file there and
 * removes the sockets.
 *
 * Errors: -EINVAL bad spec, -ENOENT file missing, -EBADMSG a snapshot that is damaged or was made
 * by another engine (the text says what differs), -ENOSPC, -ETIMEDOUT, -EPIPE the machine died.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/policy.h"

struct engine;
struct engine_machine;

#define ENGINE_DISKS_MAX 6

enum engine_disk_format {
    ENGINE_DISK_RAW,
    ENGINE_DISK_OVERLAY /* copy-on-write over another disk */
};

/* Of each machine; per second, 0 = unlimited. Only the KVM engine enforces them. */
struct engine_rates {
    uint64_t disk_bytes, disk_requests; /* of each disk */
    uint64_t net_bytes;                 /* in each direction */
};

struct engine_config {
    const char *kind;   /* "auto", "kvm", "qemu": engine_pick() */
    const char *kernel; /* uncompressed vmlinux */
    const char *initramfs;
    const char *helper_dir; /* directory of tinderbox-net, -vmm and -disk, or beside theirs */
    const char *key_dir;    /* private directory for the key that marks our own disk overlays */
    const char *qemu;       /* program; NULL = qemu-system-x86_64 from PATH */
    const char *kvm;        /* device; NULL = /dev/kvm */
    const char *cgroup;     /* "auto" (NULL), "none" or a cgroup v2 directory: cgroup.h */
    struct engine_rates rates;
    bool huge_pages; /* KVM: transparent huge pages for machines that are booted */
    bool sandbox;    /* bubblewrap around every process; only tests turn it off. (The KVM
                        monitor needs none: it jails itself.) */
    unsigned pool;   /* KVM: monitors kept started ahead of need */
};

struct engine_disk {
    const char *path;
    enum engine_disk_format format;
    bool read_only;
};

struct engine_exit {
    bool expected; /* snapshot, suspend or kill ended it */
    int signal;    /* of the monitor process, 0 if none */
    int code;
    char text[200]; /* for people: "guest powered off", "monitor killed by signal 9", ... */
};

struct engine_spec {
    const char *id;  /* for names and logs: [a-z0-9-]{1,64} */
    const char *dir; /* absolute machine directory */
    unsigned memory_mib;
    unsigned vcpus;
    struct engine_disk disks[ENGINE_DISKS_MAX]; /* /dev/vda, vdb, ... in the guest */
    unsigned n_disks;
    bool network;                    /* a NIC and a tinderbox-net process */
    const struct net_policy *policy; /* for the NIC; NULL = net_policy_default() */
    /* When the host's disk is full a machine that writes is paused and tries again every second;
     * with this it ends at once. */
    bool end_when_full;
    void (*on_exit)(void *arg,
                    const struct engine_exit *x); /* once, for a machine that was returned */
    void *on_exit_arg;
};

struct engine_stats {
    uint64_t cpu_us;
    uint64_t memory_private_bytes; /* PSS-style: private plus the fair share of shared pages */
    uint64_t memory_rss_bytes;
    uint64_t disk_written_bytes;         /* allocated in the writable disks of this machine */
    uint64_t net_rx_bytes, net_tx_bytes; /* seen from the guest */
    uint64_t exits;                      /* of the vCPUs to the monitor; 0 = not known */
    uint64_t balloon_bytes;              /* given back by the guest */
};

struct engine_fork_info {
    uint64_t paused_us; /* how long the machine stood still */
    unsigned n_disks;   /* of the machine; per disk what clones are to have below their overlay: */
    char disk[ENGINE_DISKS_MAX][64]; /* name in the snapshot directory; "" = as the machine's own */
};

int engine_open(const struct engine_config *c, struct engine **ret, struct err *e) MUST_CHECK;
void engine_close(struct engine *en);                /* every machine must have been freed */
const char *engine_name(const struct engine *en);    /* "qemu" */
const char *engine_version(const struct engine *en); /* "7.2.22" */

/* Which engine a kind means on this host: "kvm", "qemu", or NULL for a kind nobody knows; why is a
 * sentence for people. "auto" looks for real hardware virtualization (probe; NULL = looks now) and
 * for the monitor's program. */
struct kvm_probe;
const char *engine_pick(const char *kind, const char *helper_dir, const struct kvm_probe *probe,
                        char *why, size_t cap);

/* Powers a machine on. The network passes packets from the start. The machine directory may come to
 * hold its RAM ("memory"). */
int engine_boot(struct engine *en, const struct engine_spec *s, struct engine_machine **ret,
                struct err *e) MUST_CHECK;
/* Freezes the machine and moves what is needed into snapshot_dir (made here, must not exist;
 * appears atomically, manifest last). The disks are not moved: the caller owns them and must keep
 * them unchanged from then on. The machine has ended afterwards. */
int engine_snapshot(struct engine_machine *m, const char *snapshot_dir, struct err *e) MUST_CHECK;
/* A running private clone. s->disks must be the same in number, order and virtual size. Its network
 * is held until engine_machine_network() opens it. */
int engine_restore(struct engine *en, const struct engine_spec *s, const char *snapshot_dir,
                   struct engine_machine **ret, struct err *e) MUST_CHECK;
/* Writes the state into state_dir (as for engine_snapshot) and ends the machine. A failure before
 * the end leaves it running. state_dir needs nothing outside itself: the snapshot the machine came
 * from may be deleted (its memory gets a second name there). After engine_resume() it may be
 * deleted too. */
int engine_suspend(struct engine_machine *m, const char *state_dir, struct err *e) MUST_CHECK;
int engine_resume(struct engine *en, const struct engine_spec *s, const char *state_dir,
                  struct engine_machine **ret, struct err *e) MUST_CHECK;

/* Writes a snapshot of a machine that goes on running, for clones by engine_restore(). What the
 * writable disks held is frozen as snapshot_dir/<ret->disk[i]>, a copy-on-write disk to make the
 * clones' overlays over; the machine goes on over a new layer, at the path it had. Needs
 * copy-on-write disks on the file system of snapshot_dir. The machine runs on after a failure, too.
 * -ENOTSUP: not with this engine. */
int engine_fork(struct engine_machine *m, const char *snapshot_dir, struct engine_fork_info *ret,
                struct err *e) MUST_CHECK;

/* A copy of a snapshot whose memory is compressed; it is fetched piece by piece while a clone runs
 * already. For snapshots that leave this machine, or are rarely used. -ENOTSUP: not with this
 * engine. */
int engine_snapshot_pack(struct engine *en, const char *snapshot_dir, const char *packed_dir,
                         struct err *e) MUST_CHECK;

/* A new connection to the guest channel: a connected AF_UNIX stream, owned by the caller. One at a
 * time: close the previous one first, and always before snapshot and suspend. */
int engine_channel(struct engine_machine *m, struct err *e) MUST_CHECK;

int engine_machine_pause(struct engine_machine *m, struct err *e) MUST_CHECK;
int engine_machine_unpause(struct engine_machine *m, struct err *e) MUST_CHECK;
/* Lets packets pass, or holds them. After a restore and a resume: to be opened once the agent has
 * been told, so that nothing leaves before the clone is itself. The software engine never holds
 * any. */
int engine_machine_network(struct engine_machine *m, bool open, struct err *e) MUST_CHECK;
int engine_machine_stats(struct engine_machine *m, struct engine_stats *ret,
                         struct err *e) MUST_CHECK;
bool engine_machine_alive(const struct engine_machine *m);
/* Ends the machine at once; returns when its processes are gone. Any thread, any time. */
void engine_machine_kill(struct engine_machine *m);
/* Kills if needed and frees; on_exit has returned or will never come. NULL is fine. */
void engine_machine_free(struct engine_machine *m);

/* Disks. Formats are always named, never probed. */
int engine_disk_create(struct engine *en, const char *path, uint64_t bytes,
                       struct err *e) MUST_CHECK; /* raw, sparse */
/* New overlay at path over base (absolute path, recorded in the overlay), copying nothing. bytes is
 * the virtual size; 0 = that of base. base may be shorter than bytes: it reads as zeroes beyond. */
int engine_disk_overlay(struct engine *en, const char *path, const char *base,
                        enum engine_disk_format base_format, uint64_t bytes,
                        struct err *e) MUST_CHECK;
/* Overlay chain -> one sparse raw file. */
int engine_disk_flatten(struct engine *en, const char *overlay, const char *raw,
                        struct err *e) MUST_CHECK;

#endif
