/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tinderbox-vmm process that runs a machine. Shared between the caller's thread and the reaper:
 * fields below "calls" are guarded by life.lock, the others are set before the first watch is added
 * or belong to the reaper.
 */
#ifndef ENGINE_KVM_MACHINE_H
#define ENGINE_KVM_MACHINE_H

#include "engine/backend.h"
#include "engine/kvm/pool.h"
#include "engine/life.h"
#include "proto/monitor.h"

enum { VMM_CALLS_MAX = 32 }; /* requests under way */

/* Of what a monitor saves (docs/design/monitor-snapshot.md): the state; beside RAM the pages file
 * has a header, and a run of 8 bytes for every second page at most. */
#define VMM_STATE_MAX (4u << 20)
#define VMM_PAGES_INDEX_MAX(ram) (40 + (ram) / 4096 / 2 * 8)

struct vmm_engine { /* struct engine.impl */
    struct reaper *reaper;
    struct vmm_program program;
    char *path; /* owned: of the program */
    struct vmm_pool *pool;
};

struct vmm;
struct vmm_call {
    uint32_t sequence; /* 0 = free */
    uint32_t type;
    bool answered;
    bool abandoned; /* nobody waits any more: freed by its answer */
    /* Reaper thread, lock held, instead of a waiter. */
    void (*done)(struct vmm *m, const struct vmm_call *c);
    struct monitor_answer answer;
};

struct vmm {
    struct engine_machine base;
    struct life life;
    struct vmm_shape shape;
    struct overlay_chain disks[ENGINE_DISKS_MAX];
    bool disk_read_only[ENGINE_DISKS_MAX];
    int base_fd;                          /* the memory file this is a private copy of; -1 = none */
    char base_digest[SHA256_HEX_LEN + 1]; /* sparse digest of it */
    bool end_when_full;
    struct watch on_control, on_timer;
    int err_theirs;    /* for the network helper; -1 once it has it */
    unsigned n_logged; /* of what the monitor said about its guest: capped */

    struct vmm_call calls[VMM_CALLS_MAX]; /* by sequence, a ring */
    uint32_t next_request, next_answer;
    uint32_t ended_by; /* enum monitor_event; 0 = none */
    char ended_text[MONITOR_TEXT_MAX];
    int64_t window_ms; /* since when n_events counts */
    unsigned n_events;
    int working_set_dir;  /* where the working set goes once it is known; -1 = nowhere */
    int working_set_file; /* being written; -1 = none */
};

/* machine.c: life. vmm_new() starts nothing. */
int vmm_new(struct engine *en, const struct engine_spec *s, struct vmm **ret,
            struct err *e) MUST_CHECK;
/* Takes a monitor from the pool (0), or starts one and sends its CREATE: the slot to wait for plus
 * one. */
int vmm_start_process(struct vmm *m, struct err *e) MUST_CHECK;
void vmm_free(struct vmm *m); /* kills if needed; NULL is fine */
int vmm_stats(struct vmm *m, struct engine_stats *ret, struct err *e) MUST_CHECK;
void vmm_describe(const struct vmm *m, struct manifest *ret);

/* watch.c: what the reaper does with a machine */
extern const struct life_ops vmm_life_ops;
void vmm_watch_init(struct vmm *m);
void vmm_set_timer(struct vmm *m, int ms);

/* control.c: requests from the caller's thread. Several may be under way; answers come in order. */
struct monitor_message vmm_request(enum monitor_type type, uint32_t n_fds);
/* Sends; ≥ 0 is the slot for vmm_answer(). The sequence is filled in. fds are borrowed. */
int vmm_ask(struct vmm *m, struct monitor_message *msg, const int *fds, struct err *e) MUST_CHECK;
/* Waits for the answer of a slot; ret may be NULL. The monitor's error becomes ours. */
int vmm_answer(struct vmm *m, int slot, int timeout_ms, struct monitor_answer *ret,
               struct err *e) MUST_CHECK;
int vmm_call(struct vmm *m, struct monitor_message *msg, const int *fds, int timeout_ms,
             struct monitor_answer *ret, struct err *e) MUST_CHECK;
int vmm_simple(struct vmm *m, enum monitor_type type, struct err *e) MUST_CHECK; /* no members */
/* As vmm_ask(), lock held, answered to done. */
int vmm_ask_locked(struct vmm *m, struct monitor_message *msg, const int *fds,
                   void (*done)(struct vmm *m, const struct vmm_call *c)) MUST_CHECK;
/* A message of the monitor. Lock held, reaper thread. -EPROTO: it broke the order. */
int vmm_take_answer(struct vmm *m, const struct monitor_message *msg) MUST_CHECK;

/* workingset.c: which pages a clone touches first, kept beside the snapshot for those after it */
#define VMM_WORKING_SET "working-set"
/* The clone of the snapshot in dir will record it, unless that has been done. */
void vmm_plan_working_set(struct vmm *m, const char *dir);
void vmm_record_working_set(struct vmm *m); /* reaper thread */

/* start.c: boot and thaw */
int vmm_boot(struct engine *en, const struct engine_spec *s, struct engine_machine **ret,
             struct err *e) MUST_CHECK;
int vmm_thaw(struct engine *en, const struct engine_spec *s, const char *dir,
             enum manifest_kind kind, struct engine_machine **ret, struct err *e) MUST_CHECK;

/* pack.c: snapshots with compressed memory */
#define VMM_CHUNKS "memory-chunks"
int vmm_pack(struct engine *en, const char *from, const char *to, struct err *e) MUST_CHECK;

/* freeze.c */
int vmm_freeze(struct vmm *m, const char *dir, enum manifest_kind kind, struct err *e) MUST_CHECK;

#endif
