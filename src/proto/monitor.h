/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control channel of tinderbox-vmm: typed messages of one fixed size over SOCK_SEQPACKET,
 * descriptors as SCM_RIGHTS (docs/design/monitor.md). The daemon asks, the monitor answers each
 * request once, in order; events come between answers. The daemon treats the monitor as owned by
 * its guest: an answer of the wrong size, number or kind ends the monitor.
 *
 * Order: CREATE, then MEMORY, DISK*, NET, CONSOLE in any order, then BOOT or RESTORE, after which
 * the machine is PAUSED; RUN starts it. LINK, PAUSE, RUN, SAVE, FORK, STATS, GATE, BALLOON,
 * WORKING_SET at any time afterwards. QUIT or closing the socket ends the process.
 *
 * Threads: one sender and one receiver at a time per socket.
 */
#ifndef PROTO_MONITOR_H
#define PROTO_MONITOR_H

#include <stdint.h>

#include "base/err.h"

#define MONITOR_PROTOCOL 1u
#define MONITOR_VERSION "1"           /* of device state: snapshots of another one are refused */
#define MONITOR_CPU "tinderbox-x86-1" /* name of the CPU template a guest sees */
#define MONITOR_FDS_MAX 66u
#define MONITOR_LAYERS_MAX 64u /* of one disk */
#define MONITOR_DISKS_MAX 10u
#define MONITOR_CMDLINE_MAX 2048u
#define MONITOR_TEXT_MAX 256u

/* Each with its member of struct monitor_message and its descriptors. */
enum monitor_type {
    MONITOR_CREATE = 1,  /* create: all a pooled monitor needs before it is wanted */
    MONITOR_MEMORY,      /* memory; [file] unless it is zeroes */
    MONITOR_DISK,        /* disk; [layer 0 (top), layer 1, ...] */
    MONITOR_NET,         /* net; [stream or tap] */
    MONITOR_CONSOLE,     /* [stream for the serial port's bytes] */
    MONITOR_BOOT,        /* boot; [kernel, initrd] or [flat image] */
    MONITOR_RESTORE,     /* restore; [state] + [pages] + [working set], as the flags say */
    MONITOR_RUN,         /* - */
    MONITOR_PAUSE,       /* - */
    MONITOR_LINK,        /* [stream]: the guest channel; without a descriptor it is closed */
    MONITOR_SAVE,        /* save; [state, pages]: paused afterwards, also on failure */
    MONITOR_FORK,        /* save; [state, pages, a new top layer for each disk in save.disks]: goes
                            on running; answered when both are complete */
    MONITOR_STATS,       /* - */
    MONITOR_GATE,        /* gate: lets packets pass (or not) */
    MONITOR_BALLOON,     /* balloon */
    MONITOR_WORKING_SET, /* [file]: writes the pages touched since the restore */
    MONITOR_QUIT,        /* - */
    /* from the monitor */
    MONITOR_ANSWER = 100,
    MONITOR_EVENT = 101,
};

enum monitor_event {
    MONITOR_EVENT_POWEROFF = 1,
    MONITOR_EVENT_RESET, /* the guest asked for it */
    MONITOR_EVENT_TRIPLE_FAULT,
    MONITOR_EVENT_FAILED,    /* KVM could not go on: text */
    MONITOR_EVENT_HANG,      /* every vCPU waits with interrupts off */
    MONITOR_EVENT_DISK_FULL, /* a write waits for space on the host */
    MONITOR_EVENT_DISK_OK,
    MONITOR_EVENT_DEVICE_BROKEN, /* a driver broke the rules of its device: text */
};

/* monitor_create.flags */
enum {
    MONITOR_HUGE_PAGES = 1,
    MONITOR_BALLOON_DEVICE = 2,
    MONITOR_NET_DEVICE = 4,
    MONITOR_VMCLOCK = 8,
    MONITOR_CHUNKED = 16, /* memory will come in compressed chunks */
};
/* What the guest can see of them. */
#define MONITOR_GUEST_FLAGS (MONITOR_BALLOON_DEVICE | MONITOR_NET_DEVICE | MONITOR_VMCLOCK)
struct monitor_create {
    uint64_t memory_bytes;
    uint32_t vcpus;
    uint32_t flags;
    uint32_t n_disks; /* device slots are fixed here: disks, console, rng, net, balloon */
    uint32_t reserved;
};

