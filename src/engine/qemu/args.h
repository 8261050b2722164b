/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line. The same table serves boot and restore, so that the virtual hardware cannot
 * drift apart between them; what the guest can see of it is also what machine_digest covers. Pure.
 */
#ifndef ENGINE_QEMU_ARGS_H
#define ENGINE_QEMU_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "engine/argv.h"
#include "engine/overlay.h"

#define QEMU_CPU "max,-la57"

/* Descriptors QEMU inherits, by number. */
enum qemu_fd {
    QEMU_FD_QMP = 3,
    QEMU_FD_AGENT = 4,   /* listening socket */
    QEMU_FD_CONSOLE = 5, /* connected socket */
    QEMU_FD_NET = 6,     /* connected socket to tinderbox-net */
    QEMU_FD_STATE = 7,   /* device state to load */
    QEMU_FD_INFO = 8,    /* the sandbox's, gone by the time QEMU runs; so is the next */
    QEMU_FD_PRELOAD = 9, /* preload.c as a shared object */
};

enum qemu_memory {
    QEMU_MEMORY_SHARED,  /* the file is the guest's memory: boot */
    QEMU_MEMORY_PRIVATE, /* copy-on-write of the file: restore */
    QEMU_MEMORY_ANON,    /* no file */
};

struct qemu_args {
    const char *program;
    unsigned memory_mib, vcpus;
    enum qemu_memory memory;
    const char *memory_file;        /* host path, unless QEMU_MEMORY_ANON */
    const char *kernel, *initramfs; /* host paths; not used when incoming */
    uint64_t tsc_khz;
    bool incoming; /* wait for a state instead of booting */
    bool network;
    bool sandboxed;
    const struct overlay_chain *disks;
    const bool *disk_read_only;
    unsigned n_disks;
};

/* Appends the sandbox (when asked for), the program and its arguments. */
void qemu_args_build(struct argv *a, const struct qemu_args *q);
/* Of what the guest sees: equal digests mean that a state of one fits the other. */
int qemu_args_machine_digest(const struct qemu_args *q, char out[SHA256_HEX_LEN + 1],
                             struct err *e) MUST_CHECK;

#endif
