/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QEMU process and what belongs to it. Shared between the caller's thread and the reaper:
 * fields below "lock" are guarded by it, the others are set before the first watch is added or
 * belong to the reaper.
 */
#ifndef ENGINE_QEMU_MACHINE_H
#define ENGINE_QEMU_MACHINE_H

#include <pthread.h>

#include "base/proc.h"
#include "engine/backend.h"
#include "engine/qemu/args.h"
#include "engine/qemu/qmp.h"
#include "engine/qemu/reaper.h"

enum { MACHINE_CALLS_MAX = 8, MACHINE_TAIL = 4096 };

enum machine_state {
    MACHINE_NEW,   /* no process yet */
    MACHINE_LIVE,  /* processes run and are watched */
    MACHINE_ENDED, /* all reaped, descriptors closed */
    MACHINE_DONE,  /* on_exit has returned */
};

enum machine_migration { MIGRATION_NONE, MIGRATION_COMPLETED, MIGRATION_FAILED };

struct machine_call { /* a QMP command under way */
    int64_t id;       /* 0 = free slot */
    bool answered;
    int code; /* 0 or -EIO */
    char text[256];
    json_t *data; /* owned */
};

struct machine_tail { /* the last bytes of a stream */
    char text[MACHINE_TAIL];
    size_t n;
};

struct machine {
    struct engine_machine base;
    struct reaper *reaper; /* borrowed: the engine's */
    char id[65];
    char *dir;                            /* owned */
    int dir_fd;                           /* O_PATH */
    int base_fd;                          /* the memory file this is a private copy of; -1 = none */
    char base_digest[SHA256_HEX_LEN + 1]; /* sparse digest of it */
    int pages_fd;                         /* pages to put into memory before it runs; -1 = none */
    char *memory_file;                    /* owned; NULL = anonymous */
    struct engine_spec spec; /* pointers in it are not kept, except on_exit and its arg */
    struct overlay_chain disks[ENGINE_DISKS_MAX];
    bool disk_read_only[ENGINE_DISKS_MAX];
    struct qemu_args args; /* points into this structure */
    struct watch on_vmm, on_net, on_qmp, on_console, on_stderr, on_retry;
    int console_file;
    size_t console_bytes;
    struct machine_tail console_tail, stderr_tail;
    struct qmp_reader qmp;
    int stats_fd; /* tinderbox-net's counters */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    enum machine_state state;
    bool returned; /* engine_boot() and friends have handed it out: on_exit is owed */
    bool expected; /* its end is */
    bool freezing; /* it is stopped on purpose: a full disk must not let it go on */
    bool greeted;
    bool vmm_gone, net_gone;
    struct proc vmm, net; /* vmm: the sandbox around QEMU, or QEMU itself */
    int vm_pidfd;         /* QEMU itself; -1 = unknown */
    pid_t vm_pid;
    struct machine_call calls[MACHINE_CALLS_MAX];
    int64_t next_id;
    enum machine_migration migration;
    char shutdown[32]; /* reason QEMU gave */
    char note[160];    /* why we ended it, "" = we did not */
    struct proc_exit exit;
};

#define MACHINE_NO_SPACE "no space left on the disk of the host" /* a note that means ENOSPC */

/* machine.c: life */
int machine_new(struct engine *en, struct reaper *r, const struct engine_spec *s,
                struct machine **ret, struct err *e) MUST_CHECK;
/* Hands it out: from now on on_exit is called. -EPIPE when it has ended already. */
int machine_hand_out(struct machine *m, struct err *e) MUST_CHECK;
void machine_kill(struct machine *m);
/* Waits for the end of all its processes; -ETIMEDOUT. */
int machine_wait_end(struct machine *m, int timeout_ms) MUST_CHECK;
void machine_free(struct machine *m);
bool machine_alive(const struct machine *m);
/* -EPIPE with what is known about its end. */
int machine_gone(struct machine *m, struct err *e);

/* spawn.c: starts the processes of m->args; state_fd >= 0 is inherited as QEMU_FD_STATE */
int machine_spawn(struct machine *m, const struct net_policy *policy, int state_fd,
                  struct err *e) MUST_CHECK;

/* watch.c: what the reaper does with a machine */
void machine_watch_init(struct machine *m);

/* control.c: QMP from the caller's thread */
int machine_greeting(struct machine *m, int timeout_ms, struct err *e) MUST_CHECK;
/* Starts a command; the slot is given back by machine_answer(). args is consumed. pass_fd -1 =
 * none. */
int machine_command(struct machine *m, const char *name, json_t *args, int pass_fd,
                    struct err *e) MUST_CHECK;
int machine_answer(struct machine *m, int slot, int timeout_ms, json_t **ret,
                   struct err *e) MUST_CHECK;
int machine_call(struct machine *m, const char *name, json_t *args, struct err *e) MUST_CHECK;
int machine_wait_migration(struct machine *m, int timeout_ms, struct err *e) MUST_CHECK;

/* freeze.c, stats.c */
int machine_freeze(struct machine *m, const char *dir, enum manifest_kind kind,
                   struct err *e) MUST_CHECK;
void machine_describe(const struct machine *m, struct manifest *ret);
int machine_stats(struct machine *m, struct engine_stats *ret, struct err *e) MUST_CHECK;

#endif
