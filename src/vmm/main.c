/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tinderbox-vmm: one virtual machine on KVM. Started by the daemon with its control channel as
 * descriptor 3 and /dev/kvm as descriptor 4; takes everything else as descriptors through the
 * channel and opens nothing by name.
 *
 * Stages: what needs rights (the page map, userfaultfd), the jail, the machine's objects and
 * threads at CREATE, then system call filters on every thread. No byte of a guest is looked at
 * before the last.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/control.h"
#include "vmm/jail/jail.h"
#include "vmm/snapshot/chunks.h"
#include "vmm/snapshot/pager.h"

enum { FD_CONTROL = 3, FD_KVM = 4 };

#define PACK_LEVEL 3 /* of zstd: more costs much and gains little on memory */

static void on_kick(int signo)
{
    (void)signo; /* its arrival is all that counts */
}

static int prepare_signals(void)
{
    struct sigaction kick = {.sa_handler = on_kick}, ignore = {.sa_handler = SIG_IGN};
    return sigaction(KVM_KICK_SIGNAL, &kick, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0
               ? -errno
               : 0;
}

static bool is_control_channel(int fd)
{
    int type = 0;
    socklen_t n = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_SEQPACKET;
}

static int fail(const char *what)
{
    fprintf(stderr, "tinderbox-vmm: %s\n", what);
    return 1;
}

/* Descriptor 3 is a memory file, 4 the empty file for its chunks. Status 3: no space. */
static int pack(void)
{
    struct err e = {0};
    int r = jail_enter(&e);
    if (r == 0)
        r = jail_filter(JAIL_CONTROL, &e);
    if (r == 0)
        r = chunks_pack(3, 4, PACK_LEVEL, &e);
    if (r < 0)
        fail(e.text);
    return r == -ENOSPC ? 3 : r < 0;
}

int main(int argc, char **argv)
{
    static struct machine m = {.kvm_fd = FD_KVM};
    struct err e = {0};
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return printf("tinderbox-vmm %s, state %s\n", TINDERBOX_VERSION, MONITOR_VERSION) < 0;
    if (argc > 1 && strcmp(argv[1], "pack") == 0)
        _exit(pack());
    if (!is_control_channel(FD_CONTROL))
        return fail("descriptor 3 is no control channel; this program is started by tinderboxd");
    m.pagemap = jail_open_pagemap();
    if (m.pagemap < 0)
        return fail("/proc/self/pagemap cannot be opened");
    m.uffd = pager_open_uffd();
    if (prepare_signals() < 0)
        return fail("signals");
    if (jail_enter(&e) < 0)
        return fail(e.text);
    _exit(control_run(&m, FD_CONTROL)); /* other threads still run: no handlers, no destructors */
}