enum { MONITOR_MEMORY_ZERO, MONITOR_MEMORY_FILE, MONITOR_MEMORY_CHUNKED };
struct monitor_memory {
    uint32_t kind; /* FILE: copy-on-write; CHUNKED: compressed, fetched on demand */
    uint32_t reserved;
};

struct monitor_rate {
    uint64_t per_second, burst; /* 0 = unlimited */
};

struct monitor_disk {
    uint32_t index; /* 0 = /dev/vda */
    uint32_t n_layers;
    uint64_t cow; /* bit i: layer i is a copy-on-write layer */
    uint32_t read_only, durable;
    char serial[24];
    struct monitor_rate bytes, ops;
};

struct monitor_net {
    uint8_t mac[6];
    uint8_t tap; /* else a stream with QEMU's framing */
    uint8_t gate_closed;
    struct monitor_rate rx_bytes, tx_bytes, rx_packets, tx_packets;
};

struct monitor_boot {
    uint32_t flat; /* test image in real mode, entered at flat_address */
    uint32_t has_initrd;
    uint64_t flat_address;
    char cmdline[MONITOR_CMDLINE_MAX];
};

enum { MONITOR_HAS_PAGES = 1, MONITOR_HAS_WORKING_SET = 2, MONITOR_IS_CLONE = 4 };
struct monitor_restore {
    uint32_t flags;
    uint32_t reserved;
    uint8_t generation[16]; /* IS_CLONE: the new VM generation id */
};

struct monitor_save {
    uint32_t all; /* every page that is not zero, not just those that differ from the memory file */
    /* FORK, bit i: during the pause disk i gets an empty layer on top, which takes all later
     * writes; what was its top is not written again. answer.saved.disks_moved says for which that
     * was done. */
    uint32_t disks;
};

struct monitor_gate {
    uint32_t open, reserved;
};

struct monitor_balloon {
    uint64_t target_bytes;
};

struct monitor_saved { /* answer to SAVE and FORK */
    uint64_t state_bytes, pages_bytes, pages;
    uint64_t paused_us;   /* FORK: how long no vCPU ran */
    uint32_t disks_moved; /* FORK: those whose new layer is in use, even if it failed */
    uint32_t reserved;
};

struct monitor_stats { /* answer to STATS */
    uint64_t cpu_us;   /* of the process */
    uint64_t exits;    /* vCPU exits to user space */
    uint64_t disk_written_bytes;
    uint64_t net_rx_bytes, net_tx_bytes;
    uint64_t balloon_bytes, reported_bytes;
    uint64_t faults_served; /* pages fetched on demand */
    uint32_t running, disk_full;
};

struct monitor_answer {
    uint32_t request; /* enum monitor_type it answers */
    int32_t code;     /* 0 or -errno */
    char text[MONITOR_TEXT_MAX];
    union {
        struct monitor_saved saved;
        struct monitor_stats stats;
    };
};

struct monitor_notice {
    uint32_t event;
    uint32_t reserved;
    char text[MONITOR_TEXT_MAX];
};

struct monitor_message {
    uint32_t protocol; /* MONITOR_PROTOCOL */
    uint32_t type;
    uint32_t sequence; /* an answer carries its request's */
    uint32_t n_fds;
    union {
        struct monitor_create create;
        struct monitor_memory memory;
        struct monitor_disk disk;
        struct monitor_net net;
        struct monitor_boot boot;
        struct monitor_restore restore;
        struct monitor_save save;
        struct monitor_gate gate;
        struct monitor_balloon balloon;
        struct monitor_answer answer;
        struct monitor_notice notice;
    };
};

/* Sends m with m->n_fds descriptors (borrowed). 0, -EPIPE when the peer is gone, -errno. */
int monitor_send(int sock, const struct monitor_message *m, const int *fds) MUST_CHECK;
/* Receives one message; *m and fds (owned by the caller, close-on-exec, m->n_fds of them) are
 * filled. 0, -EPIPE at end of file, -EAGAIN on a non-blocking socket, -EPROTO: wrong size, protocol
 * number or descriptor count (every received descriptor has been closed), or
 * what monitor_check() refuses. */
int monitor_receive(int sock, struct monitor_message *m, int fds[MONITOR_FDS_MAX]) MUST_CHECK;
/* What a receiver checks before it looks inside: protocol and type known, descriptor count right
 * for it and for what the message says of them, texts terminated.
 * Pure; the fuzz target. 0 or -EPROTO. */
int monitor_check(const struct monitor_message *m) MUST_CHECK;
const char *monitor_type_name(uint32_t type); /* "CREATE"; "?" */
const char *monitor_event_name(uint32_t event);

#endif
