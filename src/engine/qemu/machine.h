/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One QEMU process and what belongs to it. Shared between the caller's thread and the reaper:
 * fields below "calls" are guarded by life.lock, the others are set before the first watch is added
 * or belong to the reaper.
 */
#ifndef ENGINE_QEMU_MACHINE_H
#define ENGINE_QEMU_MACHINE_H

#include "engine/backend.h"
#include "engine/life.h"
#include "engine/qemu/args.h"
#include "engine/qemu/qmp.h"

enum { MACHINE_CALLS_MAX = 8 };

struct machine_call { /* a QMP command under way */
    int64_t id;       /* 0 = free slot */
    bool answered;
    int code; /* 0 or -EIO */
    char text[256];
    json_t *data; /* owned */
};

struct machine {
    struct engine_machine base;
    struct life life;
    int base_fd;                          /* the memory file this is a private copy of; -1 = none */
    char base_digest[SHA256_HEX_LEN + 1]; /* sparse digest of it */
    int pages_fd;                         /* pages to put into memory before it runs; -1 = none */
    char *memory_file;                    /* owned; NULL = anonymous */
    bool end_when_full;
    struct overlay_chain disks[ENGINE_DISKS_MAX];
    bool disk_read_only[ENGINE_DISKS_MAX];
    struct qemu_args args; /* points into this structure */
    struct watch on_qmp, on_retry;
    struct qmp_reader qmp;

    struct machine_call calls[MACHINE_CALLS_MAX];
    int64_t next_id;
    bool freezing; /* it is stopped on purpose: a full disk must not let it go on */
    bool greeted;
    bool migration_over, migration_failed;
    char shutdown[32]; /* reason QEMU gave */
};

/* machine.c */
int machine_new(struct engine *en, struct reaper *r, const struct engine_spec *s,
                struct machine **ret, struct err *e) MUST_CHECK;
void machine_free(struct machine *m); /* kills if needed; NULL is fine */
int machine_stats(struct machine *m, struct engine_stats *ret, struct err *e) MUST_CHECK;

/* spawn.c: starts the processes of m->args; state_fd >= 0 is inherited as QEMU_FD_STATE */
int machine_spawn(struct machine *m, const struct net_policy *policy, int state_fd,
                  struct err *e) MUST_CHECK;

/* watch.c: what the reaper does with a machine */
extern const struct life_ops machine_life_ops;
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

/* freeze.c */
int machine_freeze(struct machine *m, const char *dir, enum manifest_kind kind,
                   struct err *e) MUST_CHECK;
void machine_describe(const struct machine *m, struct manifest *ret);

#endif
